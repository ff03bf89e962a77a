"""What a test and its instances say to each other, as a sequence of events.

An event is a tuple of a kind and JSON values. Some go *in* (Python decides them), some come *out* (the engine does):

    in   ("new", instance, module, imports)             out  ("made",)
         ("make", index, "memory", minimum, maximum)
         ("make", index, "global", type, mutable, bits)
         ("use", instance, module, history)
         ("call", instance, name, types, *bits)              ("result", types, *bits)
         ("map", instance, name, types, rows)                ("results", types, rows)
         ("read", instance, name, offset, length)            ("data", offset, data)
         ("write", instance, name, offset, data)
         ("get", instance, name)                             ("value", types, bits)
         ("set", instance, name, types, bits)
         ("size", instance, name)                            ("number", value)
         ("grow", instance, name, pages)
                                                             ("host", import, types, *bits)   Wasm calls Python
         ("return", types, *bits)                                                             ... which answers
         ("raise", exception)
                                                             ("trap", kind), ("raised", exception), ("refused", text)

    left ("state", instance, export, "memory", pages, pages per digest, "0=digest,...")     what a test leaves behind
         ("state", instance, export, "global", type, bits)
         ("state", instance, export, "table", elements)
         ("state", instance, "", "rest", digest)             of what does not travel, from that instance on

`types` are value types with commas between them; floats are bits. `data` is hex, of long data only a digest (see
`runtime.blobs`). A module is known by its digest, or by that of its text. `imports` are what an instance takes of
others: [own name, index, name there]. Instances, and what the host makes, are numbered in the order in which a test
meets them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pytest_wasmer.runtime.blobs import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    #: A kind and JSON values.
    Event: TypeAlias = tuple[Any, ...]

COMING_IN = frozenset(
    {"new", "make", "use", "call", "map", "read", "write", "get", "set", "size", "grow", "return", "raise"}
)
# The same of their texts.
BEGINNINGS_IN = tuple(f'["{kind}",' for kind in COMING_IN)
# Where the types of an event stand, if its values may be floats.
TYPES_AT = {"call": 3, "map": 3, "result": 1, "results": 1, "value": 1, "set": 3, "host": 2, "return": 1}
REST = "rest"
LONG = 64
PAGE = 65536
CANONICAL = {"f32": 0x7FC00000, "f64": 0x7FF8000000000000}
# The last byte, of four, of what may be a NaN as f32, or the upper half of one as f64.
_NAN_ENDS = re.compile(b"[\x7f\xff]")


def data_text(data: bytes) -> str:
    """Data as an event has it: in hex, or its length and digest."""
    if len(data) <= LONG:
        return data.hex()
    return f"{len(data)} bytes {digest_of(data)}"


#: Of JSON values, in one line.
json_text = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def encoded(events: Sequence[Event]) -> str:
    """One line."""
    return json_text(events)


def template(kind: str, *words: str, numbers: int, instance: bool = False) -> str:
    """What gives, with that many numbers put in by %, the text of an event; the first one may be an `instance`."""
    texts = [json_text(word).replace("%", "%%") for word in (kind, *words)]
    if instance:
        texts.insert(1, "%d")
    return f"[{','.join([*texts, *['%d'] * numbers])}]"


def decoded(line: str) -> list[Event]:
    """The reverse of `encoded`; lists within events stay lists. Raises ValueError."""
    return [tuple(event) for event in json.loads(line)]


def without_nan_bits(event: Event) -> Event:
    """The event with every NaN made canonical, so that it equals those with other NaN bits."""
    place = TYPES_AT.get(event[0])
    if place is None or "f" not in event[place]:
        return event
    types = event[place].split(",")
    if event[0] in ("map", "results"):
        rows = [_canonical(types, row) if isinstance(row, (list, tuple)) else row for row in event[place + 1]]
        return (*event[: place + 1], rows)
    return (*event[: place + 1], *_canonical(types, event[place + 1 :]))


def _canonical(types: Sequence[str], bits: Sequence[int]) -> list[int]:
    return [_one(name, value) for name, value in zip(types, bits, strict=True)]


def _one(name: str, bits: int) -> int:
    return CANONICAL[name] if is_nan(name, bits) else bits


# Contents of memories


def content_of(text: str, find: Callable[[Iterable[str]], Mapping[str, bytes]]) -> bytes | None:
    """The data that an event has; None where only its digest is at hand."""
    _, long, digest = text.rpartition(" ")
    return find([digest]).get(digest) if long else bytes.fromhex(text)


def pages_in(state: Event) -> dict[int, str]:
    """Of a memory's state the digests of what is not all zeros, by the number of the (first) page."""
    pairs = [page.split("=") for page in state[6].split(",") if page]
    return {int(number): digest for number, digest in pairs}


def nan_words_only(one: bytes, other: bytes, offset: int) -> bool:
    """Whether contents of a memory from `offset` on differ only within aligned words that are NaN on both sides.

    A NaN's sign and payload may differ between engines (WebAssembly core specification, section 4.3.3).
    """
    if len(one) != len(other):
        return False
    return all(_are_nan(one, other, offset, place) for place in differing(one, other))


def differing(one: bytes, other: bytes) -> Iterator[int]:
    """Places where contents of one length differ."""
    for start in range(0, len(one), LONG):
        if one[start : start + LONG] != other[start : start + LONG]:
            for place in range(start, min(start + LONG, len(one))):
                if one[place] != other[place]:
                    yield place


def _are_nan(one: bytes, other: bytes, offset: int, place: int) -> bool:
    """Whether what is around that place is an f32, or an f64, that is NaN on both sides."""
    for name, size in (("f32", 4), ("f64", 8)):
        start = place - (offset + place) % size
        words = [int.from_bytes(content[start : start + size], "little") for content in (one, other)]
        if 0 <= start <= len(one) - size and all(is_nan(name, word) for word in words):
            return True
    return False


def without_nan_words(content: bytes, offset: int = 0) -> bytes:
    """What is in a memory from `offset` on, with each aligned word that is a NaN (as f64, else as f32) made canonical.

    Contents for which `nan_words_only` is true are equal then, but where one has an f64 NaN and the other an f32 NaN.
    """
    found = bytearray(content)
    first = -offset % 4
    for match in _NAN_ENDS.finditer(content[first + 3 :: 4]):
        start = first + 4 * match.start()
        for name, size in (("f64", 8), ("f32", 4)):
            place = start - (offset + start) % size
            word = content[place : place + size] if place >= 0 else b""
            if len(word) == size and is_nan(name, int.from_bytes(word, "little")):
                found[place : place + size] = CANONICAL[name].to_bytes(size, "little")
                break
    return bytes(found)


def digests_in(events: Iterable[Event]) -> Iterator[tuple[str, int]]:
    """Of long data and pages of memories, each with the offset, modulo 8, from which it is."""
    for event in events:
        if event[0] in ("data", "write"):
            _, long, digest = event[-1].rpartition(" ")
            if long:
                yield digest, event[-2] % 8
        elif event[0] == "state" and event[3] == "memory" and event[5] == "1":
            for digest in pages_in(event).values():
                yield digest, 0


def canonical_digests(
    wanted: Iterable[tuple[str, int]], find: Callable[[Iterable[str]], Mapping[str, bytes]]
) -> dict[tuple[str, int], str]:
    """Of contents, by digest and offset, the digest without NaN bits, if that is another and the content is at hand."""
    wanted = {*wanted}
    contents = find([digest for digest, _ in wanted]) if wanted else {}
    found = {}
    for digest, offset in wanted:
        if digest in contents:
            other = digest_of(without_nan_words(contents[digest], offset))
            if other != digest:
                found[digest, offset] = other
    return found


def is_nan(name: str, bits: int) -> bool:
    if name == "f32":
        return bits & 0x7FFFFFFF > 0x7F800000
    return name == "f64" and bits & 0x7FFFFFFFFFFFFFFF > 0x7FF0000000000000
