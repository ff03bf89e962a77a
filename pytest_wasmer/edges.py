"""Arguments that are likely to tell programs apart: the edges of each value type, and calls made of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pytest_wasmer.wasm.function import Function
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.wasm.types import ExternType

# As the engine contract has values: i32 and i64 signed, floats as bits, v128 unsigned. Many small numbers, since most
# parameters are sizes and addresses.
_I32 = (0, 1, 2, 3, 7, 8, 16, 64, 255, 256, 1024, 65535, 65536, -1, -2, 2**31 - 1, -(2**31))
_I64 = (0, 1, 2, 64, 2**32 - 1, 2**32, -1, 2**63 - 1, -(2**63))
_F32 = (0x00000000, 0x3F800000, 0xBF000000, 0x80000000, 0x7F800000, 0xFF800000, 0x00000001, 0x7F7FFFFF, 0x7FC00000)
_F64 = (
    *(0x0000000000000000, 0x3FF0000000000000, 0xBFE0000000000000, 0x8000000000000000, 0x7FF0000000000000),
    *(0xFFF0000000000000, 0x0000000000000001, 0x7FEFFFFFFFFFFFFF, 0x7FF8000000000000),
)
_V128 = (0, 1, 2**128 - 1, 0x3F800000_BF800000_7F800000_00000001, 0x000102030405060708090A0B0C0D0E0F)
EDGES: dict[str, tuple[int, ...]] = {"i32": _I32, "i64": _I64, "f32": _F32, "f64": _F64, "v128": _V128}

# A NaN of f32 that is signalling is none: Python's floats cannot hold it, so that no test could repeat it.
_MORE_F32 = (
    *(0x40000000, 0x7F800000 - (1 << 23), 0x00800000, 0x807FFFFF, 0x4B000000, 0x4B800000),
    *(0x4F000000, 0xCF000000, 0x4EFFFFFF, 0x4F800000, 0x5F000000, 0xDF000000, 0x5F800000, 0x3EFFFFFF, 0x34000000),
    *(0xFFC00000, 0x7FC00001, 0x7FFFFFFF, 0xFFD55555),
)
_MORE_F64 = (
    *(0x4000000000000000, 0x0010000000000000, 0x800FFFFFFFFFFFFF, 0x4330000000000000, 0x4340000000000000),
    *(0x41E0000000000000, 0xC1E0000000200000, 0x41DFFFFFFFC00000, 0x41EFFFFFFFE00000, 0x43E0000000000000),
    *(0xC3E0000000000000, 0x43F0000000000000, 0x47EFFFFFE0000000, 0x36A0000000000000, 0x3CB0000000000000),
    *(0xFFF8000000000000, 0x7FF8000000000001, 0x7FF0000000000001, 0xFFF7FFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF),
)
# How far an access may reach beyond its address: sizes of loads and stores, and one more.
_AROUND = (0, -1, 1, -2, -3, -4, -8, -16, 2)
PAGE = 65536
PAGES_LIMIT = 8

Call = tuple[str, "Values"]


def many_edges(value_type: str, pages: int = 1) -> list[int]:
    """`EDGES` and more, as the engine contract has values: powers of two, and the end of each of `pages` pages."""
    found = dict.fromkeys(EDGES[value_type])
    found.update(dict.fromkeys(_more(value_type, pages)))
    return list(found)


def _more(value_type: str, pages: int) -> Sequence[int]:
    if value_type in ("f32", "f64"):
        return _MORE_F32 if value_type == "f32" else _MORE_F64
    if value_type == "v128":
        return [_in_lanes(lane, width) for name, width in (("i32", 32), ("f64", 64)) for lane in EDGES[name]]
    width = 32 if value_type == "i32" else 64
    ends = [
        PAGE * page + around for page in sorted({*range(1, min(pages, PAGES_LIMIT) + 1), pages}) for around in _AROUND
    ]
    powers = [(1 << power) + around for power in range(2, width) for around in (0, -1)]
    lowest = 1 << width - 1
    # Signed: -2 ** 31 is above 2 ** 31 - 1.
    return [(value + lowest) % (2 * lowest) - lowest for value in (*ends, *powers, *(-power for power in powers))]


def _in_lanes(value: int, width: int) -> int:
    """The same value in each lane of a vector."""
    lane = value & (1 << width) - 1
    return sum(lane << place for place in range(0, 128, width))


def derived_calls(exports: Mapping[str, ExternType], seed: int = 0, each: int = 8) -> list[list[Call]]:
    """For every exported function that Python can call, a sequence of calls with edge values as arguments.

    A sequence is for an instance of its own. Equal for equal seeds, on every machine.
    """
    return [_sequence(name, type_, f"{seed}/{name}", each) for name, type_ in exports.items() if is_callable(type_)]


def uncallable(exports: Mapping[str, ExternType]) -> list[str]:
    """What exported functions `derived_calls` leaves out, and why."""
    functions = {name: type_ for name, type_ in exports.items() if isinstance(type_, FunctionType)}
    return [
        f"{name}: its type has references, which Python cannot pass: {type_}"
        for name, type_ in functions.items()
        if not is_callable(type_)
    ]


def is_callable(type_: ExternType) -> bool:
    """Whether it is a function that Python can call."""
    return isinstance(type_, FunctionType) and not {*type_.params, *type_.results} & {*REFERENCE_TYPES}


def _sequence(name: str, type_: ExternType, seed: str, each: int) -> list[Call]:
    assert isinstance(type_, FunctionType)
    if not type_.params:
        return [(name, ())] * 2
    choose = random.Random(seed)
    first = tuple(EDGES[param][1] for param in type_.params)
    more = [tuple(choose.choice(EDGES[param]) for param in type_.params) for _ in range(each - 1)]
    return [(name, first), *[(name, values) for values in more]]


def call_text(function: Function, values: Values) -> str:
    """ "add(1, 2)", in Python's values."""
    return f"{function.name}({', '.join(map(repr, function._params.from_bits(values)))})"
