"""Values on their way between Python and Wasm: every type, its edges, and the bits of floats."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.wasm.values import (
    Converter,
    describe,
    f32_bits,
    f32_from_bits,
    f64_bits,
    f64_from_bits,
)
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

# Through Wasm and back, and what Wasm sees as bits.
SAME = """
(module
  (func (export "i32") (param i32) (result i32) local.get 0)
  (func (export "i64") (param i64) (result i64) local.get 0)
  (func (export "f32") (param f32) (result f32) local.get 0)
  (func (export "f64") (param f64) (result f64) local.get 0)
  (func (export "bits32") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
  (func (export "bits64") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
  (func (export "float32") (param i32) (result f32) (f32.reinterpret_i32 (local.get 0)))
  (func (export "float64") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
  (func (export "nothing"))
  (func (export "mixed") (param i32 i64 f32 f64) (result f64)
    (f64.add (f64.convert_i32_s (local.get 0)) (f64.add (f64.convert_i64_s (local.get 1))
      (f64.add (f64.promote_f32 (local.get 2)) (local.get 3))))))
"""
VECTORS = """
(module
  (func (export "same") (param v128) (result v128) local.get 0)
  (func (export "low") (param v128) (result i64) (i64x2.extract_lane 0 (local.get 0)))
  (func (export "make") (param i64 i64) (result v128)
    (i64x2.replace_lane 1 (i64x2.splat (local.get 0)) (local.get 1)))
  (func (export "mixed") (param i32 v128 f64) (result v128) local.get 1)
  (global (export "global") (mut v128) (v128.const i64x2 1 2)))
"""
MULTI = """
(module
  (func (export "pair") (param i32 f64) (result f64 i32) local.get 1 local.get 0)
  (func (export "all") (result i32 i64 f32 f64)
    (i32.const -1) (i64.const -2) (f32.const 1.5) (f64.const -0)))
"""

INTEGERS = [
    *[("i32", value, value) for value in (-(2**31), -1, 0, 1, 2**31 - 1)],
    *[("i32", 2**31, -(2**31)), ("i32", 2**32 - 1, -1)],
    *[("i64", value, value) for value in (-(2**63), -(2**32), -1, 0, 2**32, 2**63 - 1)],
    *[("i64", 2**63, -(2**63)), ("i64", 2**64 - 1, -1)],
]
# Zeros, ones, extremes, denormals, infinities, quiet NaNs of both signs with payloads.
F32_BITS = [
    *[0x00000000, 0x80000000, 0x3F800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x00800000, 0x00000001, 0x807FFFFF],
    *[0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7FC12345, 0xFFFFFFFF],
]
F32_SIGNALLING = [(0x7F800001, 0x7FC00001), (0xFFA00000, 0xFFE00000), (0x7FBFFFFF, 0x7FFFFFFF)]
# The same, and signalling NaNs.
F64_BITS = [
    *[0, 1 << 63, 0x3FF0000000000000, 0x7FEFFFFFFFFFFFFF, 0x0010000000000000, 1, 0x800FFFFFFFFFFFFF],
    *[0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000012345],
    *[0x7FF0000000000001, 0xFFF4000000000000, 0x7FF7FFFFFFFFFFFF],
]


class Index:
    def __index__(self) -> int:
        return 2**32 - 2


class Vector(int):
    """A subclass, as enums and numpy's integers are."""


def signed(bits: int, width: int) -> int:
    return bits - (1 << width) if bits >> (width - 1) else bits


# Through the real engines


def test_integers_go_in_signed_or_unsigned_and_come_out_signed(native: Connection) -> None:
    exports = make(native, SAME).exports
    assert [exports[name](given) for name, given, _ in INTEGERS] == [expected for _, _, expected in INTEGERS]


def test_an_f32_keeps_its_bits_both_ways(native: Connection) -> None:
    exports = make(native, SAME).exports
    assert [f32_bits(exports.f32(f32_from_bits(bits))) for bits in F32_BITS] == F32_BITS
    assert [exports.bits32(f32_from_bits(bits)) for bits in F32_BITS] == [signed(bits, 32) for bits in F32_BITS]
    assert [f32_bits(exports.float32(bits)) for bits in F32_BITS] == F32_BITS


def test_a_signalling_f32_nan_becomes_quiet_and_keeps_its_payload(native: Connection) -> None:
    exports = make(native, SAME).exports
    assert [f32_bits(exports.float32(bits)) for bits, _ in F32_SIGNALLING] == [quiet for _, quiet in F32_SIGNALLING]


def test_an_f64_keeps_its_bits_both_ways_signalling_nans_too(native: Connection) -> None:
    exports = make(native, SAME).exports
    assert [f64_bits(exports.f64(f64_from_bits(bits))) for bits in F64_BITS] == F64_BITS
    assert [exports.bits64(f64_from_bits(bits)) for bits in F64_BITS] == [signed(bits, 64) for bits in F64_BITS]
    assert [f64_bits(exports.float64(bits)) for bits in F64_BITS] == F64_BITS


def test_floats_keep_their_bits_in_map_as_in_calls(native: Connection) -> None:
    exports = make(native, SAME).exports
    assert [f32_bits(value) for value in exports.f32.map([(f32_from_bits(bits),) for bits in F32_BITS])] == F32_BITS
    assert [f64_bits(value) for value in exports.f64.map([(f64_from_bits(bits),) for bits in F64_BITS])] == F64_BITS


def test_an_f32_is_rounded_as_ieee_rounds(native: Connection) -> None:
    f32 = make(native, SAME).exports.f32
    assert f32(0.1) == 0.10000000149011612
    assert f32(1e-50) == 0.0
    assert math.copysign(1, f32(-1e-50)) == -1
    assert f32(16777217) == 16777216.0


def test_what_counts_as_a_number(native: Connection) -> None:
    exports = make(native, SAME).exports
    assert exports.i32(True) == 1
    assert exports.i32(Index()) == -2
    assert exports.i64(Vector(5)) == 5
    assert exports.f64(3) == 3.0
    assert type(exports.f64(3)) is float
    assert exports.f32(2**100) == 2.0**100
    assert exports.f64(Fraction(1, 4)) == 0.25
    assert exports.f64(Decimal("0.5")) == 0.5


def test_results_are_none_a_value_or_a_value_of_mixed_arguments(native: Connection) -> None:
    exports = make(native, SAME).exports
    assert exports.nothing() is None
    assert exports.mixed(-1, -(2**40), 0.5, 0.25) == -1 - 2**40 + 0.75


def test_a_v128_is_an_unsigned_int(capable: Connection) -> None:
    exports = make(capable, VECTORS).exports
    values = [0, 1, 2**64 - 1, 2**64, 2**127, 2**128 - 1, 0x0123456789ABCDEF0011223344556677]
    assert [exports.same(value) for value in values] == values
    assert [exports.low(value) for value in values] == [signed(value & (2**64 - 1), 64) for value in values]
    assert exports.make(-1, 1) == 2**64 + 2**64 - 1
    assert exports.mixed(1, 2**127 + 5, 1.5) == 2**127 + 5
    assert exports.same.map([(value,) for value in values]) == values


def test_a_v128_out_of_range_is_refused(capable: Connection) -> None:
    same = make(capable, VECTORS).exports.same
    text = f"argument 1 (v128) of same(v128) -> (v128) must be in 0 .. {2**128 - 1}, not "
    for value in (-1, 2**128):
        with pytest.raises(OverflowError) as refused:
            same(value)
        assert str(refused.value) == f"{text}{value}"
    with pytest.raises(TypeError) as refused_type:
        same(1.0)
    assert str(refused_type.value) == "argument 1 (v128) of same(v128) -> (v128) must be an int, not 1.0 (float)"


def test_several_results_are_a_tuple(capable: Connection) -> None:
    exports = make(capable, MULTI).exports
    assert exports.pair(3, 0.5) == (0.5, 3)
    assert exports.all() == (-1, -2, 1.5, 0.0)
    assert math.copysign(1, exports.all()[3]) == -1
    assert exports.pair.map([(1, 2.0), (3, 4.0)]) == [(2.0, 1), (4.0, 3)]


# The conversion alone


def converted(type_: str, value: Any) -> int:
    return Converter([type_], lambda index: f"value {index}").to_bits((value,))[0]


def test_the_contract_holds_integers_signed_and_floats_as_bits() -> None:
    converter = Converter(["i32", "i64", "f32", "f64"], str)
    assert converter.to_bits((2**32 - 1, 2**64 - 1, 1.0, -0.0)) == (-1, -1, 0x3F800000, 1 << 63)
    assert converter.to_bits((1, 2, 1, 1)) == (1, 2, 0x3F800000, 0x3FF0000000000000)
    assert converter.from_bits((-1, -1, 0x3F800000, 1 << 63)) == (-1, -1, 1.0, -0.0)


def test_vectors_and_floats_mix() -> None:
    converter = Converter(["v128", "f32", "i64"], str)
    assert converter.to_bits((2**128 - 1, 1.0, 2**63)) == (2**128 - 1, 0x3F800000, -(2**63))
    assert converter.from_bits((2**128 - 1, 0x3F800000, -1)) == (2**128 - 1, 1.0, -1)


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        ("i32", 2**32, "value 0 must be in -2147483648 .. 4294967295, not 4294967296"),
        ("i32", -(2**31) - 1, "value 0 must be in -2147483648 .. 4294967295, not -2147483649"),
        ("i64", 2**64, "value 0 must be in -9223372036854775808 .. 18446744073709551615, not 18446744073709551616"),
        ("i64", -(2**63) - 1, f"value 0 must be in -9223372036854775808 .. {2**64 - 1}, not -9223372036854775809"),
        ("f32", 1e300, "value 0 must fit an f32, not 1e+300 (float)"),
        ("f32", -(2**250), f"value 0 must fit an f32, not {-(2**250)!s:.57}... (int)"),
        ("f32", 10**400, f"value 0 must fit an f32, not 1{'0' * 56}... (int)"),
        ("f64", 10**400, f"value 0 must fit an f64, not 1{'0' * 56}... (int)"),
    ],
    ids=["i32+", "i32-", "i64+", "i64-", "f32", "f32-int", "f32-huge-int", "f64-huge-int"],
)
def test_what_does_not_fit_is_an_overflow_error(type_: str, value: float, message: str) -> None:
    with pytest.raises(OverflowError) as refused:
        converted(type_, value)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        ("i32", 1.0, "value 0 must be an int, not 1.0 (float)"),
        ("i64", None, "value 0 must be an int, not None (NoneType)"),
        ("i32", "1", "value 0 must be an int, not '1' (str)"),
        ("f32", "1.5", "value 0 must be a float, not '1.5' (str)"),
        ("f64", None, "value 0 must be a float, not None (NoneType)"),
        ("f64", 1j, "value 0 must be a float, not 1j (complex)"),
        ("i32", "x" * 100, f"value 0 must be an int, not '{'x' * 56}... (str)"),
    ],
    ids=["i32-float", "i64-none", "i32-str", "f32-str", "f64-none", "f64-complex", "long"],
)
def test_what_is_no_number_is_a_type_error(type_: str, value: object, message: str) -> None:
    with pytest.raises(TypeError) as refused:
        converted(type_, value)
    assert str(refused.value) == message


def test_the_largest_f32_is_where_rounding_ends() -> None:
    halfway = 2.0**128 - 2.0**103
    assert converted("f32", math.nextafter(halfway, 0)) == 0x7F7FFFFF
    with pytest.raises(OverflowError):
        converted("f32", halfway)
    assert converted("f32", math.inf) == 0x7F800000


def test_a_failing_index_method_is_not_hidden() -> None:
    class Broken:
        def __index__(self) -> int:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        converted("i32", Broken())


def test_rows_are_converted_as_single_calls_are() -> None:
    converter = Converter(["i32", "f64"], str)
    rows = [(1, 2.0), (-1, -0.0)]
    assert converter.rows_to_bits(rows) == [converter.to_bits(row) for row in rows]
    assert converter.rows_to_bits([(2**31, 0.0)]) is None, "unsigned: a closer look"
    assert converter.rows_to_bits([(1, 2.0), (1,)]) is None
    assert converter.rows_to_bits([]) is None


def test_bits_of_floats_and_back() -> None:
    assert [f32_bits(f32_from_bits(bits)) for bits in F32_BITS] == F32_BITS
    assert [f64_bits(f64_from_bits(bits)) for bits in F64_BITS] == F64_BITS


def test_long_values_are_cut_in_messages() -> None:
    assert describe("short") == "'short' (str)"
    assert describe(list(range(100))) == f"{str(list(range(100)))[:57]}... (list)"
