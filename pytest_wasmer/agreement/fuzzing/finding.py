"""What fuzzing found: confirmed on new instances, made small, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.events import is_nan
from pytest_wasmer.agreement.fuzzing.lanes import Lanes, Replay
from pytest_wasmer.agreement.fuzzing.shrink import Sequence, shrunk
from pytest_wasmer.agreement.judge import judge
from pytest_wasmer.agreement.verdict import DIVERGED, Level, Verdict, nothing_at_hand, of_losses
from pytest_wasmer.agreement.verdicts import camps_of, disagreement
from pytest_wasmer.report.table import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_wasmer.agreement.observe import Observation
    from pytest_wasmer.agreement.verdict import Find

# Seconds for one replay: it did end when it was fuzzed.
REPLAY_LIMIT = 30.0
# A miscompile may depend on what a register happens to hold.
TRIES = 3
RESULTS_ONLY_NAN = "NaN bits that a program may see differ between compilers"


class Finding(NamedTuple):
    """A sequence on a new instance after which backends disagree, and what a recorder saw of it on each.

    `lost`: of what engine processes died, where others did not; then that is the `verdict`.
    """

    path: str
    wasm: bytes
    sequence: Sequence
    observed: Mapping[str, Observation]
    verdict: Verdict
    lost: Mapping[str, str]

    def lines(self, find: Find = nothing_at_hand) -> list[str]:
        """In words. `find` gives contents of memories, see `Lanes.contents`."""
        if not self.lost:
            return disagreement(self.verdict, find)
        said = [f"{name}'s engine process was lost ({cause})" for name, cause in self.lost.items()]
        others = f" where {in_words(self.observed)} returned" if self.observed else ""
        return [f"{', '.join(said)}{others}:", *[f"    {step}" for step in self.sequence.steps]]


class Judged(NamedTuple):
    """`kind` tells findings apart: who is alone against whom. Empty for none."""

    kind: tuple[object, ...]
    replays: Mapping[str, Replay]
    verdict: Verdict


def judged(lanes: Lanes, sequence: Sequence) -> Judged:
    """Replay on new instances, and compare as tests are compared."""
    replays = dict(zip(lanes.names, lanes.all(lambda lane: lane.replay(*sequence), REPLAY_LIMIT), strict=True))
    lost = tuple(name for name, replay in replays.items() if replay.observation is None)
    if lost:
        is_late = any(replay.late for replay in replays.values())
        kind = () if is_late or len(lost) == len(replays) else ("lost", lost)
        return Judged(kind, replays, of_losses({name: replay.lost for name, replay in replays.items()}))
    observed = {name: replay.observation for name, replay in replays.items() if replay.observation is not None}
    verdict = judge(observed, Level(), lanes.contents)
    if verdict.kind != DIVERGED or is_only_nan(verdict):
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
    return Finding(lanes.path, lanes.wasm, small, observed, last.verdict, lost)


def _confirmed(lanes: Lanes, sequence: Sequence) -> Judged | None:
    for _ in range(TRIES):
        found = judged(lanes, sequence)
        if found.kind:
            return found
    return None


def is_only_nan(verdict: Verdict) -> bool:
    """Whether all that differs are integers that are NaNs on each side.

    Which bits a NaN gets is not specified, and a program can look at them. In memories the judge lets them pass.
    """
    events = [event for event in verdict.outcomes.values() if event is not None and event[0] == "result"]
    if len(events) < len(verdict.outcomes):
        return False
    return all(map(_are_nans, zip(*[event[2:] for event in events], strict=True)))


def _are_nans(bits: tuple[int, ...]) -> bool:
    """Equal, or NaNs on each side, be it in integers of that width."""
    if len(set(bits)) == 1:
        return True
    return all(is_nan("f32", value & 0xFFFFFFFF) for value in bits) or all(
        is_nan("f64", value & 0xFFFFFFFFFFFFFFFF) for value in bits
    )
