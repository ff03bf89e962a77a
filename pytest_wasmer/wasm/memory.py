"""Linear memories."""

from __future__ import annotations

import operator
import struct
from typing import TYPE_CHECKING, Any

from pytest_wasmer.engines.api import OutOfBounds, Refused
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.runtime.executor import digest_of
from pytest_wasmer.wasm.externs import Extern, Owner, host_owner
from pytest_wasmer.wasm.types import MemoryType
from pytest_wasmer.wasm.values import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.runtime.connection import Connection

PAGE_SIZE = 65536
LARGEST = PAGE_SIZE * PAGE_SIZE
# Bytes that cross the pipe in one message.
TRANSFER = 1 << 26


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
        except (struct.error, OverflowError) as error:
            # struct says both in one class.
            numeric = isinstance(value, (int, float))
            kind = (
                TypeError if "required argument" in str(error) and not (numeric and layout in "fd") else OverflowError
            )
            text = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
            raise kind(f"{text} at offset {offset} of {self._about}: {error}") from None
        self.write(offset, data)

    return write


class Memory(Extern[MemoryType]):
    """A linear memory: an export, or made by the host for modules that import one.

    `Memory(1, maximum=3)` (sizes in pages of 64 KiB) is made on the backend of the first instance that imports it;
    until then what is written to it waits here. Offsets and `size` are in bytes; numbers are little-endian.
    """

    def __init__(self, minimum: int, maximum: int | None = None) -> None:
        __tracebackhide__ = True
        self.name = "memory made by the host"
        self._by_host = True
        minimum = self._index("the minimum", minimum)
        maximum = None if maximum is None else self._index("the maximum", maximum)
        if not 0 <= minimum <= PAGE_SIZE or (maximum is not None and not minimum <= maximum <= PAGE_SIZE):
            raise ValueError(f"memory limits in pages: 0 <= {minimum} <= {maximum} <= {PAGE_SIZE} is not so")
        self._waiting: bytearray | None = bytearray(minimum * PAGE_SIZE)
        self._written = False
        self.type = MemoryType(minimum, maximum)

    @classmethod
    def _of(cls, owner: Owner, handle: int, type_: MemoryType, name: str) -> Memory:
        memory = cls.__new__(cls)
        Extern.__init__(memory, owner, handle, type_, name)
        memory._waiting = None
        memory._written = False
        return memory

    def _link(self, connection: Connection) -> tuple[Owner, int]:
        __tracebackhide__ = True
        if self._waiting is not None:
            try:
                self._handle = connection.make_memory(self.type.minimum, self.type.maximum, self.name)
            except Refused as refused:
                raise WasmError(f"{self.type} cannot be made on {connection.backend}: {refused.text}") from None
            self._owner = host_owner(connection, self._handle, self.type)
            waiting, self._waiting = self._waiting, None
            if self._written:
                self.write(0, bytes(waiting))
        return self._owner, self._handle

    @property
    def size(self) -> int:
        """In bytes."""
        __tracebackhide__ = True
        if self._waiting is not None:
            return len(self._waiting)
        connection = self._use()
        pages = connection.memory_pages(self._handle, f"size of {self._about}")
        if connection.recorder is not None:
            connection.recorder.note(("size", connection.recorder.index(self._owner), self.name))
            connection.recorder.note(("number", pages))
        return pages * PAGE_SIZE

    def __len__(self) -> int:
        __tracebackhide__ = True
        return self.size

    # Without these Python would ask for a byte at a time.

    def __bytes__(self) -> bytes:
        __tracebackhide__ = True
        return self.read(0, self.size)

    def __iter__(self) -> Iterator[int]:
        __tracebackhide__ = True
        return iter(bytes(self))

    def __contains__(self, item: object) -> bool:
        """Of a byte as an int, or of a run of bytes."""
        __tracebackhide__ = True
        return item in bytes(self)  # type: ignore[operator]

    def digest(self) -> str:
        """SHA-256 over each page that is not all zeros, after its number (4 bytes, little-endian); in hex."""
        __tracebackhide__ = True
        waiting = self._waiting
        if waiting is not None:
            return digest_of(lambda at: bytes(waiting[at : at + PAGE_SIZE]), len(waiting) // PAGE_SIZE).hex()
        return self._use().digest(self._handle, f"digest of {self._about}").hex()

    def grow(self, pages: int) -> int:
        """Grow by that many pages of 64 KiB; the former size in pages. Raises `WasmError` where it cannot."""
        __tracebackhide__ = True
        if self._waiting is not None:
            raise WasmError(f"{self.name} is not in use yet: import it first, or make it larger")
        pages = self._index("the growth", pages)
        if not 0 <= pages <= PAGE_SIZE:
            raise ValueError(f"{self._about} cannot grow by {pages} pages: 0 to {PAGE_SIZE}")
        connection = self._use()
        recorder = connection.recorder
        if recorder is not None:
            recorder.note(("grow", recorder.index(self._owner), self.name, pages))
        try:
            before = connection.grow(self._handle, pages, f"grow of {self._about}")
        except Refused as refused:
            reason = refused.text
            if recorder is not None:
                recorder.note(("refused", "grow"))
        else:
            if recorder is not None:
                recorder.note(("number", before))
            return before
        raise WasmError(f"{self._about} ({self.type}) cannot grow by {pages} pages: {reason}")

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises IndexError outside the memory."""
        __tracebackhide__ = True
        offset, length = self._check(offset, length)
        if self._waiting is not None:
            return bytes(self._waiting[offset : offset + length])
        connection = self._use()
        parts = []
        try:
            for start in range(offset, offset + length, TRANSFER) or (offset,):
                size = min(TRANSFER, offset + length - start)
                parts.append(connection.read(self._handle, start, size, f"read of {self._about}"))
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            if connection.recorder is not None:
                connection.recorder.accessed("read", self._owner, self.name, offset, data)
            return data
        except OutOfBounds as error:
            size = error.size
        raise self._outside(offset, length, size)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """All of `data` at `offset`. Raises IndexError where it does not fit, and then writes nothing."""
        __tracebackhide__ = True
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes are written to {self._about}, not {type(data).__name__}")
        content = bytes(data)
        offset, _ = self._check(offset, len(content))
        if self._waiting is not None:
            self._waiting[offset : offset + len(content)] = content
            self._written = True
            return
        connection = self._use()
        if len(content) > TRANSFER and offset + len(content) > self.size:
            raise self._outside(offset, len(content), self.size)
        try:
            for start in range(0, len(content), TRANSFER) or (0,):
                part = content[start : start + TRANSFER]
                connection.write(self._handle, offset + start, part, f"write of {self._about}")
            if connection.recorder is not None:
                connection.recorder.accessed("write", self._owner, self.name, offset, content)
            return
        except OutOfBounds as error:
            size = error.size
        raise self._outside(offset, len(content), size)

    def _index(self, what: str, value: Any) -> int:
        __tracebackhide__ = True
        try:
            return operator.index(value)
        except TypeError:
            raise TypeError(f"{what} of {self._about} must be an int, not {describe(value)}") from None

    def _check(self, offset: int, length: int) -> tuple[int, int]:
        __tracebackhide__ = True
        if type(offset) is not int or type(length) is not int:
            offset, length = self._index("an offset", offset), self._index("a length", length)
        if not 0 <= offset <= LARGEST or not 0 <= length <= LARGEST:
            raise self._outside(offset, length, self.size)
        if self._waiting is not None and offset + length > len(self._waiting):
            raise self._outside(offset, length, len(self._waiting))
        return offset, length

    def _outside(self, offset: int, length: int, size: int) -> IndexError:
        called = self.name if self._by_host else f"memory {self.name!r}"
        has = f"has {size} bytes ({size // PAGE_SIZE} pages), offsets 0 to {size - 1}" if size else "is empty"
        return IndexError(f"{length} bytes at offset {offset} are outside {called}, which {has}")

    def __getitem__(self, place: int | slice) -> Any:
        """A byte as an int, or a slice as bytes. Negative places count from the end; nothing is clamped."""
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
        __tracebackhide__ = True
        if place.step not in (None, 1):
            raise ValueError("slices of a memory have no step")
        start = self._from_end(0 if place.start is None else place.start)
        stop = self.size if place.stop is None else self._from_end(place.stop)
        return start, max(0, stop - start)

    def _from_end(self, place: int) -> int:
        __tracebackhide__ = True
        place = self._index("a place", place)
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
