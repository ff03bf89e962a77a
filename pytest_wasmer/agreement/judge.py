"""Observations in, a verdict out.

The sequences are walked together. At the first event that differs, what came *out* of the engines is a divergence,
since all that went in before was equal. Where what went *in* differs, the test itself did something else, and nothing
can be said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.events import COMING_IN, without_nan_bits
from pytest_wasmer.agreement.observe import CHUNK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.observe import Observation

AGREED, DIVERGED, INCOMPARABLE = "agreed", "diverged", "not compared"
EXHAUSTED = ("trap", "STACK_OVERFLOW")
UNKNOWN = ("trap", "UNKNOWN")
NOT_DETERMINISTIC = "the test itself is not deterministic"
UNTOLD = "untold"
OTHER_HISTORY = (
    "instances that tests share had been used otherwise before (-k, or xdist: --dist loadfile keeps them together)"
)
HOST_CALLS = frozenset({"host", "return", "raise"})


class Level(NamedTuple):
    """What members must agree on: `strict` means NaN bits, too."""

    strict: bool = False
    memory: bool = True
    globals: bool = True
    host_calls: bool = True


class Verdict(NamedTuple):
    """`kind` is one of the three words above; `reason`: why not compared.

    Of a divergence: the events before it, and for each member what came out then (None: nothing more). `strictly`: it
    would be one for `strict` only.
    """

    kind: str
    reason: str = ""
    before: Sequence[Event] = ()
    outcomes: Mapping[str, Event | None] = {}


def judge(observed: Mapping[str, Observation], level: Level) -> Verdict:
    """Compare the observations of one test, by variant; two at least."""
    for variant, observation in observed.items():
        if observation.trouble:
            return Verdict(INCOMPARABLE, f"on {variant}, {observation.trouble}")
    events = {name: _wanted(observation.events, level) for name, observation in observed.items()}
    verdict = _walk(events, level)
    if verdict is not None:
        return verdict
    told = {len(observation.events) for observation in observed.values()}
    exhausted = any(EXHAUSTED in sequence for sequence in events.values())
    verdict = _untold(observed, level, min(told)) or _states(observed, events, level)
    if verdict is not None and exhausted:
        return Verdict(INCOMPARABLE, "the stack was exhausted, at a depth that differs between compilers")
    return verdict or Verdict(AGREED)


def _wanted(events: Sequence[Event], level: Level) -> list[Event]:
    return list(events) if level.host_calls else [event for event in events if event[0] not in HOST_CALLS]


def _walk(events: Mapping[str, Sequence[Event]], level: Level) -> Verdict | None:
    """The verdict at the first event that is told and differs."""
    exhausted = False
    for place in range(max(len(sequence) for sequence in events.values())):
        found = {name: sequence[place] if place < len(sequence) else None for name, sequence in events.items()}
        exhausted = exhausted or EXHAUSTED in found.values()
        if _equal(list(found.values()), level):
            continue
        if exhausted:
            names = [name for name, event in found.items() if event == EXHAUSTED]
            where = f" on {', '.join(names)}" if names else ""
            return Verdict(INCOMPARABLE, f"the stack was exhausted{where}, at a depth that differs between compilers")
        if all(event is not None and event[0] not in COMING_IN for event in found.values()):
            (first, *_) = events.values()
            return Verdict(DIVERGED, "", first[:place], found)
        if any(event is not None and event[0] == "use" for event in found.values()):
            return Verdict(INCOMPARABLE, OTHER_HISTORY)
        return Verdict(INCOMPARABLE, NOT_DETERMINISTIC, (), found)
    return None


def _equal(events: Sequence[Event | None], level: Level) -> bool:
    (first, *others) = [event if event is None or level.strict else without_nan_bits(event) for event in events]
    for other in others:
        if other == first:
            continue
        # An engine that cannot tell traps apart does not contradict one that can.
        traps = first is not None and other is not None and first[0] == other[0] == "trap"
        if not traps or UNKNOWN not in (first, other) or EXHAUSTED in (first, other):
            return False
    return True


def _untold(observed: Mapping[str, Observation], level: Level, told: int) -> Verdict | None:
    """The verdict on events that are known by digests only."""
    if not level.host_calls:
        return None
    sums = {name: observation.checkpoints for name, observation in observed.items()}
    for place in range(max(map(len, sums.values()))):
        found = {name: points[place] if place < len(points) else None for name, points in sums.items()}
        outcomes = {name: (UNTOLD, point and point[level.strict]) for name, point in found.items()}
        if len(set(outcomes.values())) == 1:
            continue
        where = f"events {told + place * CHUNK + 1} to {told + (place + 1) * CHUNK}"
        if None in found.values() or len({point[2] for point in found.values() if point}) > 1:
            return Verdict(
                INCOMPARABLE, f"{NOT_DETERMINISTIC}, or what differs is in {where}, of which digests are kept"
            )
        (sequence, *_) = observed.values()
        return Verdict(DIVERGED, "", sequence.events, {name: (UNTOLD, where, name) for name in found})
    return None


def _states(observed: Mapping[str, Observation], events: Mapping[str, Sequence[Event]], level: Level) -> Verdict | None:
    """The verdict on what is left at the end."""
    states = {name: {event[1:4]: event for event in found.state} for name, found in observed.items()}
    (first, *_) = states.values()
    for key in first:
        kind = key[2]
        if (kind == "memory" and not level.memory) or (kind == "global" and not level.globals):
            continue
        found = {name: state.get(key) for name, state in states.items()}
        if None not in found.values() and not _equal([_typed(event) for event in found.values()], level):
            (sequence, *_) = events.values()
            return Verdict(DIVERGED, "", sequence, found)
    return None


def _typed(event: Event | None) -> Event | None:
    """A global's state as an event whose NaN bits can be looked at."""
    if event is None or event[3] != "global":
        return event
    return ("value", event[4], int(event[5]))
