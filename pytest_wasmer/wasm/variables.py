"""Globals and tables."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_wasmer.wasm.externs import Extern, Owner, host_owner
from pytest_wasmer.wasm.types import REFERENCE_TYPES, GlobalType, TableType
from pytest_wasmer.wasm.values import Converter

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection


# Value types of globals that the host can make.
MADE_BY_THE_HOST = ("i32", "i64", "f32", "f64")


class Global(Extern[GlobalType]):
    """A global: an export, or made by the host for modules that import one.

    `Global("i64", 7, mutable=True)` is made on the backend of the first instance that imports it.
    """

    def __init__(self, value_type: str, value: float, *, mutable: bool = False) -> None:
        __tracebackhide__ = True
        self.name = "global made by the host"
        self._by_host = True
        self.type = GlobalType(value_type, mutable)
        if value_type not in MADE_BY_THE_HOST:
            raise ValueError(f"the host makes globals of i32, i64, f32 and f64, not of {value_type!r}")
        self._converter = Converter([value_type], partial(_value_text, self.name, self.type))
        self._waiting: int | None = self._converter.to_bits((value,))[0]

    @classmethod
    def _of(cls, owner: Owner, handle: int, type_: GlobalType, name: str) -> Global:
        variable = cls.__new__(cls)
        Extern.__init__(variable, owner, handle, type_, name)
        variable._converter = Converter([type_.value_type], partial(_value_text, name, type_))
        variable._waiting = None
        return variable

    def _link(self, connection: Connection) -> tuple[Owner, int]:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            value_type, mutable = self.type
            self._handle = connection.make_global(value_type, mutable, waiting, self.name)
            self._owner = host_owner(connection, self._handle, self.type, waiting)
        return self._owner, self._handle

    @property
    def value(self) -> Any:
        """The value now. Settable where the global is mutable; raises TypeError and OverflowError as calls do."""
        __tracebackhide__ = True
        if self.type.value_type in REFERENCE_TYPES:
            raise TypeError(f"{self._about} is a {self.type}: the engine does not pass references to Python")
        bits = self._waiting
        if bits is None:
            connection = self._use()
            bits = connection.get_global(self._handle, f"value of {self._about}")
            if connection.recorder is not None:
                connection.recorder.note(("get", connection.recorder.index(self._owner), self.name))
                connection.recorder.note(("value", self.type.value_type, bits))
        return self._converter.from_bits((bits,))[0]

    @value.setter
    def value(self, value: Any) -> None:
        __tracebackhide__ = True
        if not self.type.mutable:
            raise AttributeError(f"{self._said} is immutable ({self.type.value_type}): it cannot be set")
        if self.type.value_type in REFERENCE_TYPES:
            raise TypeError(f"{self._about} is a {self.type}: the engine does not take references from Python")
        (bits,) = self._converter.to_bits((value,))
        if self._waiting is not None:
            self._waiting = bits
        else:
            connection = self._use()
            connection.set_global(self._handle, bits, f"setting {self._about}")
            if connection.recorder is not None:
                index = connection.recorder.index(self._owner)
                connection.recorder.note(("set", index, self.name, self.type.value_type, bits))


def _value_text(name: str, type_: GlobalType, _: int) -> str:
    return f"the value of {name} ({type_})"


class Table(Extern[TableType]):
    """An exported table. Its elements can be seen from Wasm only, and only instances make tables."""

    def __init__(self, *_: object, **__: object) -> None:
        __tracebackhide__ = True
        raise TypeError(
            "the wasmer wheels cannot make tables: take one from another instance's exports,\n"
            'or export it from a helper module: (module (table (export "table") 10 funcref))'
        )

    @classmethod
    def _of(cls, owner: Owner, handle: int, type_: TableType, name: str) -> Table:
        table = cls.__new__(cls)
        Extern.__init__(table, owner, handle, type_, name)
        return table

    @property
    def size(self) -> int:
        """In elements."""
        __tracebackhide__ = True
        connection = self._use()
        size = connection.table_size(self._handle, f"size of {self._about}")
        if connection.recorder is not None:
            connection.recorder.note(("size", connection.recorder.index(self._owner), self.name))
            connection.recorder.note(("number", size))
        return size

    def __len__(self) -> int:
        __tracebackhide__ = True
        return self.size
