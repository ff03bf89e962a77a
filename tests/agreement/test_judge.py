"""Verdicts on sequences of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.agreement.judge import AGREED, DIVERGED, INCOMPARABLE, OTHER_HISTORY, Level, Verdict, judge
from pytest_wasmer.agreement.observe import Observation

if TYPE_CHECKING:
    from pytest_wasmer.agreement.events import Event

NEW: list[Event] = [("new", 0, "d1", []), ("made",)]
CALL: Event = ("call", 0, "f", "i32", 7)
LENIENT, STRICT = Level(), Level(strict=True)
NAN32, OTHER_NAN32 = 0x7FC00000, 0xFFC00001
NAN64, OTHER_NAN64 = 0x7FF8000000000000, 0xFFF8000000000001


def seen(*events: Event, state: list[Event] | None = None, **more: Any) -> Observation:
    told = [*NEW, *events]
    return Observation("v", told, more.get("total", len(told)), more.get("checkpoints", []), state or [], "")


def verdict(*observations: Observation, level: Level = LENIENT) -> Verdict:
    names = ["singlepass", "cranelift", "llvm"]
    return judge(dict(zip(names, observations, strict=False)), level)


def result(*bits: int, types: str = "i32") -> Event:
    return ("result", types, *bits)


def test_equal_sequences_agree() -> None:
    assert verdict(*[seen(CALL, result(1))] * 3) == Verdict(AGREED)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (result(1), result(2)),
        (result(1), ("trap", "UNREACHABLE")),
        (("trap", "UNREACHABLE"), ("trap", "INTEGER_OVERFLOW")),
        (result(1), ("host", "env.log", "i32", 1)),
        (("host", "env.log", "i32", 1), ("host", "env.log", "i32", 2)),
        (("host", "env.log", "i32", 1), ("host", "env.other", "i32", 1)),
        (result(0, types="f32"), result(0x80000000, types="f32")),
        (result(1), ("raised", "ValueError")),
        (("refused", "grow"), ("number", 1)),
        (("data", 0, "00"), ("data", 0, "01")),
        (("value", "i32", 1), ("value", "i32", 2)),
        (("results", "i32", [[1], "UNREACHABLE"]), ("results", "i32", [[1], [2]])),
    ],
)
def test_other_outputs_after_equal_inputs_are_a_divergence(one: Event, other: Event) -> None:
    found = verdict(seen(CALL, one), seen(CALL, one), seen(CALL, other))
    assert found.kind == DIVERGED
    assert found.outcomes == {"singlepass": one, "cranelift": one, "llvm": other}
    assert list(found.before) == [*NEW, CALL]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CALL, ("call", 0, "f", "i32", 8)),
        (CALL, ("call", 0, "g", "i32", 7)),
        (("write", 0, "m", 0, "00"), ("write", 0, "m", 0, "01")),
        (("set", 0, "g", "i32", 1), ("set", 0, "g", "i32", 2)),
        (("new", 1, "d2", []), ("new", 1, "d3", [])),
        (("return", "i32", 1), ("return", "i32", 2)),
        (("return", "i32", 1), ("raise", "ValueError")),
    ],
)
def test_other_inputs_say_that_the_test_is_not_deterministic(one: Event, other: Event) -> None:
    found = verdict(seen(one, result(1)), seen(other, result(2)))
    assert (found.kind, found.reason) == (INCOMPARABLE, "the test itself is not deterministic")
    assert found.outcomes == {"singlepass": one, "cranelift": other}


def test_a_test_that_goes_on_elsewhere_is_not_deterministic() -> None:
    found = verdict(seen(CALL, result(1)), seen(CALL, result(1), CALL, result(1)))
    assert (found.kind, found.reason) == (INCOMPARABLE, "the test itself is not deterministic")
    assert found.outcomes == {"singlepass": None, "cranelift": CALL}


def test_the_first_difference_counts() -> None:
    """What follows from a divergence is the test's reaction to it."""
    found = verdict(
        seen(CALL, result(1), ("call", 0, "f", "i32", 1)), seen(CALL, result(2), ("call", 0, "f", "i32", 2))
    )
    assert found.kind == DIVERGED


def test_another_history_of_a_shared_instance() -> None:
    one, other = (Observation("v", [("use", 0, "d1", history), CALL], 2, [], [], "") for history in ("aa", "bb"))
    assert verdict(one, other) == Verdict(INCOMPARABLE, OTHER_HISTORY)


# NaN


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (result(NAN32, types="f32"), result(OTHER_NAN32, types="f32")),
        (result(NAN64, types="f64"), result(OTHER_NAN64, types="f64")),
        (("host", "e.h", "i32,f64", 1, NAN64), ("host", "e.h", "i32,f64", 1, OTHER_NAN64)),
        (("value", "f32", NAN32), ("value", "f32", OTHER_NAN32)),
        (("results", "f32", [[NAN32], [1]]), ("results", "f32", [[OTHER_NAN32], [1]])),
        (("call", 0, "f", "f64", NAN64), ("call", 0, "f", "f64", OTHER_NAN64)),
    ],
)
def test_nan_equals_nan_unless_strict(one: Event, other: Event) -> None:
    assert verdict(seen(one), seen(other)).kind == AGREED
    assert verdict(seen(one), seen(other), level=STRICT).kind != AGREED


def test_infinity_is_no_nan() -> None:
    assert verdict(seen(CALL, result(0x7F800000, types="f32")), seen(CALL, result(NAN32, types="f32"))).kind == DIVERGED


def test_the_bits_of_an_integer_are_not_taken_for_a_nan() -> None:
    assert verdict(seen(CALL, result(NAN32)), seen(CALL, result(OTHER_NAN32))).kind == DIVERGED


# Traps that say less


def test_an_unknown_trap_is_no_other_trap() -> None:
    known, unknown = seen(CALL, ("trap", "UNREACHABLE")), seen(CALL, ("trap", "UNKNOWN"))
    assert verdict(known, unknown).kind == AGREED
    assert verdict(unknown, known).kind == AGREED
    assert verdict(unknown, seen(CALL, result(1))).kind == DIVERGED


@pytest.mark.parametrize("other", [result(1), ("trap", "UNREACHABLE"), ("trap", "UNKNOWN")])
def test_an_exhausted_stack_is_no_divergence_by_itself(other: Event) -> None:
    for pair in ([("trap", "STACK_OVERFLOW"), other], [other, ("trap", "STACK_OVERFLOW")]):
        found = verdict(*[seen(CALL, event) for event in pair])
        assert found.kind == INCOMPARABLE
        assert found.reason.startswith("the stack was exhausted on ")


def test_nor_is_what_follows_from_its_depth() -> None:
    overflow = ("trap", "STACK_OVERFLOW")
    one, other = (seen(CALL, overflow, ("get", 0, "depth"), ("value", "i32", depth)) for depth in (100, 200))
    assert verdict(one, other).kind == INCOMPARABLE
    assert verdict(one, one).kind == AGREED
    left = [seen(CALL, overflow, state=[("state", 0, "g", "global", "i32", str(depth))]) for depth in (100, 200)]
    assert verdict(*left).kind == INCOMPARABLE


# The end


def memory(pages: int, *digests: str) -> Event:
    return ("state", 0, "memory", "memory", str(pages), ",".join(digests))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (memory(1, "0=aa"), memory(1, "0=bb")),
        (memory(1), memory(1, "0=bb")),
        (memory(1), memory(2)),
        (("state", 0, "g", "global", "i32", "1"), ("state", 0, "g", "global", "i32", "2")),
        (("state", 0, "t", "table", "1"), ("state", 0, "t", "table", "2")),
    ],
)
def test_what_is_left_is_compared(one: Event, other: Event) -> None:
    found = verdict(seen(CALL, result(1), state=[one]), seen(CALL, result(1), state=[other]))
    assert found.kind == DIVERGED
    assert found.outcomes == {"singlepass": one, "cranelift": other}
    assert verdict(seen(CALL, state=[one]), seen(CALL, state=[one])).kind == AGREED


def test_a_global_that_is_nan() -> None:
    one, other = (seen(CALL, state=[("state", 0, "g", "global", "f32", str(bits))]) for bits in (NAN32, OTHER_NAN32))
    assert verdict(one, other).kind == AGREED
    assert verdict(one, other, level=STRICT).kind == DIVERGED


def test_what_is_told_not_to_be_compared() -> None:
    memories = [seen(CALL, state=[memory(1, digest)]) for digest in ("0=aa", "0=bb")]
    assert verdict(*memories, level=Level(memory=False)).kind == AGREED
    variables = [seen(CALL, state=[("state", 0, "g", "global", "i32", value)]) for value in ("1", "2")]
    assert verdict(*variables, level=Level(globals=False)).kind == AGREED
    host = [seen(CALL, ("host", "e.now", "i32", value), ("return", "i32", value), result(1)) for value in (1, 2)]
    assert verdict(*host, level=Level(host_calls=False)).kind == AGREED
    assert verdict(*host).kind == DIVERGED


# More than was told


def long(*checkpoints: tuple[str, str, str]) -> Observation:
    return seen(CALL, total=5000, checkpoints=[("p1", "r1", "i1"), *checkpoints])


def test_what_was_not_told_is_compared_by_digest() -> None:
    assert verdict(long(("p2", "r2", "i2")), long(("p2", "r2", "i2"))).kind == AGREED
    assert verdict(long(("p2", "r2", "i2")), long(("p2", "other", "i2"))).kind == AGREED
    assert verdict(long(("p2", "r2", "i2")), long(("p2", "other", "i2")), level=STRICT).kind == DIVERGED


def test_and_where_it_differs_is_told_by_checkpoints() -> None:
    found = verdict(long(("p2", "r2", "i2")), long(("other", "r2", "i2")))
    assert found.kind == DIVERGED
    assert {event[1] for event in found.outcomes.values() if event} == {"events 1028 to 2051"}


def test_not_if_what_went_in_differs_there_too() -> None:
    for other in (long(("other", "r9", "i9")), long(), long(("p2", "r2", "i2"), ("p3", "r3", "i3"))):
        found = verdict(long(("p2", "r2", "i2")), other)
        assert found.kind == INCOMPARABLE
        assert found.reason.startswith("the test itself is not deterministic, or what differs is in events ")


def test_trouble_is_said() -> None:
    lost = Observation("llvm", NEW, 2, [], [], "the llvm engine process was lost")
    found = verdict(seen(CALL), lost)
    assert (found.kind, found.reason) == (INCOMPARABLE, "on cranelift, the llvm engine process was lost")
