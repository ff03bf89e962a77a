"""How the native code of a module comes to be: compiled, or loaded from the store; what tests run on."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_wasmer.engines.api import Refused
from pytest_wasmer.runtime.errors import EngineLost
from pytest_wasmer.variants import backend_in
from pytest_wasmer.wasm.errors import CompileError
from pytest_wasmer.wasm.externs import release_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from pytest_wasmer.artifacts.store import Place, Shelf
    from pytest_wasmer.engines.api import Description
    from pytest_wasmer.runtime.connection import Connection

    Waits: TypeAlias = Callable[[str], AbstractContextManager[None]]

REASON_LIMIT = 500


class Loaded:
    """A module in one engine process: released there when it is dropped here."""

    def __init__(self, connection: Connection, handle: int, description: Description) -> None:
        self.connection = connection
        self.handle = handle
        self.description = description
        release_with(self, connection, handle)


class Code:
    """A module's native code on one backend. It loads again by itself where its engine process was lost.

    `connect` gives the backend's live connection; `load` brings the code there, `name` being for messages.
    """

    def __init__(self, connect: Callable[[], Connection], load: Callable[[Connection, str], Loaded], name: str) -> None:
        __tracebackhide__ = True
        self._connect = connect
        self._load = load
        self._loaded = load(connect(), name)

    def loaded(self, name: str) -> Loaded:
        """Where it is now."""
        __tracebackhide__ = True
        if self._loaded.connection.lost is not None:
            self._loaded = self._load(self._connect(), name)
        return self._loaded

    @property
    def description(self) -> Description:
        return self._loaded.description

    def refuse_other_test(self, about: str) -> None:
        """Raises `WrongBackend` where the running test has another one: what asks the engine nothing has to look."""
        __tracebackhide__ = True
        connection = self._loaded.connection
        if connection.test_runs_on:
            connection.refuse_other_test(about)

    @property
    def backend(self) -> str:
        return self._loaded.connection.backend


class Loading(NamedTuple):
    """What the summary counts. `what`: "compiled", "loaded" or "refused" (an entry that was not to be used).

    `seconds`: what it took; `saved`: what the compile had taken, less that.
    """

    what: str
    seconds: float
    saved: float = 0.0


class Strategy(Protocol):
    """Brings a binary to an engine. `name` is for messages."""

    def __call__(self, connection: Connection, wasm: bytes, digest: str, name: str) -> Loaded: ...


def _quietly(what: str) -> AbstractContextManager[None]:
    return nullcontext()


class Fresh:
    """Compile, and never deserialize. `waiting` is what to be in while that lasts."""

    def __init__(self, tell: Callable[[str, Loading], None], waiting: Waits = _quietly) -> None:
        self._tell = tell
        self._waiting = waiting

    def __call__(self, connection: Connection, wasm: bytes, digest: str, name: str) -> Loaded:
        __tracebackhide__ = True
        began = time.perf_counter()
        try:
            with self._waiting(f"{connection.backend} compiles {name}"):
                handle, description = connection.compile(wasm, f"compile of {name}")
        except Refused as refused:
            error = compile_error(connection.backend, name, refused)
        else:
            self._tell(connection.backend, Loading("compiled", time.perf_counter() - began))
            return Loaded(connection, handle, description)
        raise error


class Reloaded:
    """Code that went through serialize and deserialize: from the store, else compiled, stored and loaded from there.

    Without a store the round trip happens in memory. `warn` is told of which backend nothing can be stored, and why.
    """

    def __init__(
        self,
        shelf_of: Callable[[str], Shelf | None],
        tell: Callable[[str, Loading], None],
        warn: Callable[[str, str], None],
        waiting: Waits = _quietly,
    ) -> None:
        self._waiting = waiting
        self._shelf_of = shelf_of
        self._tell = tell
        self._warn = warn

    def __call__(self, connection: Connection, wasm: bytes, digest: str, name: str) -> Loaded:
        __tracebackhide__ = True
        shelf = self._shelf_of(connection.backend)
        if shelf is None:
            return self._compiled(connection, wasm, name, None, None)
        connection.wake()
        place = shelf.place(digest)
        loaded = self._stored(connection, name, shelf, place, last=False)
        if loaded is None:
            with self._locked(shelf, place, f"another process compiles {name} for {connection.backend}"):
                # Somebody else may have compiled it meanwhile.
                loaded = self._stored(connection, name, shelf, place, last=True)
                if loaded is None:
                    loaded = self._compiled(connection, wasm, name, shelf, place)
        return loaded

    @contextmanager
    def _locked(self, shelf: Shelf, place: Place, what: str) -> Iterator[None]:
        with ExitStack() as held:
            with self._waiting(what):
                held.enter_context(shelf.store.lock(place))
            yield

    def _stored(self, connection: Connection, name: str, shelf: Shelf, place: Place, *, last: bool) -> Loaded | None:
        """From the store. What is refused there is counted in the `last` attempt."""
        __tracebackhide__ = True
        if not shelf.is_wanted(place):
            return None
        about = f"load of the stored artifact of {name}"
        began = time.perf_counter()
        try:
            handle, compile_seconds, description = connection.load(place, about)
        except Refused as refused:
            if last and refused.stage == "broken":
                self._tell(connection.backend, Loading("refused", time.perf_counter() - began))
            return None
        except EngineLost as loss:
            if loss.request == about and not loss.interrupted:
                shelf.store.discard(place)  # whatever it was: not again
            raise
        seconds = time.perf_counter() - began
        self._tell(connection.backend, Loading("loaded", seconds, max(0.0, compile_seconds - seconds)))
        shelf.used.add(place.path)
        return Loaded(connection, handle, description)

    def _compiled(
        self, connection: Connection, wasm: bytes, name: str, shelf: Shelf | None, place: Place | None
    ) -> Loaded:
        __tracebackhide__ = True
        about = f"compile of {name}"
        began = time.perf_counter()
        try:
            with self._waiting(f"{connection.backend} compiles {name}"):
                if shelf is None or place is None:
                    handle, _, trouble, description = connection.reload(wasm, about)
                else:
                    handle, _, trouble, description = connection.store(place, wasm, about)
                    shelf.used.add(place.path)
        except Refused as refused:
            error = compile_error(connection.backend, name, refused)
        else:
            self._tell(connection.backend, Loading("compiled", time.perf_counter() - began))
            if trouble:
                where = "" if shelf is None else f" ({shelf.store.root})"
                self._warn(connection.backend, f"{trouble}{where}")
            return Loaded(connection, handle, description)
        raise error


def compile_error(backend: str, path: str, refused: Refused) -> CompileError:
    """Why a backend does not take a module, and the marker line that leaves this backend out."""
    reason = refused.text if len(refused.text) <= REASON_LIMIT else refused.text[:REASON_LIMIT] + " ..."
    verb = {
        "validate": "does not accept",
        "panic": "panicked while compiling",
        "reload": "cannot load its own artifact of",
    }.get(refused.stage, "cannot compile")
    lines = [f"{backend} {verb} {path}: {reason}"]
    if refused.stage == "validate":
        lines.append("If the other compilers refuse it too, the module is malformed: build it again.")
    excluded = f'@pytest.mark.wasm_backends(exclude="{backend_in(backend)}", reason="...")'
    lines.append(f"If it needs what {backend_in(backend)} lacks: {excluded}")
    return CompileError("\n".join(lines))
