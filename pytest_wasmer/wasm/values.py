"""Values: Python's on one side, the engine contract's (ints; floats as bits) on the other.

Floats cross as bits, so that a NaN keeps its payload. A Python float cannot hold a *signalling* f32 NaN: use
`f32_bits`, `f64_bits` and their reverses to look at NaNs.
"""

from __future__ import annotations

import operator
import struct
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pytest_wasmer.engines.api import Values

# Formats of `struct`: as Python values, and as values of the contract.
PYTHON_FORMATS = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
BITS_FORMATS = {"i32": "i", "i64": "q", "f32": "I", "f64": "Q"}
BITS = {"i32": 32, "i64": 64, "f32": 32, "f64": 64, "v128": 128}


def f32_bits(value: float) -> int:
    """The 32 bits of `value` rounded to f32."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def f64_bits(value: float) -> int:
    """The 64 bits of `value`."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def f32_from_bits(bits: int) -> float:
    """The f32 with these 32 bits; a signalling NaN becomes quiet, as a Python float is an f64."""
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def f64_from_bits(bits: int) -> float:
    """The f64 with these 64 bits."""
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


class Converter:
    """Values of a list of types, to bits and back.

    `what` says how one value is called in messages: `what(index)` -> "argument 1 (i32) of add".
    """

    def __init__(self, types: Sequence[str], what: Callable[[int], str]) -> None:
        self.types = tuple(types)
        self._what = what
        self._plain = "v128" not in types
        self._python = struct.Struct("<" + "".join(PYTHON_FORMATS.get(name, "16s") for name in types))
        self._bits = struct.Struct("<" + "".join(BITS_FORMATS.get(name, "16s") for name in types))
        self._floats = any(name in ("f32", "f64") for name in types)

    def to_bits(self, values: Sequence[Any]) -> Values:
        """Values of the contract. Raises TypeError or OverflowError naming the first value that does not fit.

        The count is the caller's to check. Integers may be signed or unsigned, and come out signed.
        """
        __tracebackhide__ = True
        if self._plain:
            try:
                return self._bits.unpack(self._python.pack(*values))
            except (struct.error, TypeError, OverflowError, ValueError):
                pass  # unsigned, or an error: say which
        bits = []
        for index, value in enumerate(values):  # a comprehension would be a frame in tracebacks
            bits.append(self._one_to_bits(index, value))
        return tuple(bits)

    def rows_to_bits(self, rows: Sequence[Sequence[Any]]) -> list[Values] | None:
        """`to_bits` of many rows at C speed; None where some row needs a closer look."""
        width = len(self.types)
        if not self._plain or not width or {*map(type, rows)} - {tuple, list} or {*map(len, rows)} != {width}:
            return None
        formats = [PYTHON_FORMATS[name] for name in self.types]
        alike = len(set(formats)) == 1
        layout = f"<{len(rows) * width}{formats[0]}" if alike else "<" + "".join(formats) * len(rows)
        try:
            packed = struct.Struct(layout).pack(*chain.from_iterable(rows))
        except (struct.error, TypeError, OverflowError, ValueError):
            return None
        return list(self._bits.iter_unpack(packed))

    def _one_to_bits(self, index: int, value: Any) -> int:
        __tracebackhide__ = True
        name = self.types[index]
        if name in ("f32", "f64"):
            return self._float_to_bits(index, value)
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{self._what(index)} must be an int, not {describe(value)}") from None
        width = BITS[name]
        lowest = 0 if name == "v128" else -(1 << width - 1)
        if not lowest <= number < 1 << width:
            raise OverflowError(f"{self._what(index)} must be in {lowest} .. {(1 << width) - 1}, not {number}")
        return number if name == "v128" or number < 1 << width - 1 else number - (1 << width)

    def _float_to_bits(self, index: int, value: Any) -> int:
        __tracebackhide__ = True
        name = self.types[index]
        try:
            # struct says of an int that is too large that it is no float.
            number = float(value) if isinstance(value, int) else value
            return f32_bits(number) if name == "f32" else f64_bits(number)
        except OverflowError:
            raise OverflowError(f"{self._what(index)} must fit an {name}, not {describe(value)}") from None
        except (struct.error, TypeError):
            raise TypeError(f"{self._what(index)} must be a float, not {describe(value)}") from None

    def from_bits(self, values: Values) -> tuple[Any, ...]:
        """Python values: signed ints, floats, unsigned ints for v128."""
        if not self._floats:
            return values
        if self._plain:
            return self._python.unpack(self._bits.pack(*values))
        return tuple([from_bits(name, value) for name, value in zip(self.types, values, strict=True)])


def from_bits(name: str, value: int) -> Any:
    """One Python value."""
    if name == "f32":
        return f32_from_bits(value)
    return f64_from_bits(value) if name == "f64" else value


def describe(value: object) -> str:
    """A value in a message: what it is and of which type, cut where it is long."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
