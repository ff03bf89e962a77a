"""Calls of Wasm -> Python -> Wasm: how deep they go, and what is beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime.host import NESTING_LIMIT
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.connection import Connection

WAT = """
(module
  (import "env" "down" (func $down (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) (call $down (local.get 0))))
"""


def nest(native: Connection, between: Callable[[Callable[[], int]], int] = lambda work: work()) -> Callable[[int], int]:
    """go(n): n + 1 host calls, each within the one before."""
    exports: list[Any] = []

    def down(depth: int) -> int:
        return between(lambda: exports[0].go(depth - 1)) + 1 if depth else 0

    exports.append(make(native, WAT, {"env": {"down": down}}).exports)
    return exports[0].go  # type: ignore[no-any-return]


def test_to_depth_100(native: Connection) -> None:
    exports: list[Any] = []

    def down(depth: int) -> int:
        return int(exports[0].go(depth - 1)) + 1 if depth else 0

    exports.append(make(native, WAT, {"env": {"down": down}}).exports)
    assert exports[0].go(99) == 99


def test_with_some_frames_of_the_test_s_own_between(native: Connection) -> None:
    assert nest(native)(49) == 49


def test_beyond_it_is_a_recursion_error_that_says_so(native: Connection) -> None:
    exports: list[Any] = []
    calls = 0

    def down(depth: int) -> int:
        nonlocal calls
        calls += 1
        return int(exports[0].go(depth - 1)) + 1 if depth else 0

    exports.append(make(native, WAT, {"env": {"down": down}}).exports)
    with pytest.raises(RecursionError) as refused:
        exports[0].go(NESTING_LIMIT)
    assert str(refused.value) == "Wasm and Python call each other more than 100 deep, last through env.down"
    assert calls == NESTING_LIMIT
    assert exports[0].go(5) == 5


def deeper(frames: int, work: Callable[[], int]) -> int:
    return deeper(frames - 1, work) if frames else work()


@pytest.mark.parametrize("between", [3, 10])
def test_python_s_own_limit_is_a_recursion_error_too_wherever_it_strikes(native: Connection, between: int) -> None:
    """The stack ends at another place of the transport's code for each number of frames on top."""
    go = nest(native, lambda work: deeper(between, work))
    for above in range(16):
        with pytest.raises(RecursionError):
            deeper(above, lambda: go(10_000))
        assert go(3) == 3


def test_a_call_near_python_s_limit_fails_or_works_but_breaks_nothing(native: Connection) -> None:
    """A recursive test, say of a generated program: its calls may be the ones that find the stack full."""
    wat = '(module (func (export "same") (param i32) (result i32) local.get 0) (memory (export "memory") 1))'
    instance = make(native, wat)
    same, memory = instance.exports.same, instance.memory

    def recurse(depth: int) -> None:
        assert same(depth) == depth
        assert memory.read(0, 1) == b"\0"
        recurse(depth + 1)

    for above in range(8):
        with pytest.raises(RecursionError):
            deeper(above, lambda: recurse(0))  # type: ignore[arg-type, return-value]
        assert same(above) == above
