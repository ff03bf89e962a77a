"""Each integer and float instruction on edge values and random ones, against Python's numbers."""

import math
import random
import struct
from collections.abc import Callable
from itertools import product

import pytest
from pytest_wasmer import Instance, Trap, TrapKind

FLOATS = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-310, 2.0**52 - 0.5, 1e308, math.inf, -math.inf, math.nan]


@pytest.fixture(scope="module")
def numeric(wasm_instance: Callable[..., Instance]) -> Instance:
    return wasm_instance("modules/numeric.wat")


def integers(bits: int) -> list[int]:
    edges = [0, 1, -1, 2, 7, -7, bits - 1, bits, bits + 1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]
    chooser = random.Random(bits)
    return edges + [chooser.randrange(-(2 ** (bits - 1)), 2 ** (bits - 1)) for _ in range(9)]


def signed(value: int, bits: int) -> int:
    value %= 2**bits
    return value - 2**bits if value >> (bits - 1) else value


def divide(a: int, b: int, bits: int) -> int | TrapKind:
    if b == 0:
        return TrapKind.INTEGER_DIVIDE_BY_ZERO
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return TrapKind.INTEGER_OVERFLOW if quotient == 2 ** (bits - 1) else quotient


def remainder(a: int, b: int) -> int | TrapKind:
    return TrapKind.INTEGER_DIVIDE_BY_ZERO if b == 0 else abs(a) % abs(b) * (-1 if a < 0 else 1)


def rotate_left(a: int, b: int, bits: int) -> int:
    a, b = a % 2**bits, b % bits
    return a << b | a >> (bits - b)


BINARY: dict[str, Callable[[int, int, int], int | TrapKind]] = {
    "add": lambda a, b, n: a + b,
    "sub": lambda a, b, n: a - b,
    "mul": lambda a, b, n: a * b,
    "div_s": divide,
    "div_u": lambda a, b, n: a % 2**n // (b % 2**n) if b else TrapKind.INTEGER_DIVIDE_BY_ZERO,
    "rem_s": lambda a, b, n: remainder(a, b),
    "rem_u": lambda a, b, n: a % 2**n % (b % 2**n) if b else TrapKind.INTEGER_DIVIDE_BY_ZERO,
    "and": lambda a, b, n: a & b,
    "or": lambda a, b, n: a | b,
    "xor": lambda a, b, n: a ^ b,
    "shl": lambda a, b, n: a << b % n,
    "shr_s": lambda a, b, n: a >> b % n,
    "shr_u": lambda a, b, n: a % 2**n >> b % n,
    "rotl": rotate_left,
    "rotr": lambda a, b, n: rotate_left(a, -b, n),
    "lt_s": lambda a, b, n: int(a < b),
    "lt_u": lambda a, b, n: int(a % 2**n < b % 2**n),
}
UNARY: dict[str, Callable[[int, int], int]] = {
    "clz": lambda a, n: n - (a % 2**n).bit_length(),
    "ctz": lambda a, n: (a & -a).bit_length() - 1 if a else n,
    "popcnt": lambda a, n: (a % 2**n).bit_count(),
    "extend8_s": lambda a, n: signed(a, 8),
    "extend16_s": lambda a, n: signed(a, 16),
}


@pytest.mark.parametrize("instruction", BINARY)
@pytest.mark.parametrize("bits", [32, 64])
def test_integers(numeric: Instance, bits: int, instruction: str) -> None:
    pairs = list(product(integers(bits), repeat=2))
    outcomes = numeric.exports[f"i{bits}.{instruction}"].map(pairs)
    for (a, b), outcome in zip(pairs, outcomes, strict=True):
        expected = BINARY[instruction](a, b, bits)
        if isinstance(expected, int):
            assert outcome == signed(expected, bits), (a, b)
        else:
            assert isinstance(outcome, Trap), (a, b)
            assert outcome.kind is expected, (a, b)


@pytest.mark.parametrize("instruction", UNARY)
@pytest.mark.parametrize("bits", [32, 64])
def test_integer_of_one(numeric: Instance, bits: int, instruction: str) -> None:
    results = numeric.exports[f"i{bits}.{instruction}"].map([(a,) for a in integers(bits)])
    assert results == [UNARY[instruction](a, bits) for a in integers(bits)]


def round_by(function: Callable[[float], int]) -> Callable[[float], float]:
    """Python's rounding functions, for infinities too and with the sign of zero that IEEE 754 wants."""
    return lambda a: math.copysign(function(a), a) if math.isfinite(a) else a


def divide_floats(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def extreme(choose: Callable[[float, float], float], zero_wins: float) -> Callable[[float, float], float]:
    def either(a: float, b: float) -> float:
        if math.isnan(a) or math.isnan(b):
            return math.nan
        if a == b == 0:
            return a if math.copysign(1, a) == zero_wins else b
        return choose(a, b)

    return either


FLOAT: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": divide_floats,
    "min": extreme(min, -1),
    "max": extreme(max, 1),
    "copysign": math.copysign,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.copysign(0, a) if a == 0 else math.nan,
    "ceil": round_by(math.ceil),
    "floor": round_by(math.floor),
    "trunc": round_by(math.trunc),
    "nearest": round_by(round),
}


def bits_of(value: float) -> bytes:
    """Equal for equal floats, -0.0 and 0.0 told apart, all NaNs the same: their bits are free to differ."""
    return b"NaN" if math.isnan(value) else struct.pack("<d", value)


@pytest.mark.parametrize("instruction", FLOAT)
def test_floats(numeric: Instance, instruction: str) -> None:
    function = numeric.exports[f"f64.{instruction}"]
    arguments = list(product(FLOATS, repeat=len(function.type.params)))
    for values, result in zip(arguments, function.map(arguments), strict=True):
        assert bits_of(result) == bits_of(FLOAT[instruction](*values)), values
