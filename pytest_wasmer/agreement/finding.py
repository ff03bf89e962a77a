"""What fuzzing found: confirmed on new instances, made small, and told."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.events import is_nan
from pytest_wasmer.agreement.judge import DIVERGED, Level, Verdict, judge
from pytest_wasmer.agreement.lanes import Lanes, Replay
from pytest_wasmer.agreement.shrink import Sequence, shrunk
from pytest_wasmer.agreement.verdicts import camps_of, explained
from pytest_wasmer.report.table import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.observe import Observation

# Seconds for one replay: it did end when it was fuzzed.
REPLAY_LIMIT = 30.0
# A miscompile may depend on what a register happens to hold.
TRIES = 3
RESULTS_ONLY_NAN = "NaN bits that a program may see differ between compilers"


class Finding(NamedTuple):
    """A sequence on a new instance after which backends disagree, and what a recorder saw of it on each.

    `lost`: of what engine processes died, where others did not; then there is no `verdict`.
    """

    path: str
    wasm: bytes
    sequence: Sequence
    observed: Mapping[str, Observation]
    verdict: Verdict | None
    lost: Mapping[str, str]

    @property
    def lines(self) -> list[str]:
        """In words."""
        if self.verdict is not None:
            return explained(self.verdict)
        said = [f"{name}'s engine process was lost ({cause})" for name, cause in self.lost.items()]
        others = f" where {in_words(self.observed)} returned" if self.observed else ""
        return [f"{', '.join(said)}{others}:", *[f"    {step}" for step in self.sequence.steps]]


class Judged(NamedTuple):
    """`kind` tells findings apart: who is alone against whom. Empty for none."""

    kind: tuple[object, ...]
    replays: Mapping[str, Replay]
    verdict: Verdict | None = None


def judged(lanes: Lanes, sequence: Sequence) -> Judged:
    """Replay on new instances, and compare as tests are compared."""
    replays = dict(zip(lanes.names, lanes.all(lambda lane: lane.replay(*sequence), REPLAY_LIMIT), strict=True))
    if any(replay.late for replay in replays.values()):
        return Judged((), replays)
    lost = tuple(name for name, replay in replays.items() if replay.observation is None)
    if lost:
        return Judged(("lost", lost) if len(lost) < len(replays) else (), replays)
    verdict = judge({name: replay.observation for name, replay in replays.items() if replay.observation}, Level())
    if verdict.kind != DIVERGED or is_only_nan(verdict, lanes):
        return Judged((), replays, verdict)
    return Judged(tuple(tuple(camp) for camp in camps_of(verdict.outcomes)), replays, verdict)


def find(lanes: Lanes, sequence: Sequence) -> Finding | None:
    """The smallest sequence that shows the same; None where new instances do not disagree."""
    found = _confirmed(lanes, sequence)
    if found is None:
        return None
    small = shrunk(sequence, lanes.types, lambda smaller: judged(lanes, smaller).kind == found.kind)
    last = _confirmed(lanes, small)
    if last is None or last.kind != found.kind:
        last, small = found, sequence
    observed = {name: replay.observation for name, replay in last.replays.items() if replay.observation is not None}
    lost = {name: replay.lost for name, replay in last.replays.items() if replay.observation is None}
    return Finding(lanes.path, lanes.wasm, small, observed, None if lost else last.verdict, lost)


def _confirmed(lanes: Lanes, sequence: Sequence) -> Judged | None:
    for _ in range(TRIES):
        found = judged(lanes, sequence)
        if found.kind:
            return found
    return None


# NaN bits: which ones an operation gives is not specified, and a program can look at them


def is_only_nan(verdict: Verdict, lanes: Lanes) -> bool:
    """Whether all that differs are words that are NaNs on each side."""
    events = list(verdict.outcomes.values())
    if any(event is None for event in events):
        return False
    kinds = {event[0] for event in events if event is not None}
    if kinds == {"result"}:
        return all(map(_are_nans, zip(*[event[2:] for event in events if event is not None], strict=True)))
    if kinds == {"state"}:
        return _is_nan_in_memory([event for event in events if event is not None], lanes)
    return False


def _are_nans(bits: tuple[int, ...]) -> bool:
    """Equal, or NaNs on each side, be it in integers of that width."""
    if len(set(bits)) == 1:
        return True
    return all(is_nan("f32", value & 0xFFFFFFFF) for value in bits) or all(
        is_nan("f64", value & 0xFFFFFFFFFFFFFFFF) for value in bits
    )


def _is_nan_in_memory(events: list[Event], lanes: Lanes) -> bool:
    if any(event[3] != "memory" or not event[2] for event in events) or len({event[4] for event in events}) > 1:
        return False
    digests = [dict(page.split("=") for page in event[5].split(",") if page) for event in events]
    numbers = {number for pages in digests for number in pages if len({other.get(number) for other in digests}) > 1}
    for number in numbers:
        pages = lanes.all(lambda lane: lane.page(events[0][2], int(number)))  # noqa: B023 (used at once)
        if not _differ_in_nans(pages):
            return False
    return True


def _differ_in_nans(pages: list[bytes]) -> bool:
    words = [struct.unpack("<8192Q", page) for page in pages]
    return all(_are_nans_in_word(row) for row in zip(*words, strict=True) if row.count(row[0]) < len(row))


def _are_nans_in_word(row: tuple[int, ...]) -> bool:
    if all(is_nan("f64", value) for value in row):
        return True
    halves = [[value >> shift & 0xFFFFFFFF for value in row] for shift in (0, 32)]
    return all(len(set(half)) == 1 or all(is_nan("f32", value) for value in half) for half in halves)
