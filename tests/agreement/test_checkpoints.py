"""Digests of events that are too many to travel: what they tell apart, at each level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.agreement import observe
from pytest_wasmer.agreement.events import encoded
from pytest_wasmer.agreement.judge import judge
from pytest_wasmer.agreement.observe import Observation, Recorder
from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, INCOMPARABLE, Level

if TYPE_CHECKING:
    from pytest_wasmer.agreement.events import Event

LENIENT, STRICT = Level(), Level(strict=True)
NAN, OTHER_NAN = 0x7FC00000, 0xFFC00001
CALLS = 400
EARLY, LATE = 3, 300


@pytest.fixture(autouse=True)
def _little_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "CHUNK", 16)
    monkeypatch.setattr(observe, "TOLD", 2000)


def observed(variant: str, types: str = "f32", results: dict[int, int] | None = None, **inputs: int) -> Observation:
    """What calls give back: what `results` says of some of them, by number. `inputs`: the argument of `call_9`."""
    recorder = Recorder()
    recorder.begin(variant)
    for number in range(CALLS):
        events: list[Event] = [
            ("call", 0, "f", types, inputs.get(f"call_{number}", number)),
            ("result", types, (results or {}).get(number, number)),
        ]
        for event in events:
            recorder.note(event)
    content = recorder.end()
    assert content is not None
    seen = Observation.unpacked(content)
    assert len(seen.events) < 2 * EARLY + 100 < seen.total
    return seen


def verdicts(one: Observation, other: Observation) -> tuple[str, str]:
    """At the default level, and at the strict one."""
    seen = {"a": one, "b": other}
    return judge(seen, LENIENT).kind, judge(seen, STRICT).kind


@pytest.mark.parametrize("types", ["i32", "f32"])
def test_what_is_the_same(types: str) -> None:
    assert verdicts(observed("a", types), observed("b", types)) == (AGREED, AGREED)


@pytest.mark.parametrize("types", ["i32", "f32"])
@pytest.mark.parametrize("place", [EARLY, LATE, CALLS - 1])
def test_another_result(types: str, place: int) -> None:
    assert verdicts(observed("a", types), observed("b", types, {place: 7})) == (DIVERGED, DIVERGED)


@pytest.mark.parametrize("place", [EARLY, LATE, CALLS - 1])
def test_another_nan(place: int) -> None:
    """Wherever it is, also where what follows is known by digests only."""
    one, other = observed("a", results={place: NAN}), observed("b", results={place: OTHER_NAN})
    assert verdicts(one, other) == (AGREED, DIVERGED)


@pytest.mark.parametrize("place", [EARLY, LATE])
def test_bits_that_are_a_nan_as_a_float_only(place: int) -> None:
    one, other = observed("a", "i32", {place: NAN}), observed("b", "i32", {place: OTHER_NAN})
    assert verdicts(one, other) == (DIVERGED, DIVERGED)


def test_another_input() -> None:
    """The test itself did something else, and nothing can be said."""
    one, other = observed("a"), observed("b", results={LATE: 7}, **{f"call_{LATE}": 7})
    assert verdicts(one, other) == (INCOMPARABLE, INCOMPARABLE)


def test_members_that_saw_the_same_share_what_is_unpacked() -> None:
    known: dict[bytes, Observation] = {}
    packed = [observed("a").packed(), observed("b").packed(), observed("c", results={LATE: 7}).packed()]
    a, b, c = (Observation.unpacked(content, known) for content in packed)
    assert (a.variant, b.variant, c.variant) == ("a", "b", "c")
    assert len(known) == 2
    assert a.events is b.events
    assert (a.events, a.checkpoints == c.checkpoints) == (c.events, False)


@pytest.mark.parametrize("name", ["f", "100%", "%d", 'a"b\\', "ünï\n", "f32"])
@pytest.mark.parametrize("bits", [(), (0, 1 << 127), (NAN,)])
def test_templates_give_what_events_would(name: str, bits: tuple[int, ...]) -> None:
    types = ",".join("f32" for _ in bits)
    call = Recorder.template("call", name, types, numbers=len(bits), instance=True) % (7, *bits)
    result = Recorder.template("result", types, numbers=len(bits)) % bits
    assert f"[{call},{result}]" == encoded([("call", 7, name, types, *bits), ("result", types, *bits)])


@pytest.mark.parametrize("count", [0, 1, CALLS, 3 * CALLS])
@pytest.mark.parametrize("name", ["f", "f32"])
def test_calls_are_told_as_their_events_are(count: int, name: str) -> None:
    """Also where chunks end, whichever way they came, and within which calls something else happened."""
    packed = []
    for quick in (True, False):
        recorder = Recorder()
        recorder.begin("a")
        call = Recorder.template("call", name, "f32", numbers=1, instance=True).replace("%d", "0", 1)
        result = Recorder.template("result", "f32", numbers=1)
        templates = call, result, f"{call}\n{result}"
        recorder.note(("made",))
        for number in range(count):
            if quick:
                if number % 70 == 0:  # it interrupts another one, as `Function` says it
                    outer = recorder.begun = templates, (number,)
                    recorder.spell_out()
                begun = recorder.begun = templates, (number,)
                if number % 50 == 0:
                    recorder.note(("size", 0, "m"))
                    recorder.returned(begun, (NAN,))
                else:
                    recorder.begun = None
                    recorder.calls.append((*begun, (NAN,)))
                if number % 70 == 0:
                    recorder.returned(outer, (number,))
            else:
                if number % 70 == 0:
                    recorder.note(("call", 0, name, "f32", number))
                recorder.note(("call", 0, name, "f32", number))
                if number % 50 == 0:
                    recorder.note(("size", 0, "m"))
                recorder.note(("result", "f32", NAN))
                if number % 70 == 0:
                    recorder.note(("result", "f32", number))
        recorder.note(("made",))
        packed.append(recorder.end())
    assert packed[0] == packed[1]
