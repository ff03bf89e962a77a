"""What a test and its instances say to each other, as a sequence of events.

An event is a tuple of a kind and JSON values. Some go *in* (Python decides them), some come *out* (the engine does):

    in   ("new", instance, module digest, imports)      out  ("made",)
         ("use", instance, module digest, history)
         ("call", instance, name, types, *bits)              ("result", types, *bits)
         ("map", instance, name, types, rows)                ("results", types, rows)
         ("read", instance, name, offset, length)            ("data", offset, data)
         ("write", instance, name, offset, data)             ("written",)
         ("get", instance, name)                             ("value", types, bits)
         ("set", instance, name, types, bits)
         ("size", instance, name)                            ("number", value)
         ("grow", instance, name, pages)
                                                             ("host", import, types, *bits)   Wasm calls Python
         ("return", types, *bits)                                                             ... which answers
         ("raise", exception)
                                                             ("trap", kind), ("raised", exception), ("refused", text)
         ("end",)                                            ("state", instance, place, name, value, ...)

`types` are value types with commas between them; floats are bits. `data` is hex, of long data only a digest.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    #: A kind and JSON values.
    Event: TypeAlias = tuple[Any, ...]

COMING_IN = frozenset(
    {"new", "use", "call", "map", "read", "write", "get", "set", "size", "grow", "return", "raise", "end"}
)
# Where the types of an event stand, if its values may be floats.
TYPES_AT = {"call": 3, "map": 3, "result": 1, "results": 1, "value": 1, "set": 3, "host": 2, "return": 1}
LONG = 64


def data_text(data: bytes) -> str:
    """Data as an event has it: in hex, or its length and digest."""
    if len(data) <= LONG:
        return data.hex()
    return f"{len(data)} bytes {hashlib.blake2b(data, digest_size=16).hexdigest()}"


def encoded(events: Iterable[Event]) -> str:
    """A line per event."""
    return "".join([json.dumps(event, separators=(",", ":")) + "\n" for event in events])


def decoded(text: str) -> list[Event]:
    """The reverse of `encoded`; lists within events stay lists."""
    return [tuple(json.loads(line)) for line in text.splitlines()]


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
    if name == "f32" and bits & 0x7FFFFFFF > 0x7F800000:
        return 0x7FC00000
    if name == "f64" and bits & 0x7FFFFFFFFFFFFFFF > 0x7FF0000000000000:
        return 0x7FF8000000000000
    return bits


def is_nan(name: str, bits: int) -> bool:
    return _one(name, bits) != bits or bits in (0x7FC00000 if name == "f32" else -1, 0x7FF8000000000000)
