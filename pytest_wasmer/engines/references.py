"""Whether the instances of a module can exchange references to functions with those of other modules.

Wasmer numbers function types per engine, and `call_indirect` compares these numbers: what travels between two engines,
through a table say, traps with "indirect call type mismatch". Modules for which this is true must share an engine.
The layout is that of the WebAssembly core specification, section 5.5.
"""

from __future__ import annotations

TYPES, IMPORTS, GLOBALS, EXPORTS = 1, 2, 6, 7
FUNCTION, TABLE, MEMORY, GLOBAL = range(4)
REFERENCES = b"\x70\x6f"  # funcref, externref


def shares_references(wasm: bytes) -> bool:
    """May be true without need (that costs memory), never false where it matters. False for what is no module."""
    try:
        return any(_in_section(*section) for section in _sections(wasm))
    except (IndexError, ValueError):
        return False


def _in_section(number: int, content: bytes) -> bool:
    if number in (TYPES, GLOBALS):
        return any(byte in REFERENCES for byte in content)
    if number == IMPORTS:
        return _imports_references(Reader(content))
    return number == EXPORTS and _exports_table(Reader(content))


def _imports_references(reader: Reader) -> bool:
    for _ in range(reader.number()):
        reader.skip_name()
        reader.skip_name()
        kind = reader.byte()
        if kind == TABLE:
            return True
        if kind == FUNCTION:
            reader.number()
        elif kind == MEMORY:
            if reader.byte() & 1:
                reader.number()
            reader.number()
        elif kind == GLOBAL:
            if reader.byte() in REFERENCES:
                return True
            reader.byte()
        else:
            raise ValueError(f"import of kind {kind}")
    return False


def _exports_table(reader: Reader) -> bool:
    for _ in range(reader.number()):
        reader.skip_name()
        if reader.byte() == TABLE:
            return True
        reader.number()
    return False


def _sections(wasm: bytes) -> list[tuple[int, bytes]]:
    reader = Reader(wasm, 8)
    found = []
    while reader.offset < len(wasm):
        number, size = reader.byte(), reader.number()
        found.append((number, wasm[reader.offset : reader.offset + size]))
        reader.offset += size
    return found


class Reader:
    """Numbers (unsigned LEB128) and names, one after the other. Raises IndexError at the end."""

    def __init__(self, content: bytes, offset: int = 0) -> None:
        self._content = content
        self.offset = offset

    def byte(self) -> int:
        self.offset += 1
        return self._content[self.offset - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def skip_name(self) -> None:
        size = self.number()
        self.offset += size
