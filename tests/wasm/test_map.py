"""`Function.map`: many calls in one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_wasmer.wasm.traps import Trap, TrapKind
from tests import fake_engine
from tests.fake_engine import function
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.function import Function

WAT = """
(module
  (import "env" "seen" (func $seen (param i32) (result i32)))
  (global $calls (export "calls") (mut i32) (i32.const 0))
  (func (export "div") (param i32 i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.div_s (local.get 0) (local.get 1)))
  (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5)))
  (func (export "mixed") (param i64 f32) (result f32) local.get 1)
  (func (export "tick") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
  (func (export "host") (param i32) (result i32) (call $seen (local.get 0))))
"""
FAKE = fake_engine.module(
    {
        "add": function("i32 i32 -> i32", ["sum"]),
        "none": function(" -> ", [["return"]]),
        "trap": function("i32 -> i32", [["trap", "UNREACHABLE"]]),
        "host": function("i32 -> i32", [["host", 0]]),
        "mixed": function("i32 f64 -> f64", [["return", 0]]),
    },
    [("env", "seen", ["func", ["i32"], ["i32"]])],
)


def identity(value: int) -> int:
    return value


def functions(native: Connection, seen: Any = identity) -> Any:
    return make(native, WAT, {"env": {"seen": seen}}).exports


@pytest.fixture
def add(fake: Connection) -> Function:
    found: Function = make(fake, FAKE, {"env": {"seen": identity}}).exports.add
    return found


# Results


def test_results_come_in_order_traps_in_their_places(native: Connection) -> None:
    div = functions(native).div
    outcomes = div.map([(1, 0), (6, 3), (-(2**31), -1), (7, 7), (2**32 - 1, 1), (5, 0)])
    assert [outcome.kind if isinstance(outcome, Trap) else outcome for outcome in outcomes] == [
        *[TrapKind.INTEGER_DIVIDE_BY_ZERO, 2, TrapKind.INTEGER_OVERFLOW, 1, -1],
        TrapKind.INTEGER_DIVIDE_BY_ZERO,
    ]
    first = outcomes[0]
    assert (first.function, first.text.splitlines()[0]) == ("div", "integer divide by zero")


def test_it_gives_what_calls_give(native: Connection) -> None:
    exports = functions(native)
    rows = [(float(number) - 50.25,) for number in range(100)]
    assert exports.half.map(rows) == [exports.half(*row) for row in rows]
    mixed = [(number, number / 3) for number in range(100)]
    assert exports.mixed.map(mixed) == [exports.mixed(*row) for row in mixed]


def test_every_call_is_made_traps_or_not(native: Connection) -> None:
    exports = functions(native)
    exports.div.map([(1, 0)] * 5 + [(1, 1)] * 5)
    assert exports.calls.value == 10
    assert exports.tick.map([()] * 7) == [None] * 7
    assert exports.calls.value == 17


def test_more_rows_than_one_message_holds(native: Connection) -> None:
    div = functions(native).div
    rows: list[tuple[int, int]] = [(number, 1) for number in range(65536 * 2 + 5)]
    trapping = [0, 65535, 65536, 131071, 131072, len(rows) - 1]
    for index in trapping:
        rows[index] = (1, 0)
    outcomes = div.map(rows)
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Trap)] == trapping
    assert [outcome for outcome in outcomes if not isinstance(outcome, Trap)] == [
        number for number in range(len(rows)) if number not in trapping
    ]


def test_no_rows_no_results(add: Function, native: Connection) -> None:
    assert add.map([]) == []
    assert add.map(iter(())) == []
    assert functions(native).div.map([]) == []


def test_any_iterable_of_rows(add: Function) -> None:
    class Pair(NamedTuple):
        left: int
        right: int

    assert add.map((number, 1) for number in range(3)) == [1, 2, 3]
    assert add.map(zip([1, 2], [3, 4], strict=True)) == [4, 6]
    assert add.map([[1, 2], (3, 4), Pair(5, 6)]) == [3, 7, 11]
    assert add.map({(1, 2): "a mapping's keys"}) == [3]


def test_functions_without_parameters_or_results(fake: Connection) -> None:
    exports = make(fake, FAKE, {"env": {"seen": identity}}).exports
    assert exports.none.map([(), ()]) == [None, None]
    assert [type(outcome) for outcome in exports.trap.map([(1,)] * 3)] == [Trap] * 3
    assert [str(outcome) for outcome in exports.trap.map([(1,)])] == ["unreachable on fake-a"]


# Refusals: nothing has been called then


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([(1, 2), (1,)], TypeError, "add(i32, i32) -> (i32) takes 2 arguments, 1 was given"),
        ([(1, 2, 3)], TypeError, "add(i32, i32) -> (i32) takes 2 arguments, 3 were given"),
        ([(1, 2), ("x", 1)], TypeError, "argument 1 (i32) of add(i32, i32) -> (i32) must be an int, not 'x' (str)"),
        (
            [(1, 2), (1, 2**32)],
            OverflowError,
            "argument 2 (i32) of add(i32, i32) -> (i32) must be in -2147483648 .. 4294967295, not 4294967296",
        ),
        ([1, 2], TypeError, "map of add takes tuples of arguments, not int: [(1, 2), (3, 4)]"),
        (["ab"], TypeError, "map of add takes tuples of arguments, not str: [(1, 2), (3, 4)]"),
        ([b"ab"], TypeError, "map of add takes tuples of arguments, not bytes: [(1, 2), (3, 4)]"),
        ([{1, 2}], TypeError, "map of add takes tuples of arguments, not set: [(1, 2), (3, 4)]"),
        ([{1: 2, 3: 4}], TypeError, "map of add takes tuples of arguments, not dict: [(1, 2), (3, 4)]"),
        ([None], TypeError, "map of add takes tuples of arguments, not NoneType: [(1, 2), (3, 4)]"),
    ],
    ids=["short", "long", "type", "range", "ints", "str", "bytes", "set", "dict", "none"],
)
def test_wrong_rows_say_what_is_wrong(add: Function, rows: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refused:
        add.map(rows)
    assert str(refused.value) == message


def test_a_wrong_row_is_found_before_any_call(native: Connection) -> None:
    exports = functions(native)
    with pytest.raises(TypeError):
        exports.div.map([(1, 1), (1, 1), (1, None)])
    assert exports.calls.value == 0


def test_an_exception_of_the_iterable_is_the_caller_s(add: Function) -> None:
    def rows() -> Any:
        yield (1, 2)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        add.map(rows())


# Host functions


def test_host_functions_are_called_row_by_row(native: Connection) -> None:
    seen: list[int] = []

    def note(value: int) -> int:
        seen.append(value)
        return value * 10

    assert functions(native, note).host.map([(number,) for number in range(5)]) == [0, 10, 20, 30, 40]
    assert seen == [0, 1, 2, 3, 4]


def test_an_exception_of_a_host_function_ends_the_map(native: Connection) -> None:
    seen: list[int] = []
    error = LookupError("mine")

    def note(value: int) -> int:
        seen.append(value)
        if value == 3:
            raise error
        return value

    host = functions(native, note).host
    with pytest.raises(LookupError) as raised:
        host.map([(number,) for number in range(10)])
    assert raised.value is error
    assert seen == [0, 1, 2, 3]
    assert host.map([(7,), (8,)]) == [7, 8]


def test_a_host_function_may_map_too(native: Connection) -> None:
    exports: list[Any] = []

    def nested(value: int) -> int:
        return sum(exports[0].div.map([(value, 1), (value, 2)]))

    exports.append(functions(native, nested))
    assert exports[0].host.map([(10,), (20,)]) == [15, 30]


def test_a_trap_of_a_host_function_ends_the_map_as_any_exception(native: Connection) -> None:
    exports: list[Any] = []
    exports.append(functions(native, lambda value: exports[0].div(1, value)))
    with pytest.raises(Trap) as trapped:
        exports[0].host.map([(1,), (0,), (2,)])
    assert trapped.value.kind is TrapKind.INTEGER_DIVIDE_BY_ZERO
    assert trapped.value.function == "div"
