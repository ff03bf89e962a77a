"""Calls a module's functions on all backends with arguments of all sorts, until they disagree or time is up."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement.events import without_nan_bits
from pytest_wasmer.agreement.fuzzing.finding import find
from pytest_wasmer.agreement.fuzzing.generate import Generator
from pytest_wasmer.agreement.fuzzing.lanes import EXHAUSTED, Batch, single_steps
from pytest_wasmer.agreement.fuzzing.shrink import Sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Sequence as Many

    from pytest_wasmer.agreement.fuzzing.finding import Finding
    from pytest_wasmer.agreement.fuzzing.lanes import Lanes, Plan, Seen
    from pytest_wasmer.wasm.types import ExternType

# Seconds for each batch of calls. One that takes longer than SLOW is followed by smaller ones of that function.
LIMIT = 1.0
SLOW = 0.25
# How often a function may take too long, or exhaust the stack, before it is left alone.
PATIENCE = 2


class Fuzzed(NamedTuple):
    """`calls` per backend that were compared; `skipped`: functions that were left alone, and why.

    `unconfirmed`: differences that did not come again, or were of NaN bits only.
    """

    calls: int
    finding: Finding | None
    skipped: Mapping[str, str]
    unconfirmed: int


class Place(NamedTuple):
    """The row of a plan after which backends differ."""

    step: int
    row: int


def fuzz(
    lanes: Lanes,
    seed: int = 0,
    seconds: float = 10.0,
    plans: int | None = None,
    tell: Callable[[int], object] = lambda calls: None,
) -> Fuzzed:
    """Until something is found, `seconds` have gone or that many `plans` have been followed.

    `tell` gets the number of calls per backend from time to time.
    """
    return _Fuzzing(lanes, seed, tell).run(monotonic() + seconds, plans)


class _Fuzzing:
    def __init__(self, lanes: Lanes, seed: int, tell: Callable[[int], object]) -> None:
        self._lanes = lanes
        self._generator = Generator(lanes.types, seed)
        self._tell = tell
        self._calls = 0
        self._strikes: dict[str, int] = {}
        self._skipped: dict[str, str] = {}
        self._unconfirmed = 0

    def run(self, deadline: float, plans: int | None) -> Fuzzed:
        number = 0
        while monotonic() < deadline and number != plans and self._generator.functions:
            finding = self._follow(self._generator.plan(number))
            if finding is not None:
                return self._result(finding)
            number += 1
            self._tell(self._calls)
        return self._result(None)

    def _result(self, finding: Finding | None) -> Fuzzed:
        return Fuzzed(self._calls, finding, self._skipped, self._unconfirmed)

    def _follow(self, plan: Plan) -> Finding | None:
        seen = self._lanes.all(lambda lane: lane.observe(plan), LIMIT * len(plan.steps))
        steps = min(len(one.outcomes) for one in seen)
        self._calls += sum(len(step.rows) for step in plan.steps[:steps] if isinstance(step, Batch))
        self._note_speed(plan, seen)
        place = _differing(plan, seen, self._lanes.types) or self._stopped(plan, seen)
        if place is None:
            return None
        sequence = Sequence(single_steps(plan, self._lanes.types, *place), plan.answers)
        finding = find(self._lanes, sequence)
        self._unconfirmed += finding is None
        return finding

    def _note_speed(self, plan: Plan, seen: Many[Seen]) -> None:
        limits = self._generator.limits
        for step, seconds in zip(plan.steps, zip(*[one.seconds for one in seen], strict=False), strict=False):
            if not isinstance(step, Batch):
                continue
            if max(seconds) > SLOW:
                limits[step.name] = max(1, len(step.rows) // 4)
            elif step.name in limits and step.name not in self._strikes:  # the machine was busy
                limits[step.name] *= 2

    def _stopped(self, plan: Plan, seen: Many[Seen]) -> Place | None:
        """Where a backend, but not each, lost its engine process or failed at something else than a call."""
        for one in seen:
            if one.outcomes and EXHAUSTED in one.outcomes[-1]:
                self._strike(plan, len(one.outcomes) - 1, "it exhausts the stack")
                return None
        late = [one for one in seen if one.late]
        if late:
            self._strike(plan, min(len(one.outcomes) for one in late), f"it did not end within {LIMIT:g} s")
            return None
        if len({(one.stopped, bool(one.lost)) for one in seen}) == 1:
            if seen[0].lost:
                self._strike(plan, len(seen[0].outcomes), "each engine process was lost in it")
            return None
        step = min(max(len(one.outcomes) for one in seen if one.stopped or one.lost), len(plan.steps) - 1)
        return Place(step, 1 << 30)

    def _strike(self, plan: Plan, step: int, why: str) -> None:
        item = plan.steps[step] if step < len(plan.steps) else None
        if not isinstance(item, Batch):
            return  # what is left was being read
        self._strikes[item.name] = self._strikes.get(item.name, 0) + 1
        self._generator.limits[item.name] = 1
        if self._strikes[item.name] >= PATIENCE:
            self._generator.drop(item.name)
            self._skipped[item.name] = why


# Comparing, fast: what differs here is then looked at as tests are


def _differing(plan: Plan, seen: Many[Seen], types: Mapping[str, ExternType]) -> Place | None:
    """The first row whose outcomes differ; the last one of a step with other host calls, or of all for the state."""
    before = 0
    for index, steps in enumerate(zip(*[one.outcomes for one in seen], strict=False)):
        step = plan.steps[index]
        if any(other != steps[0] for other in steps[1:]) and isinstance(step, Batch):
            row = _differing_row(steps, ",".join(types[step.name].results))  # type: ignore[union-attr]
            if row is not None:
                return None if any(EXHAUSTED in outcomes[: row + 1] for outcomes in steps) else Place(index, row)
        if any(EXHAUSTED in outcomes for outcomes in steps):
            return None
        marks = [one.marks[index] for one in seen]
        if any(one.host_calls[before : one.marks[index]] != seen[0].host_calls[before : marks[0]] for one in seen):
            return Place(index, 1 << 30)
        before = marks[0]
    finished = not any(one.stopped or one.lost for one in seen)
    if finished and any(repr(one.left) != repr(seen[0].left) for one in seen):
        return Place(len(plan.steps) - 1, 1 << 30)
    return None


def _differing_row(steps: Many[Many[Any]], types: str) -> int | None:
    for row, outcomes in enumerate(zip(*steps, strict=True)):
        if any(not _equal(outcomes[0], other, types) for other in outcomes[1:]):
            return row
    return None


def _equal(one: Any, other: Any, types: str) -> bool:
    if one == other:
        return True
    if isinstance(one, str) and isinstance(other, str):
        # An engine that cannot tell traps apart does not contradict one that can.
        return "UNKNOWN" in (one, other) and EXHAUSTED not in (one, other)
    if isinstance(one, str) or isinstance(other, str):
        return False
    return without_nan_bits(("result", types, *one)) == without_nan_bits(("result", types, *other))
