"""Arguments that are likely to tell programs apart: the edges of each value type, and calls made of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pytest_wasmer.wasm.function import Function
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType

if TYPE_CHECKING:
    from collections.abc import Mapping

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

Call = tuple[str, "Values"]


def derived_calls(exports: Mapping[str, ExternType], seed: int = 0, each: int = 8) -> list[list[Call]]:
    """For every exported function that Python can call, a sequence of calls with edge values as arguments.

    A sequence is for an instance of its own. Equal for equal seeds, on every machine.
    """
    return [_sequence(name, type_, f"{seed}/{name}", each) for name, type_ in exports.items() if _is_callable(type_)]


def uncallable(exports: Mapping[str, ExternType]) -> list[str]:
    """What exported functions `derived_calls` leaves out, and why."""
    functions = {name: type_ for name, type_ in exports.items() if isinstance(type_, FunctionType)}
    return [
        f"{name}: its type has references, which Python cannot pass: {type_}"
        for name, type_ in functions.items()
        if not _is_callable(type_)
    ]


def _is_callable(type_: ExternType) -> bool:
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
