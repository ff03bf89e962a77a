"""Verdicts on sequences of events."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.agreement.events import PAGE
from pytest_wasmer.agreement.judge import OTHER_HISTORY, judge
from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, INCOMPARABLE, Level, Verdict
from pytest_wasmer.runtime.blobs import digest_of

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
    assert verdict(unknown, seen(CALL, result(1))).kind == INCOMPARABLE


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
    return ("state", 0, "memory", "memory", str(pages), "1", ",".join(digests))


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


# What is let pass


def rows(*outcomes: Any) -> Event:
    return ("results", "i32", list(outcomes))


MAP: Event = ("map", 0, "f", "i32", [[1], [2]])


def test_an_exhausted_stack_in_a_row_of_map_is_no_divergence() -> None:
    found = verdict(seen(MAP, rows([1], "STACK_OVERFLOW")), seen(MAP, rows([1], [2])))
    assert found.kind == INCOMPARABLE
    assert "exhausted on singlepass" in found.reason


def test_rows_of_map_whose_trap_is_not_told_agree_with_any_trap_but_no_value() -> None:
    untold, told = seen(MAP, rows("UNKNOWN", [2])), seen(MAP, rows("INTEGER_OVERFLOW", [2]))
    assert verdict(untold, told).kind == AGREED
    assert verdict(untold, seen(MAP, rows([1], [2]))).kind == INCOMPARABLE
    assert verdict(told, seen(MAP, rows([1], [2]))).kind == DIVERGED
    assert verdict(untold, seen(MAP, rows("INTEGER_OVERFLOW", [3]))).kind == INCOMPARABLE


def test_a_trap_that_is_not_told_may_be_an_exhausted_stack() -> None:
    assert verdict(seen(CALL, ("trap", "UNKNOWN")), seen(CALL, result(1))).kind == INCOMPARABLE
    memories = [seen(CALL, ("trap", "UNKNOWN"), state=[memory(1, digest)]) for digest in ("0=aa", "0=bb")]
    assert verdict(*memories).kind == INCOMPARABLE


NANS = struct.pack("<4f", 1.0, math.nan, 2.0, 0.0)
READ: Event = ("read", 0, "memory", 16, 16)


def turned(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (NANS, turned(NANS, 7, 0x80), AGREED),  # the sign of an f32
        (NANS, turned(NANS, 4, 0x01), AGREED),  # its payload
        (NANS, turned(NANS, 3, 0x80), DIVERGED),
        (NANS, turned(NANS, 7, 0x40), DIVERGED),  # no NaN any more
        (struct.pack("<2d", math.nan, 1.0), turned(struct.pack("<2d", math.nan, 1.0), 0, 1), AGREED),
        (struct.pack("<2d", math.nan, 1.0), turned(struct.pack("<2d", math.nan, 1.0), 8, 1), DIVERGED),
    ],
)
def test_memory_that_differs_in_nans_agrees_unless_strict(one: bytes, other: bytes, kind: str) -> None:
    left, right = (seen(READ, ("data", 16, data.hex())) for data in (one, other))
    assert verdict(left, right).kind == kind
    assert verdict(left, right, level=STRICT).kind == DIVERGED
    # The same at the end of the test, where pages are known by digests.
    pages = {digest_of(data): data + bytes(PAGE - len(data)) for data in (one, other)}
    ends = {
        name: seen(CALL, state=[memory(1, f"0={digest}")])
        for name, digest in zip(["llvm", "cranelift"], pages, strict=True)
    }
    found = judge(ends, LENIENT, lambda wanted: {digest: pages[digest] for digest in wanted})
    assert found.kind == kind
    assert found.notes == (("memory 'memory' of instance 0 differs in NaN bits",) if kind == AGREED else ())
    assert judge(ends, LENIENT).kind == DIVERGED  # nothing at hand
    assert judge(ends, STRICT, lambda wanted: pages).kind == DIVERGED


def test_a_word_of_which_only_a_part_was_read_is_compared_as_it_is() -> None:
    left, right = (seen(("read", 0, "memory", 20, 2), ("data", 20, text)) for text in ("0100", "0200"))
    assert verdict(left, right).kind == DIVERGED


def test_nans_that_python_writes_back_are_equal_inputs() -> None:
    one, other = (seen(("write", 0, "memory", 16, data.hex())) for data in (NANS, turned(NANS, 7, 0x80)))
    assert verdict(one, other).kind == AGREED


def test_words_are_aligned_in_the_memory_not_in_what_was_read() -> None:
    nan = struct.pack("<f", math.nan)
    for offset, kind in ((18, AGREED), (17, DIVERGED)):
        left, right = (seen(READ, ("data", offset, data.hex())) for data in (b"ab" + nan, b"ab" + turned(nan, 3, 0x80)))
        assert verdict(left, right).kind == kind


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_left_and_told_on_some_only(order: int) -> None:
    """Where one told more than the other, for what is left differs in size, and neither has all of it at hand."""
    memory: Event = ("state", 0, "m", "memory", 1, 1, "")
    rest: Event = ("state", 0, "", "rest", "5f")
    states = [[memory, ("state", 0, "n", "memory", 1, 1, "")], [memory, rest]][::order]
    found = verdict(*[seen(state=state) for state in states])
    assert (found.kind, {event and event[:2] for event in found.outcomes.values()}) == (
        DIVERGED,
        {("untold", "what is left")},
    )
    assert verdict(*[seen(state=state) for state in states], level=Level(memory=False)).kind == AGREED
