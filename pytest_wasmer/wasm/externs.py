"""What all imports and exports have in common: an owner, a handle, a type, a name."""

from __future__ import annotations

import weakref
from threading import current_thread, get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytest_wasmer.runtime.errors import InstanceLost, WasmError, WrongThread
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType, TableType, kind_of, with_article

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

TypeT = TypeVar("TypeT", FunctionType, MemoryType, GlobalType, TableType)


class Owner:
    """Who a native object belongs to: its connection, its thread, and what must live as long.

    Externs hold their owner, never the other way round, so that dropping the last of them releases the
    instance at once, without the garbage collector.
    """

    def __init__(self, connection: Connection, name: str, identity: str = "", names: tuple[str, ...] = ()) -> None:
        self.connection = connection
        self.name = name
        #: Of the module, or what the host made.
        self.identity = identity
        #: SHA-256 of the module's binary, in hex.
        self.digest = ""
        #: Of the exports, in the module's order.
        self.names = names
        #: 0 until there is one.
        self.handle = 0
        # For a recorder: in which test it was met, as which; its number in this session; what was done with it in tests
        # before, as a digest and as names of journals.
        self.seen = 0, 0
        self.number = 0
        self.history = ""
        self.past: list[str] = []
        self.thread = current_thread()
        self.thread_id = get_ident()
        #: Why not to use it any more.
        self.unsafe = ""
        #: Imports, and instances whose functions may sit in a table of this one.
        self.keeps: list[object] = []
        #: Whose tables this one imports.
        self.lenders: list[Owner] = []
        #: Who imports from this one.
        self.importers: weakref.WeakSet[Owner] = weakref.WeakSet()

    def spoil(self, importer: str) -> None:
        """An importer that may have left functions here failed to start, and the engine has freed it."""
        if self.unsafe:
            return
        self.thread_id = -1  # nobody's: what looks only at the thread then looks closer
        self.unsafe = (
            f"{importer} failed to start and may have left functions in it, which the engine has freed\nMake both anew."
        )
        for owner in [*self.lenders, *self.importers]:
            owner.spoil(importer)

    def use(self, extern: Extern[Any]) -> Connection:
        """The connection. Raises `WrongThread`, `InstanceLost`, and `WasmError` where use would not be safe."""
        __tracebackhide__ = True
        if self.unsafe:
            raise WasmError(f"{extern._said} cannot be used any more: {self.unsafe}")
        if get_ident() != self.thread_id:
            raise WrongThread(
                f"{extern._said} belongs to thread {self.thread.name!r}, used in {current_thread().name!r}\n"
                "Make one instance per thread."
            )
        lost = self.connection.lost
        if lost is not None:
            raise InstanceLost(lost.backend, lost.cause, extern._said)
        return self.connection


class Extern(Generic[TypeT]):
    """An export, or an object made by the host; `name` is the export's name."""

    _by_host = False

    def __init__(self, owner: Owner, handle: int, type_: TypeT, name: str) -> None:
        self._owner = owner
        self._handle = handle
        self.type: TypeT = type_
        self.name = name

    @property
    def _about(self) -> str:
        return self.name if self._by_host else f"{self.name!r} of {self._owner.name}"

    @property
    def _said(self) -> str:
        return self.name if self._by_host else f"{type(self).__name__.lower()} {self._about}"

    def _link(self, connection: Connection) -> tuple[Owner, int]:
        """Owner and handle, for an instance on that connection that imports this."""
        return self._owner, self._handle

    def _use(self) -> Connection:
        __tracebackhide__ = True
        return self._owner.use(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.type}>"

    def __call__(self, *arguments: object, **keywords: object) -> Any:
        __tracebackhide__ = True
        raise TypeError(f"{self._about} is {with_article(self.type)}, not a function")


def host_owner(connection: Connection, handle: int, type_: MemoryType | GlobalType, *value: int) -> Owner:
    """The owner of what the host made: releases it when the last user is gone. `value`: of a global, in bits."""
    owner = Owner(connection, "the host", str(type_))
    owner.handle = handle
    if connection.recorder is not None:
        connection.recorder.host_made(owner, kind_of(type_), *type_, *value)
    release_with(owner, connection, handle)
    return owner


def release_with(owner: object, connection: Connection, handle: int) -> None:
    """Let the engine drop `handle` when `owner` is collected."""
    weakref.finalize(owner, connection.releases.append, handle).atexit = False
