"""What instances export and import: functions, memories, globals, tables."""

from __future__ import annotations

import struct
from threading import current_thread, get_ident
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from pytest_wasmer.engines.api import OutOfBounds, Refused, Trapped
from pytest_wasmer.runtime.errors import EngineFault, InstanceLost, WasmError, WrongThread
from pytest_wasmer.wasm.traps import Trap, trap_from
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType, GlobalType, MemoryType, TableType
from pytest_wasmer.wasm.values import Converter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_wasmer.runtime.connection import Connection

PAGE_SIZE = 65536
# Bytes that cross the pipe in one message.
TRANSFER = 1 << 26

TypeT = TypeVar("TypeT", FunctionType, MemoryType, GlobalType, TableType)


class Owner:
    """Who a native object belongs to: its connection, its thread, and what must live as long.

    Externs hold their owner, never the other way round, so that dropping the last of them releases the
    instance at once, without the garbage collector.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self.thread = current_thread()
        self.thread_id = get_ident()
        #: Imports, and instances whose functions may sit in a table of this one.
        self.keeps: list[object] = []

    def use(self, what: str) -> Connection:
        """The connection. Raises `WrongThread` and `InstanceLost`."""
        __tracebackhide__ = True
        if get_ident() != self.thread_id:
            raise WrongThread(
                f"{what} of {self.name} belongs to thread {self.thread.name!r}, used in {current_thread().name!r}\n"
                "Make one instance per thread."
            )
        lost = self.connection.lost
        if lost is not None:
            raise InstanceLost(lost.backend, lost.cause, f"{what} of {self.name}")
        return self.connection


class Extern(Generic[TypeT]):
    """An export, or an object made by the host; `name` is the export's name."""

    def __init__(self, owner: Owner, handle: int, type_: TypeT, name: str) -> None:
        self._owner = owner
        self._handle = handle
        self.type = type_
        self.name = name

    @property
    def _about(self) -> str:
        return f"{self.name!r} of {self._owner.name}"

    def _link(self, connection: Connection) -> tuple[Owner, int]:
        """Owner and handle, for an instance on that connection that imports this."""
        return self._owner, self._handle

    def _use(self) -> Connection:
        __tracebackhide__ = True
        return self._owner.use(f"{type(self).__name__.lower()} {self.name!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.type}>"

    def __call__(self, *arguments: object, **keywords: object) -> Any:
        raise TypeError(f"{self._about} is a {self.type}, not a function")


class Function(Extern[FunctionType]):
    """An exported function; call it with Python values, see `type`."""

    def __init__(self, owner: Owner, handle: int, type_: FunctionType, name: str) -> None:
        super().__init__(owner, handle, type_, name)
        params, results = type_
        self._width = len(params)
        self._thread_id = owner.thread_id
        self._params = Converter(params, self._argument)
        self._results = Converter(results, str)
        self._to_bits = self._params.to_bits
        self._native = owner.connection.caller(handle, params, results, f"call of {self._about}")
        self._plain_result = len(results) == 1 and not self._results._floats

    def _argument(self, index: int) -> str:
        return f"argument {index + 1} ({self.type.params[index]}) of {self.name}{self.type}"

    def __call__(self, *arguments: Any, **keywords: object) -> Any:
        """None, a value, or a tuple of values.

        i32 and i64 take ints, signed or unsigned, and come back signed; f32 and f64 are floats; v128 an unsigned
        int. Raises `Trap`; TypeError for a wrong count or type of arguments, OverflowError for values out of
        range; whatever a host function raises.
        """
        __tracebackhide__ = True
        if len(arguments) != self._width or keywords or get_ident() != self._thread_id:
            self._refuse(arguments, keywords)
        try:
            values = self._native(self._to_bits(arguments))
        except Trapped as trapped:
            error: BaseException = trap_from(trapped, self.name)
        except Refused as refused:
            error = self._fault(refused)
        else:
            return values[0] if self._plain_result else self._python(values)
        raise error

    def map(self, calls: Iterable[Sequence[Any]]) -> list[Any]:
        """Many calls in one message: for each tuple of arguments its result, or the `Trap`, not raised."""
        __tracebackhide__ = True
        connection = self._use()
        rows = calls if isinstance(calls, (list, tuple)) else list(calls)
        values = self._params.rows_to_bits(rows)
        if values is None:
            values = [self._row(row) for row in rows]
        native = connection.mapper(self._handle, *self.type, f"call of {self._about}")
        try:
            outcomes = native(values)
        except Refused as refused:
            error = self._fault(refused)
        else:
            if self._plain_result:
                return [trap_from(item, self.name) if type(item) is Trapped else item[0] for item in outcomes]  # type: ignore[index]
            return [self._outcome(item) for item in outcomes]
        raise error

    def _row(self, row: Sequence[Any]) -> tuple[int, ...]:
        __tracebackhide__ = True
        if not isinstance(row, (tuple, list)):
            raise TypeError(f"map of {self.name} takes tuples of arguments, not {type(row).__name__}: [(1, 2), (3, 4)]")
        if len(row) != self._width:
            self._refuse(row, {})
        return self._to_bits(row)

    def _outcome(self, item: Any) -> Any:
        return trap_from(item, self.name) if isinstance(item, Trapped) else self._python(item)

    def _python(self, values: tuple[int, ...]) -> Any:
        found = self._results.from_bits(values)
        return found if len(found) > 1 else found[0] if found else None

    def _refuse(self, arguments: Sequence[Any], keywords: dict[str, object]) -> None:
        __tracebackhide__ = True
        self._use()
        if keywords:
            raise TypeError(f"{self.name}{self.type} takes no keyword arguments: {', '.join(keywords)}")
        if len(arguments) != self._width:
            given = f"{len(arguments)} {'was' if len(arguments) == 1 else 'were'} given"
            plural = "" if self._width == 1 else "s"
            raise TypeError(f"{self.name}{self.type} takes {self._width} argument{plural}, {given}")

    def _fault(self, refused: Refused) -> WasmError:
        return EngineFault(f"the {self._owner.connection.backend} engine panicked in {self._about}: {refused.text}")


class UncallableFunction(Extern[FunctionType]):
    """A function with a parameter or result that cannot cross between Wasm and Python."""

    def __call__(self, *arguments: object, **keywords: object) -> NoReturn:
        names = sorted({*self.type.params, *self.type.results} & {*REFERENCE_TYPES})
        raise TypeError(
            f"{self.name}{self.type} cannot be called from Python: the engine does not pass {' and '.join(names)}\n"
            "Call it from Wasm: export a function that wraps it."
        )

    map = __call__


def function(owner: Owner, handle: int, type_: FunctionType, name: str) -> Function | UncallableFunction:
    """The object for an exported function."""
    if {*type_.params, *type_.results} & {*REFERENCE_TYPES}:
        return UncallableFunction(owner, handle, type_, name)
    return Function(owner, handle, type_, name)


def _reader(layout: str) -> Callable[[Memory, int], Any]:
    packer = struct.Struct("<" + layout)

    def read(self: Memory, offset: int) -> Any:
        __tracebackhide__ = True
        return packer.unpack(self.read(offset, packer.size))[0]

    return read


def _writer(layout: str) -> Callable[[Memory, int, Any], None]:
    packer = struct.Struct("<" + layout)

    def write(self: Memory, offset: int, value: Any) -> None:
        __tracebackhide__ = True
        try:
            data = packer.pack(value)
        except struct.error as error:
            raise OverflowError(f"{value!r} at offset {offset} of {self._about}: {error}") from None
        self.write(offset, data)

    return write


class Memory(Extern[MemoryType]):
    """A linear memory: an export, or made by the host for modules that import one.

    `Memory(1, maximum=3)` (sizes in pages of 64 KiB) is made on the backend of the first instance that imports it; until
    then what is written to it waits here. Offsets and `size` are in bytes; numbers are little-endian.
    """

    def __init__(self, minimum: int, maximum: int | None = None) -> None:
        if not 0 <= minimum <= PAGE_SIZE or (maximum is not None and not minimum <= maximum <= PAGE_SIZE):
            raise ValueError(f"memory limits in pages: 0 <= {minimum} <= {maximum} <= {PAGE_SIZE} is not so")
        self._waiting: bytearray | None = bytearray(minimum * PAGE_SIZE)
        self.type = MemoryType(minimum, maximum)
        self.name = "memory made by the host"

    @classmethod
    def _of(cls, owner: Owner, handle: int, type_: MemoryType, name: str) -> Memory:
        memory = cls.__new__(cls)
        Extern.__init__(memory, owner, handle, type_, name)
        memory._waiting = None
        return memory

    def _link(self, connection: Connection) -> tuple[Owner, int]:
        if self._waiting is not None:
            try:
                self._handle = connection.make_memory(*self.type, self.name)
            except Refused as refused:
                raise WasmError(f"{self.type} cannot be made on {connection.backend}: {refused.text}") from None
            self._owner = host_owner(connection, self._handle)
            waiting, self._waiting = self._waiting, None
            if any(waiting):
                self.write(0, bytes(waiting))
        return self._owner, self._handle

    @property
    def size(self) -> int:
        """In bytes."""
        __tracebackhide__ = True
        if self._waiting is not None:
            return len(self._waiting)
        return self._use().memory_pages(self._handle, f"size of {self._about}") * PAGE_SIZE

    def __len__(self) -> int:
        return self.size

    def grow(self, pages: int) -> int:
        """Grow by that many pages of 64 KiB; the former size in pages. Raises `WasmError` where it cannot."""
        __tracebackhide__ = True
        if self._waiting is not None:
            raise WasmError(f"{self.name} is not in use yet: import it first, or make it larger")
        if not 0 <= pages <= PAGE_SIZE:
            raise ValueError(f"{self._about} cannot grow by {pages} pages: 0 to {PAGE_SIZE}")
        try:
            return self._use().grow(self._handle, pages, f"grow of {self._about}")
        except Refused as refused:
            reason = refused.text
        raise WasmError(f"{self._about} ({self.type}) cannot grow by {pages} pages: {reason}")

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises IndexError outside the memory."""
        __tracebackhide__ = True
        self._check(offset, length)
        if self._waiting is not None:
            return bytes(self._waiting[offset : offset + length])
        connection = self._use()
        parts = []
        try:
            for start in range(offset, offset + length, TRANSFER) or (offset,):
                size = min(TRANSFER, offset + length - start)
                parts.append(connection.read(self._handle, start, size, f"read of {self._about}"))
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except OutOfBounds as error:
            size = error.size
        raise self._outside(offset, length, size)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """All of `data` at `offset`. Raises IndexError where it does not fit, and then writes nothing."""
        __tracebackhide__ = True
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes are written to {self.name!r}, not {type(data).__name__}")
        content = bytes(data)
        self._check(offset, len(content))
        if self._waiting is not None:
            self._waiting[offset : offset + len(content)] = content
            return
        connection = self._use()
        if len(content) > TRANSFER and offset + len(content) > self.size:
            raise self._outside(offset, len(content), self.size)
        try:
            for start in range(0, len(content), TRANSFER) or (0,):
                part = content[start : start + TRANSFER]
                connection.write(self._handle, offset + start, part, f"write of {self._about}")
            return
        except OutOfBounds as error:
            size = error.size
        raise self._outside(offset, len(content), size)

    def _check(self, offset: int, length: int) -> None:
        __tracebackhide__ = True
        if offset < 0 or length < 0:
            raise self._outside(offset, length, self.size)
        if self._waiting is not None and offset + length > len(self._waiting):
            raise self._outside(offset, length, len(self._waiting))

    def _outside(self, offset: int, length: int, size: int) -> IndexError:
        return IndexError(
            f"{length} bytes at offset {offset} are outside memory {self.name!r}, which has {size} bytes "
            f"({size // PAGE_SIZE} pages), offsets 0 to {size - 1}"
            if size
            else f"{length} bytes at offset {offset} are outside memory {self.name!r}, which is empty"
        )

    def __getitem__(self, place: int | slice) -> Any:
        """A byte as an int, or a slice as bytes. Negative places count from the end, as in Python; nothing is clamped."""
        __tracebackhide__ = True
        if isinstance(place, slice):
            return self.read(*self._range(place))
        return self.read(self._from_end(place), 1)[0]

    def __setitem__(self, place: int | slice, content: Any) -> None:
        __tracebackhide__ = True
        if not isinstance(place, slice):
            self.write(self._from_end(place), bytes([content]))
            return
        start, length = self._range(place)
        if len(content) != length:
            raise ValueError(f"{len(content)} bytes for a slice of {length}: a memory's slices do not change size")
        self.write(start, content)

    def _range(self, place: slice) -> tuple[int, int]:
        if place.step not in (None, 1):
            raise ValueError("slices of a memory have no step")
        start = self._from_end(0 if place.start is None else place.start)
        stop = self.size if place.stop is None else self._from_end(place.stop)
        return start, max(0, stop - start)

    def _from_end(self, place: int) -> int:
        return place + self.size if place < 0 else place

    read_u8, write_u8 = _reader("B"), _writer("B")
    read_i8, write_i8 = _reader("b"), _writer("b")
    read_u16, write_u16 = _reader("H"), _writer("H")
    read_i16, write_i16 = _reader("h"), _writer("h")
    read_u32, write_u32 = _reader("I"), _writer("I")
    read_i32, write_i32 = _reader("i"), _writer("i")
    read_u64, write_u64 = _reader("Q"), _writer("Q")
    read_i64, write_i64 = _reader("q"), _writer("q")
    read_f32, write_f32 = _reader("f"), _writer("f")
    read_f64, write_f64 = _reader("d"), _writer("d")


class Global(Extern[GlobalType]):
    """A global: an export, or made by the host for modules that import one.

    `Global("i64", 7, mutable=True)` is made on the backend of the first instance that imports it.
    """

    def __init__(self, value_type: str, value: float, *, mutable: bool = False) -> None:
        self.name = "global made by the host"
        self.type = GlobalType(value_type, mutable)
        if value_type not in ("i32", "i64", "f32", "f64"):
            raise ValueError(f"the host makes globals of i32, i64, f32 and f64, not of {value_type!r}")
        self._converter = Converter([value_type], self._what)
        self._waiting: int | None = self._converter.to_bits((value,))[0]

    @classmethod
    def _of(cls, owner: Owner, handle: int, type_: GlobalType, name: str) -> Global:
        variable = cls.__new__(cls)
        Extern.__init__(variable, owner, handle, type_, name)
        variable._converter = Converter([type_.value_type], variable._what)
        variable._waiting = None
        return variable

    def _what(self, index: int) -> str:
        return f"the value of {self.name} ({self.type})"

    def _link(self, connection: Connection) -> tuple[Owner, int]:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            value_type, mutable = self.type
            self._handle = connection.make_global(value_type, mutable, waiting, self.name)
            self._owner = host_owner(connection, self._handle)
        return self._owner, self._handle

    @property
    def value(self) -> Any:
        """The value now. Settable where the global is mutable; raises TypeError and OverflowError as calls do."""
        __tracebackhide__ = True
        if self.type.value_type in REFERENCE_TYPES:
            raise TypeError(f"{self._about} is a {self.type}: the engine does not pass references to Python")
        bits = self._waiting
        if bits is None:
            bits = self._use().get_global(self._handle, f"value of {self._about}")
        return self._converter.from_bits((bits,))[0]

    @value.setter
    def value(self, value: Any) -> None:
        __tracebackhide__ = True
        if not self.type.mutable:
            raise AttributeError(f"global {self.name!r} is immutable ({self.type.value_type}): it cannot be set")
        if self.type.value_type in REFERENCE_TYPES:
            raise TypeError(f"{self._about} is a {self.type}: the engine does not take references from Python")
        (bits,) = self._converter.to_bits((value,))
        if self._waiting is not None:
            self._waiting = bits
        else:
            self._use().set_global(self._handle, bits, f"setting {self._about}")


class Table(Extern[TableType]):
    """An exported table. Its elements can be seen from Wasm only, and only instances make tables."""

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError(
            "the wasmer wheels cannot make tables: take one from another instance's exports,\n"
            "or export it from a helper module: (module (table (export \"table\") 10 funcref))"
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
        return self._use().table_size(self._handle, f"size of {self._about}")

    def __len__(self) -> int:
        return self.size


def host_owner(connection: Connection, handle: int) -> Owner:
    """The owner of what the host made: releases it when the last user is gone."""
    owner = Owner(connection, "the host")
    release_with(owner, connection, handle)
    return owner


def release_with(owner: object, connection: Connection, handle: int) -> None:
    """Let the engine drop `handle` when `owner` is collected."""
    import weakref

    weakref.finalize(owner, connection.releases.append, handle).atexit = False


def extern(owner: Owner, handle: int, type_: object, name: str) -> Extern[Any]:
    """The object for an export of that type."""
    if isinstance(type_, FunctionType):
        return function(owner, handle, type_, name)
    if isinstance(type_, MemoryType):
        return Memory._of(owner, handle, type_, name)
    if isinstance(type_, GlobalType):
        return Global._of(owner, handle, type_, name)
    return Table._of(owner, handle, cast("TableType", type_), name)


__all__ = ["Extern", "Function", "Global", "Memory", "Owner", "Table", "Trap", "extern", "release_with"]
