"""Every kind of trap, right at the edge of what still works, and that an instance survives it."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from pytest_wasmer import Instance, Trap, TrapKind

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
I64_MIN, I64_MAX = -(2**63), 2**63 - 1
INF, NAN = math.inf, math.nan


@pytest.fixture(scope="module")
def traps(wasm_instance: Callable[..., Instance]) -> Instance:
    return wasm_instance("modules/traps.wat")


@pytest.mark.parametrize(
    ("function", "arguments", "kind"),
    [
        ("assert", [(0,)], TrapKind.UNREACHABLE),
        ("i32.div_s", [(1, 0), (0, 0), (I32_MIN, 0)], TrapKind.INTEGER_DIVIDE_BY_ZERO),
        ("i32.rem_u", [(1, 0), (-1, 0)], TrapKind.INTEGER_DIVIDE_BY_ZERO),
        ("i64.div_s", [(1, 0), (I64_MIN, 0)], TrapKind.INTEGER_DIVIDE_BY_ZERO),
        ("i64.rem_s", [(1, 0), (I64_MIN, 0)], TrapKind.INTEGER_DIVIDE_BY_ZERO),
        ("i32.div_s", [(I32_MIN, -1)], TrapKind.INTEGER_OVERFLOW),
        ("i64.div_s", [(I64_MIN, -1)], TrapKind.INTEGER_OVERFLOW),
        ("i32.trunc_f64_s", [(2.0**31,), (-(2.0**31) - 1,), (INF,), (-INF,)], TrapKind.INTEGER_OVERFLOW),
        ("i32.trunc_f64_u", [(2.0**32,), (-1.0,), (INF,), (-INF,)], TrapKind.INTEGER_OVERFLOW),
        ("i64.trunc_f64_s", [(2.0**63,), (-(2.0**63) - 2048,), (1e300,)], TrapKind.INTEGER_OVERFLOW),
        ("i64.trunc_f32_u", [(2.0**64,), (-1.0,), (INF,)], TrapKind.INTEGER_OVERFLOW),
        ("i32.trunc_f64_s", [(NAN,), (-NAN,)], TrapKind.INVALID_CONVERSION_TO_INTEGER),
        ("i32.trunc_f64_u", [(NAN,)], TrapKind.INVALID_CONVERSION_TO_INTEGER),
        ("i64.trunc_f64_s", [(NAN,)], TrapKind.INVALID_CONVERSION_TO_INTEGER),
        ("i64.trunc_f32_u", [(NAN,)], TrapKind.INVALID_CONVERSION_TO_INTEGER),
        ("load8", [(65536,), (I32_MIN,), (-1,)], TrapKind.MEMORY_OUT_OF_BOUNDS),
        ("load64", [(65529,), (65536,), (-1,)], TrapKind.MEMORY_OUT_OF_BOUNDS),
        ("load_far", [(1,), (-65532,), (-1,)], TrapKind.MEMORY_OUT_OF_BOUNDS),
        ("store32", [(65533, 1), (65536, 1), (-4, 1)], TrapKind.MEMORY_OUT_OF_BOUNDS),
        ("fill", [(0, 65537), (65536, 1), (-1, 2)], TrapKind.MEMORY_OUT_OF_BOUNDS),
        ("copy", [(0, 1, 65536), (1, 0, 65536), (0, -1, 2)], TrapKind.MEMORY_OUT_OF_BOUNDS),
        ("call_unary", [(3, 1), (-1, 1), (I32_MAX, 1)], TrapKind.TABLE_OUT_OF_BOUNDS),
        ("call_unary", [(2, 1)], TrapKind.INDIRECT_CALL_TO_NULL),
        ("call_unary", [(1, 1)], TrapKind.BAD_SIGNATURE),
        ("descend", [(100_000_000,)], TrapKind.STACK_OVERFLOW),
    ],
)
def test_trap(traps: Instance, function: str, arguments: list[tuple[Any, ...]], kind: TrapKind) -> None:
    for values in arguments:
        with pytest.raises(Trap) as trapped:
            traps.exports[function](*values)
        assert trapped.value.kind is kind, values
    assert traps.exports.call_unary(0, 21) == 42


@pytest.mark.parametrize(
    ("function", "results"),
    [
        ("assert", {(5,): 5}),
        ("i32.div_s", {(7, -2): -3, (I32_MIN, 1): I32_MIN, (I32_MIN + 1, -1): I32_MAX}),
        ("i32.rem_u", {(7, 2): 1, (-1, 10): 5}),
        ("i64.rem_s", {(-7, 2): -1, (I64_MIN, -1): 0}),
        ("i32.trunc_f64_s", {(2.0**31 - 2**-22,): I32_MAX, (-(2.0**31) - 0.999,): I32_MIN, (-0.9,): 0}),
        ("i32.trunc_f64_u", {(-0.999,): 0, (2.0**32 - 0.5,): -1}),
        ("i64.trunc_f64_s", {(2.0**63 - 1024,): 2**63 - 1024, (-(2.0**63),): I64_MIN}),
        ("i64.trunc_f32_u", {(2.0**64 - 2**40,): -(2**40), (-0.5,): 0}),
        ("load8", {(0,): 1, (65535,): 0}),
        ("load64", {(0,): 0x0807060504030201, (65528,): 0}),
        ("load_far", {(0,): 0}),
        ("descend", {(0,): 0, (1000,): 1000}),
    ],
)
def test_edge_that_does_not_trap(traps: Instance, function: str, results: dict[tuple[Any, ...], int]) -> None:
    assert traps.exports[function].map(list(results)) == list(results.values())


def test_map_collects_traps_between_results(traps: Instance) -> None:
    three, trap, four = traps.exports["i32.div_s"].map([(6, 2), (6, 0), (8, 2)])
    assert (three, trap.kind, four) == (3, TrapKind.INTEGER_DIVIDE_BY_ZERO, 4)


def test_refused_bulk_write_writes_nothing(wasm_instance: Callable[..., Instance]) -> None:
    fresh = wasm_instance("modules/traps.wat")
    with pytest.raises(Trap):
        fresh.exports.fill(65530, 7)
    assert fresh.memory[65530:] == bytes(6)
    fresh.exports.fill(65530, 6)
    assert fresh.memory[65530:] == b"\xaa" * 6


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("unreachable", TrapKind.UNREACHABLE),
        ("(drop (i32.load (i32.const 65536)))", TrapKind.MEMORY_OUT_OF_BOUNDS),
    ],
)
def test_start_function_that_traps(wasm_instance: Callable[..., Instance], body: str, kind: TrapKind) -> None:
    with pytest.raises(Trap) as trapped:
        wasm_instance(f"(module (memory 1) (start 0) (func {body}))")
    assert trapped.value.kind is kind
