"""The outer layer of the binary format (WebAssembly core specification, section 5.5): magic, version, sections.

Enough to say that a file is empty, cut off or not Wasm at all before a compiler is asked, and to read custom sections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.wasm.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\0asm"
VERSION = b"\1\0\0\0"
COMPONENT = b"\x0d\0\1\0"
CUSTOM = 0
SECTIONS = (
    *(
        "custom",
        "type",
        "import",
        "function",
        "table",
        "memory",
        "global",
        "export",
        "start",
        "element",
        "code",
    ),
    *("data", "data count", "tag"),
)


class Section(NamedTuple):
    """`id` and the content's place: bytes `start` to `end` of the module."""

    id: int
    start: int
    end: int


def check(wasm: bytes, name: str) -> None:
    """Raise `SourceError` unless `wasm` is a sequence of whole sections after the right header."""
    __tracebackhide__ = True
    if not wasm:
        raise SourceError(f"{name} is empty (0 bytes)\nBuild the module again.")
    if not wasm.startswith(MAGIC[: len(wasm)]):
        raise SourceError(_not_wasm(wasm, name))
    if wasm[4:8] == COMPONENT:
        raise SourceError(
            f"{name} is a component, not a core module: Wasmer's compilers take core modules\n"
            f"Take the core module out of it: wasm-tools component unbundle {name}"
        )
    if len(wasm) < 8:
        raise SourceError(f"{name} is cut off: {len(wasm)} bytes of the 8-byte header\nBuild or copy it again.")
    if wasm[4:8] != VERSION:
        raise SourceError(
            f"{name} has binary version {wasm[4:8].hex(' ')}, expected {VERSION.hex(' ')}\n"
            "Build it for WebAssembly 1.0 as a core module: clang --target=wasm32, cargo build --target "
            "wasm32-unknown-unknown"
        )
    for _ in sections(wasm, name):
        pass


def _not_wasm(wasm: bytes, name: str) -> str:
    said = f"{name} is not Wasm: it begins with {wasm[:8].hex(' ')}, a module with {MAGIC.hex(' ')}"
    if wasm.lstrip().startswith((b"(", b";;")):
        return f"{said}\nThis looks like WAT text: name the file .wat, or pass the text as a str."
    if wasm.startswith(b"\x7fELF"):
        return f"{said}\nThis is a native ELF file: build for a wasm32 target."
    return f"{said}\nPass a .wasm or .wat file, the module's bytes, or WAT text."


def sections(wasm: bytes, name: str) -> Iterator[Section]:
    """The sections in file order. Raises `SourceError` where one does not fit in the file."""
    __tracebackhide__ = True
    offset = 8
    while offset < len(wasm):
        begin, number = offset, wasm[offset]
        size, offset = _leb128(wasm, offset + 1, name)
        if offset + size > len(wasm):
            kind = SECTIONS[number] if number < len(SECTIONS) else "unknown"
            raise SourceError(
                f"{name} is cut off or damaged: the {kind} section at offset {begin} claims {size} bytes, "
                f"{len(wasm) - offset} are left\nBuild or copy it again."
            )
        yield Section(number, offset, offset + size)
        offset += size


def custom_sections(wasm: bytes, name: str) -> dict[str, tuple[bytes, ...]]:
    """Contents of the custom sections by name, in file order."""
    __tracebackhide__ = True
    found: dict[str, tuple[bytes, ...]] = {}
    for section in sections(wasm, name):
        if section.id == CUSTOM:
            length, start = _leb128(wasm, section.start, name)
            title = wasm[start : start + length].decode(errors="replace")
            found[title] = (*found.get(title, ()), wasm[start + length : section.end])
    return found


def _leb128(wasm: bytes, offset: int, name: str) -> tuple[int, int]:
    """An unsigned LEB128 of at most 32 bits, and the offset behind it."""
    __tracebackhide__ = True
    if offset < len(wasm) and wasm[offset] < 0x80:
        return wasm[offset], offset + 1
    value = 0
    for index in range(5):
        if offset + index >= len(wasm):
            break
        byte = wasm[offset + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, offset + index + 1
    raise SourceError(f"{name} is cut off or damaged: no section size at offset {offset}\nBuild or copy it again.")
