"""Recordings: events as a tree, what can be replayed of them, what led to a divergence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.agreement.bundles import recording as recordings
from pytest_wasmer.agreement.bundles.recording import Recording, events_of, recorded, settled, steps_of
from pytest_wasmer.agreement.events import data_text, encoded
from pytest_wasmer.agreement.judge import UNTOLD, judge
from pytest_wasmer.agreement.local import Local
from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, Level, Verdict
from pytest_wasmer.runtime.blobs import digest_of
from tests.agreement.recordings import MADE, ODD_CALL, SAME_CALL, WASM, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_wasmer.agreement.events import Event

NESTED: list[Event] = [
    ("call", 0, "ask", "i32", 1),
    ("host", "env.h", "i32", 1),
    ("call", 0, "same", "i32", 2),
    ("result", "i32", 2),
    ("write", 0, "m", 0, "abcd"),
    ("return", "i32", 5),
    ("result", "i32", 5),
]
LONG = bytes(range(100))


@pytest.fixture
def local() -> Iterator[Local]:
    made = Local.make()
    made.keep_module("w", WASM)
    yield made
    made.remove()


def test_steps_and_back() -> None:
    events = [*MADE, *NESTED, ("write", 0, "m", 4, "00")]
    made, call, write = steps_of(events)
    (host,) = call.inner
    assert (made.outcome, host.outcome, call.outcome, write.outcome) == (
        ("made",),
        ("return", "i32", 5),
        ("result", "i32", 5),
        None,
    )
    assert [step.event[0] for step in host.inner] == ["call", "write"]
    assert list(events_of([made, call, write])) == events


def test_what_is_cut_off_or_has_no_beginning() -> None:
    assert [step.outcome for step in steps_of([("result", "i32", 1), *NESTED[:3]])] == [None]


def test_instances_are_numbered_as_they_are_made() -> None:
    found = settled(
        Recording(
            [
                ("make", 9, "memory", 1, None),
                ("new", 4, "w", [["env.m", 9, "memory made by the host"]]),
                ("made",),
                ("size", 4, "m"),
                ("number", 1),
            ],
            {"w": WASM, "unused": b"..."},
            {"unused": b"..."},
        )
    )
    assert found.events == [
        ("make", 0, "memory", 1, None),
        ("new", 1, "w", [["env.m", 0, "memory made by the host"]]),
        ("made",),
        ("size", 1, "m"),
        ("number", 1),
    ]
    assert (list(found.modules), found.data, found.cut) == (["w"], {}, "")
    assert settled(found) == found


def test_what_cannot_be_replayed_is_left_out_and_said() -> None:
    unknown = [("use", 1, "w", "h"), ("call", 1, "same", "i32", 1), ("result", "i32", 1)]
    absent = [("new", 2, "gone", []), ("made",), ("get", 2, "g"), ("value", "i32", 1)]
    linked = [("new", 3, "w", [["a.b", 2, "g"]]), ("made",)]
    lost = [("write", 0, "m", 0, data_text(LONG))]
    found = settled(recording(*unknown, *absent, *linked, *lost, *SAME_CALL, cut="why"))
    assert found.events == [*MADE, *SAME_CALL]
    assert found.cut == (
        "why; an instance was made in an earlier test, which is not at hand; the Wasm of module gone is not at hand "
        "(loaded from an artifact, say); data that was written to a memory is not at hand"
    )


def test_a_recording_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    text = data_text(LONG)
    whole = recording(("write", 0, "m", 0, text), data={digest_of(LONG): LONG})
    assert settled(whole).cut == ""
    monkeypatch.setattr(recordings, "LIMIT", len(WASM) + 99)
    found = settled(whole)
    assert (found.events, found.data) == (MADE, {})
    assert found.cut.startswith("its modules and data are larger than")


# What led to a verdict


def seen(variant: str, events: list[Event], state: list[Event] | None = None, journal: str = "") -> Observation:
    return Observation(variant, events, len(events), [], state or [], "", journal)


def odd(result: int, after: list[Event]) -> list[Event]:
    return [*MADE, *SAME_CALL, *ODD_CALL[:1], ("result", "i32", result), *after]


@pytest.mark.parametrize("level", [Level(), Level(host_calls=False)])
def test_all_up_to_the_call_that_diverged(local: Local, level: Level) -> None:
    results = {"a": 43, "b": 42, "c": 42}
    observed = {name: seen(name, [*MADE, *NESTED, *odd(got, SAME_CALL)[2:]]) for name, got in results.items()}
    verdict = judge(observed, level)
    assert verdict.kind == DIVERGED
    variant, found = recorded(observed, verdict, level, lambda _: local)
    assert variant == "b"  # one of those who agree
    assert found == Recording([*MADE, *NESTED, *SAME_CALL, *ODD_CALL], {"w": WASM}, {}, "")


def test_all_of_the_call_within_which_a_host_call_differs(local: Local) -> None:
    def events(argument: int) -> list[Event]:
        return [*MADE, NESTED[0], ("host", "env.h", "i32", argument), *NESTED[5:], *SAME_CALL]

    observed = {name: seen(name, events(number)) for number, name in enumerate("ab")}
    _, found = recorded(observed, judge(observed, Level()), Level(), lambda _: local)
    assert found.events == events(0)[:-2]


def test_all_where_what_is_left_differs_or_all_agree(local: Local) -> None:
    observed = {name: seen(name, odd(42, []), [("state", 0, "g", "global", "i32", name)]) for name in "12"}
    verdict = judge(observed, Level())
    assert recorded(observed, verdict, Level(), lambda _: local)[1].events == odd(42, [])
    assert recorded(observed, Verdict(AGREED), Level(), lambda _: local)[1].events == odd(42, [])


def test_what_a_hook_has_changed_is_found_nowhere_so_that_all_is_kept(local: Local) -> None:
    observed = {name: seen(name, odd(result, SAME_CALL)) for name, result in (("a", 42), ("b", 43))}
    verdict = judge(observed, Level())
    normalized = verdict._replace(before=verdict.before[2:])
    _, found = recorded(observed, normalized, Level(), lambda _: local)
    assert (found.events, found.cut) == (odd(42, SAME_CALL), "")


def test_events_that_are_not_at_hand(local: Local) -> None:
    observed = {name: seen(name, odd(42, []))._replace(total=5000) for name in "ab"}
    verdict = Verdict(DIVERGED, "", odd(42, []), {name: (UNTOLD, "events 7 to 5000", name) for name in "ab"})
    assert recorded(observed, verdict, Level(), lambda _: local)[1].cut == "only the first events are at hand"
    _, found = recorded(observed, verdict, Level(), lambda _: None)
    assert (found.events, found.cut[:70]) == (
        [],
        "only the first events are at hand; the Wasm of module w is not at hand",
    )


def test_a_member_whose_recording_is_whole_is_taken(local: Local) -> None:
    observed = {
        "a": seen("a", [*MADE, ("write", 0, "m", 0, data_text(LONG)), *ODD_CALL]),
        "b": seen("b", [*MADE, ("write", 0, "m", 0, "00"), *ODD_CALL]),
    }
    variant, found = recorded(observed, Verdict(AGREED), Level(), lambda _: local)
    assert (variant, found.cut) == ("b", "")


# What was done before


def journal(local: Local, name: str, events: list[Event], owners: list[tuple[int, list[str]]]) -> None:
    written = local.journal(name)
    written.add(encoded(events))
    written.close("a", owners, [])


def test_pasts_come_first_each_once_the_oldest_first(local: Local) -> None:
    first, second = "past-77-9.events", "past-77-10.events"
    journal(local, first, [*MADE, ("new", 1, "w", []), ("made",)], [(5, []), (6, [])])
    journal(local, second, [("use", 0, "w", "h"), ("grow", 0, "m", 1), ("number", 1)], [(6, [first])])
    events: list[Event] = [
        ("use", 0, "w", "h"),
        ("size", 0, "m"),
        ("number", 1),
        ("use", 1, "w", "h"),
        ("call", 1, "odd", "i32", 1),
        ("result", "i32", 1),
    ]
    journal(local, "77-11.events", events, [(5, [first]), (6, [first, second])])
    observed = {"a": seen("a", events, journal="77-11.events")}
    _, found = recorded(observed, Verdict(AGREED), Level(), lambda _: local)
    assert found.cut == ""
    assert found.events == [
        *MADE,
        ("new", 1, "w", []),
        ("made",),
        ("grow", 1, "m", 1),
        ("number", 1),
        ("size", 0, "m"),
        ("number", 1),
        ("call", 1, "odd", "i32", 1),
        ("result", "i32", 1),
    ]
    local.discard(second)
    _, found = recorded(observed, Verdict(AGREED), Level(), lambda _: local)
    assert found.cut == "what was done in earlier tests is not at hand"
    local.discard(first)
    _, found = recorded(observed, Verdict(AGREED), Level(), lambda _: local)
    assert (found.events, "an instance was made in an earlier test" in found.cut) == ([], True)


def test_pasts_of_what_an_instance_was_made_of(local: Local) -> None:
    """The test does not touch the memory that its instance imports."""
    first, second = "past-77-1.events", "past-77-3.events"
    made: Event = ("make", 0, "memory", 1, None)
    new: Event = ("new", 1, "w", [["env.m", 0, "memory made by the host"]])
    journal(local, first, [made], [(8, [])])
    journal(local, second, [("use", 0, "w", "h"), new, ("made",)], [(8, [first]), (9, [])])
    events: list[Event] = [("use", 0, "w", "h"), *ODD_CALL]
    journal(local, "77-5.events", events, [(9, [second])])
    _, found = recorded({"a": seen("a", events, journal="77-5.events")}, Verdict(AGREED), Level(), lambda _: local)
    assert (found.events[:3], found.cut) == ([made, new, ("made",)], "")


def test_a_journal_that_was_cut_within_a_call(local: Local, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    past = "past-1-1.events"
    journal(local, past, [*MADE, NESTED[0]], [(1, [])])
    events: list[Event] = [("use", 0, "w", "h"), *ODD_CALL]
    journal(local, "1-3.events", events, [(1, [past])])
    _, found = recorded({"a": seen("a", events, journal="1-3.events")}, Verdict(AGREED), Level(), lambda _: local)
    assert found.events == [*MADE, *ODD_CALL]
