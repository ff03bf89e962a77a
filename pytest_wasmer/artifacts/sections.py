"""What the bytes of an artifact are: its sections, and in which of them two artifacts differ.

A *Universal* artifact (Wasmer 2.1.1, lib/engine-universal/src/{artifact,serialize}.rs) is 22 bytes of magic, the size
of what begins at offset 32 as a LEB128 number, and there an rkyv 0.7 archive of `SerializableModule`, whose last 8
bytes say where its *root* is. rkyv writes the data of each field in the order of their declarations, the root last: a
section ends with the elements of its vector, and the next begins. A vector is an i32 (from itself to its elements) and
a u32 (their number). The types: lib/compiler/src/{function,relocation,section,module}.rs, lib/types/src/module.rs. The
order of fields inside a struct is the Rust compiler's choice and was found in artifacts of the `wasmer` 1.1.0 wheels.
Nothing is guessed: an archive that does not fit is an "unknown part".

A *Dylib* artifact is a shared object; here 64-bit little-endian ELF, whose section headers and symbols say it all.
"""

from __future__ import annotations

import struct
from collections import Counter
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAGIC, ELF_MAGIC = b"\0wasmer-universal\0\0\0\0\0", b"\x7fELF\2\1"
ARCHIVE = 32
UNKNOWN, WHOLE = "unknown part", "the whole artifact"

# The sections before the root: name, where in the root the pointer is, bytes per element, and what an element is of
# where it begins with a vector of bytes.
SECTIONS = (
    ("function bodies", 0, 24, "function"),
    ("function relocations", 8, 8, ""),
    ("jump table offsets", 16, 12, ""),
    ("function frame info", 24, 32, ""),
    ("call trampolines", 32, 24, "signature"),
    ("dynamic trampolines", 40, 24, "imported function"),
    ("custom sections", 48, 20, "section"),
    ("custom section relocations", 56, 8, ""),
    ("module info", 88, 148, ""),
    ("memory styles", 92, 16, ""),
    ("table styles", 112, 1, ""),
    ("data initializers", 120, 24, ""),
)
MODULE_INFO = 88  # a pointer without a number
ALIGNED = {name for name, *_ in SECTIONS}  # begin with zeros that align the first element
# In the module info: exports, function names, number of imported functions.
EXPORTS, NAMES, IMPORTED = 0x14, 0x44, 0x84
# The root and its position: name and bytes in file order.
ROOT = {"section pointers": 64, "debug and trampoline sections": 24, "module info pointers": 12, "Wasm features": 12}
ROOT |= {"data pointers": 16, "CPU features": 8, "root position": 8}

# Differ whenever something else does: named where nothing else differs.
FOLLOWING = {"header", "section pointers", "module info pointers", "data pointers", "root position"}
FOLLOWING |= {"ELF header", "program headers", "section headers", ".note.gnu.build-id"}
SHOWN = 3
NAME_LIMIT = 200

# ELF: types of sections, types of symbols.
SYMTAB, NOBITS = 2, 8
OBJECT, FUNC = 1, 2


class Part(NamedTuple):
    """Bytes `start` to `end` of an artifact."""

    name: str
    start: int
    end: int


class Layout(NamedTuple):
    """All parts of an artifact, and what is known inside of them: functions, symbols."""

    parts: list[Part]
    pieces: list[Part]


class Section(NamedTuple):
    """What is needed of an ELF section header. `link`: of a symbol table, its string table."""

    name: int
    kind: int
    address: int
    offset: int
    size: int
    link: int


def parts(artifact: bytes) -> list[Part]:
    """The sections in file order, each byte in exactly one; names are unique. No bytes make this raise."""
    return _layout(artifact).parts


def difference(first: bytes, second: bytes) -> str:
    """In one line the sections in which two artifacts differ, and where (offsets in the first); "" if they are equal.

    `function bodies (function 3 'add', 4 bytes from offset 0x1234)`: four bytes differ, the first of them at 0x1234;
    functions have the module's own numbers. No bytes make this raise. Where sizes differ, custom sections and module
    info may differ by alignment and by pointers alone.
    """
    if first == second:
        return ""
    one, other = _layout(first), _layout(second)
    pairs = [(one, other), (_coarse(first), _coarse(second))]
    if len(first) == len(second):  # one that is damaged can be read by the layout of the other
        pairs = [(one, one), (other, other), *pairs]
    readings = [_findings(first, second, *pair) for pair in pairs]
    best = min(readings, key=lambda found: (UNKNOWN in found or WHOLE in found, len(found)))
    told = {name: where for name, where in best.items() if name not in FOLLOWING} or best
    return "; ".join(f"{name} ({where})" for name, where in told.items())


def _findings(first: bytes, second: bytes, one: Layout, other: Layout) -> dict[str, str]:
    """Names of the parts that differ, and where they do."""
    mine, its = ({part.name: part for part in layout.parts} for layout in (one, other))
    if not mine.keys() & its.keys():
        return {WHOLE: f"{len(first)} and {len(second)} bytes"}
    found = {}
    for name in dict.fromkeys([*mine, *its]):
        if name not in mine or name not in its:
            found[name] = "only in the first" if name in mine else "only in the second"
            continue
        before, after = _cut(first, mine[name]), _cut(second, its[name])
        same = before == after
        if name in ALIGNED and len(before) != len(after):
            same = before.lstrip(b"\0") == after.lstrip(b"\0")
        if not same:
            old, new = _inside(mine[name], one), _inside(its[name], other)
            changed = {label for label in old.keys() & new if _cut(first, old[label]) != _cut(second, new[label])}
            labels = [label for label in dict.fromkeys([*old, *new]) if label in changed or label in old.keys() ^ new]
            if len(labels) > SHOWN:
                labels[SHOWN - 1 :] = [f"{labels[SHOWN - 1]} and {len(labels) - SHOWN} more"]
            found[name] = ", ".join([*labels, _place(before, after, mine[name].start)])
    return found


def _cut(data: bytes, part: Part) -> bytes:
    return data[part.start : part.end]


def _inside(part: Part, layout: Layout) -> dict[str, Part]:
    return {piece.name: piece for piece in layout.pieces if part.start <= piece.start < part.end}


def _place(before: bytes, after: bytes, start: int) -> str:
    size = min(len(before), len(after))
    delta = int.from_bytes(before[:size], "big") ^ int.from_bytes(after[:size], "big")
    differing = delta.to_bytes(size, "big")
    where = f"from offset {start + size - len(differing.lstrip(bytes(1))):#x}"
    if len(before) != len(after):
        return f"{len(before)} and {len(after)} bytes, {where}"
    count = size - differing.count(0)
    return f"{count} byte{'s' * (count != 1)} {where}"


# Reading. What is out of bounds or order raises struct.error.


def _layout(artifact: bytes) -> Layout:
    with suppress(struct.error):
        if artifact.startswith(MAGIC):
            return _universal(artifact)
        if artifact.startswith(ELF_MAGIC):
            return _elf(artifact)
    return _coarse(artifact)


def _coarse(artifact: bytes) -> Layout:
    start = min(ARCHIVE, len(artifact)) if artifact.startswith(MAGIC) else 0
    return Layout(_cover([("header", 0, start), (UNKNOWN, start, len(artifact))], len(artifact)), [])


def _read(layout: str, data: bytes, at: int) -> tuple[Any, ...]:
    if not 0 <= at <= len(data):
        raise struct.error(f"{at} is outside")
    return struct.unpack_from(f"<{layout}", data, at)


def _cover(spans: Iterable[tuple[str, int, int]], size: int) -> list[Part]:
    """A part for each span that is not empty, and for what is between them."""
    found: list[Part] = []
    seen: Counter[str] = Counter()
    at, last = 0, ""
    for name, start, end in [*sorted(spans, key=lambda span: span[1:]), ("", size, size)]:
        if not at <= start <= end <= size:
            raise struct.error(f"{name} is from {start} to {end}")
        for label, begin, stop in ((f"bytes after {last}", at, start), (name, start, end)):
            if begin < stop:
                seen[label] += 1
                found.append(Part(label if seen[label] == 1 else f"{label} #{seen[label]}", begin, stop))
        at, last = end, name
    return found


def _universal(data: bytes) -> Layout:
    size = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(data[len(MAGIC) : ARCHIVE]))
    root: int = ARCHIVE + _read("Q", data, ARCHIVE + size - 8)[0]
    ends = [*accumulate(ROOT.values(), initial=root)]
    labels = _function_labels(data, _vector(data, root + MODULE_INFO)[0])
    spans, pieces, at = [("header", 0, ARCHIVE)], [], ARCHIVE
    for name, field, width, owner in SECTIONS:
        begin, count = _vector(data, root + field)
        end = begin + width * (1 if field == MODULE_INFO else count)
        if not at <= begin <= end <= root:
            raise struct.error(f"{name} is from {begin} to {end}")
        for number, element in enumerate(range(begin, end, width) if owner else ()):
            start, length = _vector(data, element)
            label = labels(number) if owner == "function" else f"{owner} {number}"
            pieces.append(Part(label, start, start + length))
        spans.append((name, at, end))
        at = end
    if ends[-1] != ARCHIVE + size or root - at >= 8:
        raise struct.error("the root is not at the end")
    spans += zip(ROOT, [at, *ends[1:-1]], ends[1:], strict=True)
    return Layout(_cover(spans, len(data)), pieces)


def _vector(data: bytes, at: int) -> tuple[int, int]:
    """Where the elements begin, and how many there are."""
    pointer, count = _read("iI", data, at)
    return at + pointer, count


def _function_labels(data: bytes, module: int) -> Callable[[int], str]:
    """Functions get the numbers that traps show, which count imports, and the name section's names, or an export's."""
    names: dict[int, str] = {}
    with suppress(struct.error):
        exports, count = _vector(data, module + EXPORTS)
        for at in range(exports, exports + 16 * count, 16):
            kind, number = _read("B3xI", data, at + 8)
            if kind == 0:
                names[number] = _string(data, at)
        names |= _named(data, module + NAMES)
    imported: int = _read("I", data, module + IMPORTED)[0]

    def label(local: int) -> str:
        number = imported + local
        return f"function {number} '{names[number]}'" if number in names else f"function {number}"

    return label


def _named(data: bytes, tree: int) -> Iterator[tuple[int, str]]:
    """The entries of an rkyv B-tree map (rkyv 0.7, src/collections/btree_map/mod.rs).

    A node is its size, a pointer (an inner node's to its first child, a leaf's to the next leaf; all are written
    before) and the number of its entries, with 0x8000 if it is an inner one.
    """
    left, pointer = _read("Ii", data, tree)
    left, node = min(left, len(data) // 12), tree + 4 + pointer
    while left > 0:
        pointer, entries = _read("iH", data, node + 4)
        if entries < 0x8000:
            for at in range(node + 12, node + 12 + 12 * entries, 12):
                yield _read("I", data, at)[0], _string(data, at + 4)
            left -= entries
        if pointer > -12:
            return
        node += 4 + pointer


def _string(data: bytes, at: int) -> str:
    """Up to 7 bytes and then their number; or a number and a pointer, which is negative."""
    number, pointer = _read("Ii", data, at)
    start, size = (max(0, at + pointer), number) if pointer < 0 else (at, pointer >> 24)
    return _text(data[start : start + min(size, NAME_LIMIT)])


def _text(raw: bytes) -> str:
    """On one line, whatever it is."""
    return repr(raw.decode(errors="backslashreplace"))[1:-1]


def _elf(data: bytes) -> Layout:
    """System V ABI, chapters 4 (sections, symbols) and 5 (program headers)."""
    programs, table = _read("QQ", data, 32)
    header, program_size, program_count, width, count, names = _read("6H", data, 52)
    sections = [Section(*_read("II8xQQQI", data, table + width * number)) for number in range(count)]
    spans = [("ELF header", 0, header), ("program headers", programs, programs + program_size * program_count)]
    spans.append(("section headers", table, table + width * count))
    for section in sections:
        if section.kind != NOBITS and section.size:
            name = _elf_name(data, sections, names, section.name)
            spans.append((name, section.offset, section.offset + section.size))
    parts = _cover(spans, len(data))
    return Layout(parts, [symbol for section in sections for symbol in _symbols(data, sections, section)])


def _symbols(data: bytes, sections: list[Section], table: Section) -> Iterator[Part]:
    """Functions and objects of a symbol table: `wasmer_function__3` is the fourth function that is not imported."""
    if table.kind != SYMTAB:
        return
    for at in range(table.offset, table.offset + table.size, 24):
        name, kind, home, address, size = _read("IBxHQQ", data, at)
        if kind & 15 in (OBJECT, FUNC) and home < len(sections):
            start = address - sections[home].address + sections[home].offset
            yield Part(_elf_name(data, sections, table.link, name), start, start + size)


def _elf_name(data: bytes, sections: list[Section], table: int, at: int) -> str:
    if table >= len(sections):
        raise struct.error(f"there is no section {table}")
    start = sections[table].offset + at
    return _text(data[start : start + NAME_LIMIT].split(b"\0", 1)[0])
