"""Calls of Wasm -> Python -> Wasm: how deep they go, and what is beyond."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime.host import NESTING_LIMIT
from tests import fake_engine
from tests.fake_engine import function, memory
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.runtime.connection import Connection

# Frames to begin with, where the rest of the stack is to be filled.
ALMOST = sys.getrecursionlimit() - 300

WAT = """
(module
  (import "env" "down" (func $down (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) (call $down (local.get 0))))
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    yield
    assert sys.getrecursionlimit() == limit


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


def test_to_depth_100_while_something_is_to_be_released(native: Connection) -> None:
    """Which has to wait until no call is under way, and must not cost frames meanwhile."""
    exports: list[Any] = []

    def down(depth: int) -> int:
        if depth == NESTING_LIMIT - 1:
            make(native, WAT, {"env": {"down": down}})
        return int(exports[0].go(depth - 1)) + 1 if depth else 0

    exports.append(make(native, WAT, {"env": {"down": down}}).exports)
    assert exports[0].go(NESTING_LIMIT - 1) == NESTING_LIMIT - 1


FAKE = fake_engine.module(
    {"go": function("i32 -> i32", [["host", 0]]), "memory": memory(1)}, [("env", "down", ["func", ["i32"], ["i32"]])]
)


def test_the_same_on_any_python(fake: Connection) -> None:
    """Pythons count frames in different ways."""
    exports: list[Any] = []

    def down(depth: int) -> int:
        return int(exports[0].go(depth - 1)) + 1 if depth else 0

    exports.append(make(fake, FAKE, {"env": {"down": down}}).exports)
    for _ in range(2):
        assert exports[0].go(NESTING_LIMIT - 1) == NESTING_LIMIT - 1
        with pytest.raises(RecursionError, match=r"^Wasm and Python call each other more than 100 deep"):
            exports[0].go(NESTING_LIMIT)


def test_a_full_stack_breaks_nothing_on_any_python(fake: Connection) -> None:
    instance = make(fake, FAKE, {"env": {"down": lambda value: value + 1}})
    go, found = instance.exports.go, instance.memory

    rounds: list[int] = []

    def recurse(above: int) -> int:
        assert go(1) == 2
        assert go.map([(1,), (2,)]) == [2, 3]
        assert found.read(0, 1) == b"\0"
        rounds.append(above)
        return recurse(above)

    for above in range(16):
        with pytest.raises(RecursionError):
            deeper(ALMOST + above, partial(recurse, above))
        assert go(above) == above + 1
    assert set(rounds) == {*range(16)}, "the stack must not have been full before"


def deeper(frames: int, work: Callable[[], int]) -> int:
    return deeper(frames - 1, work) if frames else work()


@pytest.mark.parametrize("between", [3, 10])
def test_python_s_own_limit_is_a_recursion_error_too_wherever_it_strikes(native: Connection, between: int) -> None:
    """The stack ends at another place of the transport's code for each number of frames on top."""
    go = nest(native, lambda work: deeper(between, work))
    for above in range(16):
        with pytest.raises(RecursionError):
            deeper(above, lambda: go(10_000))
        assert native.hosts.depth == 0
        assert go(3) == 3


def test_a_call_near_python_s_limit_fails_or_works_but_breaks_nothing(native: Connection) -> None:
    """A recursive test, say of a generated program: its calls may be the ones that find the stack full."""
    wat = '(module (func (export "same") (param i32) (result i32) local.get 0) (memory (export "memory") 1))'
    instance = make(native, wat)
    same, memory = instance.exports.same, instance.memory

    rounds: list[int] = []

    def recurse(above: int) -> int:
        assert same(above) == above
        assert memory.read(0, 1) == b"\0"
        rounds.append(above)
        return recurse(above)

    for above in range(8):
        with pytest.raises(RecursionError):
            deeper(ALMOST + above, partial(recurse, above))
        assert same(above) == above
    assert set(rounds) == {*range(8)}, "the stack must not have been full before"
