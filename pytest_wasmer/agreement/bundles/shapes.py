"""Whether an event that somebody else wrote is one: kinds, counts, types and ranges of what is in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_wasmer.agreement.events import TYPES_AT
from pytest_wasmer.wasm.values import BITS

if TYPE_CHECKING:
    from pytest_wasmer.agreement.events import Event

# Of each kind what follows it; values follow `TYPES_AT`. i: a number that is not negative, s: a text.
SHAPES = {
    "new": "is",
    "use": "iss",
    "call": "iss",
    "map": "iss",
    "read": "isii",
    "write": "isis",
    "get": "is",
    "set": "iss",
    "size": "is",
    "grow": "isi",
    "made": "",
    "result": "s",
    "results": "s",
    "data": "is",
    "value": "s",
    "number": "i",
    "host": "ss",
    "return": "s",
    "trap": "s",
    "raised": "s",
    "refused": "s",
    "raise": "s",
}
DATA = re.compile(r"(?:[0-9a-f]{2})*|\d+ bytes [0-9a-f]{24}|base64:[A-Za-z0-9+/=]*")


def checked(number: int, event: Any) -> Event:
    """The event. Raises ValueError that says which one is none. `number`: for the message."""
    if isinstance(event, list) and event and _is_event(event[0], event[1:]):
        return tuple(event)
    text = repr(event)
    raise ValueError(f"event {number} is none: {text if len(text) <= 80 else text[:77] + '...'}")


def _is_event(kind: object, fields: list[Any]) -> bool:
    if kind == "make":
        return _is_made(fields)
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None or len(fields) < len(shape):
        return False
    if not all(_is_number(item) if letter == "i" else isinstance(item, str) for letter, item in zip(shape, fields)):  # noqa: B905
        return False
    rest = fields[len(shape) :]
    if kind == "new":
        return len(rest) == 1 and isinstance(rest[0], list) and all(map(_is_link, rest[0]))
    if kind in ("write", "data") and not DATA.fullmatch(fields[-1]):
        return False
    if kind not in TYPES_AT:
        return not rest
    types = shape_types(fields[TYPES_AT[str(kind)] - 1])
    if types is None:
        return False
    if kind in ("map", "results"):
        return len(rest) == 1 and isinstance(rest[0], list) and all(_is_row(types, row, kind) for row in rest[0])
    return _fit(types, rest)


def _is_made(fields: list[Any]) -> bool:
    if len(fields) == 4 and fields[1] == "memory":
        return all(map(_is_number, (fields[0], fields[2]))) and (fields[3] is None or _is_number(fields[3]))
    if len(fields) != 5 or fields[1] != "global" or not _is_number(fields[0]) or type(fields[3]) is not bool:
        return False
    return fields[2] in ("i32", "i64", "f32", "f64") and _fit([fields[2]], [fields[4]])


def shape_types(text: str) -> list[str] | None:
    """The value types in a text; None if it names others."""
    types = text.split(",") if text else []
    return types if all(name in BITS for name in types) else None


def _is_number(item: object) -> bool:
    return type(item) is int and 0 <= item < 1 << 64


def _is_link(item: object) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 3
        and _is_number(item[1])
        and isinstance(item[0], str)
        and isinstance(item[2], str)
    )


def _is_row(types: list[str], row: object, kind: object) -> bool:
    return (kind == "results" and isinstance(row, str)) or (isinstance(row, list) and _fit(types, row))


def _fit(types: list[str], bits: list[Any]) -> bool:
    return len(types) == len(bits) and all(_fits(name, value) for name, value in zip(types, bits, strict=True))


def _fits(name: str, value: object) -> bool:
    """Integers are signed; floats, and v128, are bits."""
    if type(value) is not int:
        return False
    width = BITS[name]
    return -(1 << width - 1) <= value < 1 << width - 1 if name in ("i32", "i64") else 0 <= value < 1 << width
