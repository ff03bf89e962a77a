"""Observations in, a verdict out.

The sequences are walked together. At the first event that differs, what came *out* of the engines is a divergence,
since all that went in before was equal. Where what went *in* differs, the test itself did something else, and nothing
can be said.

Contents of memories are known by digests. Whoever has them at hand gives a `Find`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_wasmer.agreement.events import COMING_IN, PAGE, content_of, nan_words_only, pages_in, without_nan_bits
from pytest_wasmer.agreement.observe import CHUNK
from pytest_wasmer.agreement.verdict import (
    AGREED,
    DIVERGED,
    INCOMPARABLE,
    NOT_DETERMINISTIC,
    Level,
    Verdict,
    nothing_at_hand,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.observe import Observation
    from pytest_wasmer.agreement.verdict import Find

EXHAUSTED = "STACK_OVERFLOW"
UNKNOWN = "UNKNOWN"
UNTOLD = "untold"
OTHER_HISTORY = (
    "instances that tests share had been used otherwise before (-k, or xdist: --dist loadfile keeps them together)"
)
HOST_CALLS = frozenset({"host", "return", "raise"})


def judge(observed: Mapping[str, Observation], level: Level, find: Find = nothing_at_hand) -> Verdict:
    """Compare the observations of one test, by variant; two at least."""
    for variant, observation in observed.items():
        if observation.trouble:
            return Verdict(INCOMPARABLE, f"on {variant}, {observation.trouble}")
    events = {name: _wanted(observation.events, level) for name, observation in observed.items()}
    verdict = _walk(events, level, find)
    if verdict is not None:
        return verdict
    told = {len(observation.events) for observation in observed.values()}
    notes: list[str] = []
    verdict = _untold(observed, level, min(told)) or _states(observed, events, level, find, notes)
    if verdict is not None and any(is_exhausted(event) for sequence in events.values() for event in sequence):
        return Verdict(INCOMPARABLE, "the stack was exhausted, at a depth that differs between compilers")
    return verdict or Verdict(AGREED, notes=tuple(notes))


def _wanted(events: Sequence[Event], level: Level) -> list[Event]:
    return list(events) if level.host_calls else [event for event in events if event[0] not in HOST_CALLS]


def is_exhausted(event: Event | None) -> bool:
    """Whether the stack was exhausted, or may have been where the engine does not tell traps apart."""
    if event is None or event[0] not in ("trap", "results"):
        return False
    kinds = event[1:] if event[0] == "trap" else event[2]
    return EXHAUSTED in kinds or UNKNOWN in kinds


def _walk(events: Mapping[str, Sequence[Event]], level: Level, find: Find) -> Verdict | None:
    """The verdict at the first event that is told and differs."""
    (one, *rest) = events.values()
    if all(sequence == one for sequence in rest):  # nearly always, and quicker than event by event
        return None
    exhausted = False
    for place in range(max(len(sequence) for sequence in events.values())):
        found = {name: sequence[place] if place < len(sequence) else None for name, sequence in events.items()}
        (first, *others) = found.values()
        if all(other == first for other in others):
            exhausted = exhausted or is_exhausted(first)
            continue
        exhausted = exhausted or any(map(is_exhausted, found.values()))
        if equal(list(found.values()), level, find):
            continue
        if exhausted:
            names = [name for name, event in found.items() if is_exhausted(event)]
            where = f" on {', '.join(names)}" if names else ""
            return Verdict(INCOMPARABLE, f"the stack was exhausted{where}, at a depth that differs between compilers")
        if all(event is not None and event[0] not in COMING_IN for event in found.values()):
            (sequence, *_) = events.values()
            return Verdict(DIVERGED, "", sequence[:place], found)
        if any(event is not None and event[0] == "use" for event in found.values()):
            return Verdict(INCOMPARABLE, OTHER_HISTORY)
        return Verdict(INCOMPARABLE, NOT_DETERMINISTIC, (), found)
    return None


def equal(events: Sequence[Event | None], level: Level, find: Find = nothing_at_hand) -> bool:
    """Whether these say the same, as far as the level goes."""
    (first, *others) = [event if event is None or level.strict else without_nan_bits(event) for event in events]
    return all(other == first or _is_excused(first, other, level, find) for other in others)


def _is_excused(one: Event | None, other: Event | None, level: Level, find: Find) -> bool:
    """Whether two events may differ as they do."""
    if one is None or other is None or one[0] != other[0]:
        return False
    kind = one[0]
    if kind == "trap":
        return _traps_alike(one[1], other[1])
    if kind == "results":
        rows = zip(one[2], other[2], strict=True) if len(one[2]) == len(other[2]) else [("", ())]
        return all(left == right or _traps_alike(left, right) for left, right in rows)
    if kind in ("data", "write") and not level.strict:
        return one[:-1] == other[:-1] and _data_alike(one[-1], other[-1], one[-2], find)
    return False


def _traps_alike(one: object, other: object) -> bool:
    """An engine that cannot tell traps apart does not contradict one that can."""
    kinds = (one, other)
    return all(isinstance(kind, str) for kind in kinds) and UNKNOWN in kinds and EXHAUSTED not in kinds


def _data_alike(one: str, other: str, offset: int, find: Find) -> bool:
    """Whether data of a memory differs in NaNs only."""
    left, right = content_of(one, find), content_of(other, find)
    return left is not None and right is not None and nan_words_only(left, right, offset)


def _untold(observed: Mapping[str, Observation], level: Level, told: int) -> Verdict | None:
    """The verdict on events that are known by digests only."""
    if not level.host_calls:
        return None
    sums = {name: observation.checkpoints for name, observation in observed.items()}
    for place in range(max(map(len, sums.values()))):
        found = {name: points[place] if place < len(points) else None for name, points in sums.items()}
        outcomes = {name: point and point[level.strict] for name, point in found.items()}
        if len(set(outcomes.values())) == 1:
            continue
        size = CHUNK * max(observation.stride for observation in observed.values())
        where = f"events {told + place * size + 1} to {told + (place + 1) * size}"
        if None in found.values() or len({point[2] for point in found.values() if point}) > 1:
            return Verdict(
                INCOMPARABLE, f"{NOT_DETERMINISTIC}, or what differs is in {where}, of which digests are kept"
            )
        (sequence, *_) = observed.values()
        return Verdict(DIVERGED, "", sequence.events, {name: (UNTOLD, where, name) for name in found})
    return None


def _states(
    observed: Mapping[str, Observation],
    events: Mapping[str, Sequence[Event]],
    level: Level,
    find: Find,
    notes: list[str],
) -> Verdict | None:
    """The verdict on what is left at the end."""
    states = {name: {event[1:4]: event for event in found.state} for name, found in observed.items()}
    (sequence, *_) = events.values()
    for key in dict.fromkeys(key for state in states.values() for key in state):
        kind = key[2]
        if (kind == "memory" and not level.memory) or (kind == "global" and not level.globals):
            continue
        found = {name: state.get(key) for name, state in states.items()}
        if None in found.values():  # told as far as it may travel, which is not equally far
            if level.memory and level.globals:
                return Verdict(DIVERGED, "", sequence, {name: (UNTOLD, "what is left", name) for name in found})
            continue
        if equal([_typed(event) for event in found.values()], level):
            continue
        if kind == "memory" and not level.strict and _memories_alike(list(found.values()), find):
            notes.append(f"{kind} {key[1]!r} of instance {key[0]} differs in NaN bits")
            continue
        return Verdict(DIVERGED, "", sequence, found)
    return None


def _typed(event: Event | None) -> Event | None:
    """A global's state as an event whose NaN bits can be looked at."""
    if event is None or event[3] != "global":
        return event
    return ("value", event[4], int(event[5]))


def _memories_alike(states: Sequence[Event | None], find: Find) -> bool:
    """Whether all that differs is words that are NaN on both sides."""
    (first, *others) = [event for event in states if event is not None]
    return all(first[4:6] == other[4:6] and _pages_alike(pages_in(first), pages_in(other), find) for other in others)


def _pages_alike(one: Mapping[int, str], other: Mapping[int, str], find: Find) -> bool:
    differing = [number for number in {*one, *other} if one.get(number) != other.get(number)]
    # A page of zeros, which has no digest, has no NaN.
    if any(number not in one or number not in other for number in differing):
        return False
    contents = find([pages[number] for number in differing for pages in (one, other)])
    found = [(contents.get(one[number]), contents.get(other[number])) for number in differing]
    return all(
        left is not None and right is not None and len(left) == PAGE and nan_words_only(left, right, 0)
        for left, right in found
    )
