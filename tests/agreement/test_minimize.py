"""Minimizing: what is left is needed, and always the same."""

from __future__ import annotations

import random

import pytest

from pytest_wasmer.agreement.bundles.minimize import fewer, minimized
from pytest_wasmer.agreement.bundles.recording import Recording
from tests.agreement.recordings import MADE, ODD_CALL, SAME_CALL, WASM, recording


@pytest.mark.parametrize("seed", range(20))
def test_fewer_is_minimal(seed: int) -> None:
    chance = random.Random(seed)
    items = list(range(chance.randrange(1, 60)))
    needed = {*chance.sample(items, min(len(items), chance.randrange(5)))}
    assert fewer(items, lambda kept: needed <= {*kept}) == sorted(needed)


def test_fewer_of_what_depends_on_each_other() -> None:
    """Without any one of what is left it does not hold."""

    def holds(kept: list[int]) -> bool:
        return len(kept) % 2 == 0 and 7 in kept

    assert len(fewer(range(20), holds)) == 2


def test_fewer_goes_on_as_long_as_something_goes() -> None:
    assert fewer([3, 7, 5], lambda kept: 7 in kept and (5 not in kept or 3 in kept)) == [7]


def test_what_only_a_row_needed_goes_with_it() -> None:
    whole = recording(("get", 0, "g"), ("value", "f32", 0), ("map", 0, "odd", "i32", [[1], [2]]))

    def holds(found: Recording) -> bool:
        return "[2]" in repr(found.events) and ("[1]" not in repr(found.events) or "get" in repr(found.events))

    assert minimized(whole, holds).events == [*MADE, ("map", 0, "odd", "i32", [[2]])]


def test_steps_rows_and_what_happens_within_host_calls() -> None:
    whole = recording(
        *SAME_CALL,
        ("new", 1, "w", []),
        ("made",),
        ("get", 1, "g"),
        ("value", "f32", 0),
        ("map", 0, "odd", "i32", [[1], [2], [3]]),
        ("results", "i32", [[42], [42], [42]]),
        ("call", 0, "ask", "i32", 1),
        ("host", "env.h", "i32", 1),
        *SAME_CALL,
        ("write", 0, "m", 0, "ff"),
        ("return", "i32", 1),
        ("result", "i32", 1),
        *ODD_CALL,
    )
    asked = []

    def holds(found: Recording) -> bool:
        asked.append(found)
        text = repr(found.events)
        return "[2]" in text and "'ff'" in text

    small = minimized(whole, holds)
    assert small.events == [
        *MADE,
        ("map", 0, "odd", "i32", [[2]]),
        ("results", "i32", [[42], [42], [42]]),
        ("call", 0, "ask", "i32", 1),
        ("host", "env.h", "i32", 1),
        ("write", 0, "m", 0, "ff"),
        ("return", "i32", 1),
        ("result", "i32", 1),
    ]
    assert len({repr(found.events) for found in asked}) == len(asked)  # nothing is tried twice
    assert minimized(whole, holds) == small == minimized(small, holds)


def test_an_instance_goes_with_all_that_is_about_it() -> None:
    whole = Recording([*MADE, *SAME_CALL, ("new", 1, "w", []), ("made",), ("size", 1, "m")], {"w": WASM}, {})
    assert minimized(whole, lambda found: "size" in repr(found.events)).events == [*MADE, ("size", 0, "m")]
    assert minimized(whole, lambda _: True) == Recording([], {}, {})
