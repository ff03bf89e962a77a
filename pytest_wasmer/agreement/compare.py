"""Observations of several runs, compared as those of one: test by test, all variants of all runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.groups import test_name
from pytest_wasmer.agreement.judge import judge
from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, INCOMPARABLE, Level, Verdict
from pytest_wasmer.agreement.verdicts import difference, message
from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.observe import Observation
    from pytest_wasmer.agreement.runs import Member, Run

    #: By digest and offset modulo 8.
    Canonical = Mapping[tuple[str, int], str]

OTHER_MODULES = "other modules were tested"
NAN_BITS = "differs in NaN bits of memories"


class Compared(NamedTuple):
    """Ids of tests. `diverged`: what to say; `incomparable`: why; `alone`: the only run that has it."""

    agreed: list[str]
    diverged: dict[str, str]
    incomparable: dict[str, str]
    alone: dict[str, str]
    notes: list[str]

    @property
    def reasons(self) -> Counter[str]:
        return Counter(self.incomparable.values())


def compare(runs: Mapping[str, Run]) -> Compared:
    """Compare runs, by label. Raises WasmError where an observation is damaged."""
    found = Compared([], {}, {}, {}, [])
    for group in dict.fromkeys(group for run in runs.values() for group in run.groups):
        having = {label: run for label, run in runs.items() if group in run.groups}
        name = f"{group.partition('::')[0]}::{test_name(group)}"
        if len(having) < 2:
            (found.alone[name],) = having
            continue
        try:
            _compare_group(name, group, having, found)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise WasmError(f"an observation of {name} is damaged: {type(error).__name__}: {error}") from None
    return found


def _compare_group(name: str, group: str, runs: Mapping[str, Run], found: Compared) -> None:
    members = {f"{label} {variant}": one for label, run in runs.items() for variant, one in run.groups[group].items()}
    canonical = {f"{label} {variant}": run.canonical for label, run in runs.items() for variant in run.groups[group]}
    why_not = _why_not(members)
    verdict = Verdict(INCOMPARABLE, why_not) if why_not else _judged(name, members, canonical, found)
    if verdict.kind == AGREED:
        found.agreed.append(name)
    elif verdict.kind == DIVERGED:
        nodeids = dict.fromkeys(member.test for member in members.values())
        found.diverged[name] = message(verdict, {nodeid: nodeid for nodeid in nodeids})
    else:
        found.incomparable[name] = verdict.reason + (f": {difference(verdict)}" if verdict.outcomes else "")


def _why_not(members: Mapping[str, Member]) -> str:
    """Why there is nothing to compare."""
    failed = [f"{label} ({member.outcome})" for label, member in members.items() if member.outcome != "passed"]
    if failed:
        return f"did not pass: {', '.join(failed)}"
    if any(member.level is None for member in members.values()):
        return "told not to compare"
    seen = [member.observed is not None for member in members.values()]
    if not any(seen):
        return "nothing was asked of Wasm"
    return "" if all(seen) else "Wasm was asked on some backends only"


def _judged(name: str, members: Mapping[str, Member], canonical: Mapping[str, Canonical], found: Compared) -> Verdict:
    level = _level([member.level for member in members.values() if member.level is not None])
    observed = {label: member.observed for label, member in members.items() if member.observed is not None}
    if len({tuple(_modules(observation)) for observation in observed.values()}) > 1:
        return Verdict(INCOMPARABLE, OTHER_MODULES)
    verdict = judge(observed, level)
    if verdict.kind == AGREED or level.strict:
        return verdict
    lenient = judge({label: _without_nan_bits(one, canonical[label]) for label, one in observed.items()}, level)
    if lenient.kind == AGREED:
        found.notes.append(f"{name} {NAN_BITS}")
    # What is left to say of a page are its digests: those that others can find it by.
    return verdict if lenient.kind == verdict.kind and _place(lenient) == _place(verdict) else lenient


def _place(verdict: Verdict) -> tuple[int, list[object]]:
    """Where a divergence is."""
    return len(verdict.before), [event and event[:4] for event in verdict.outcomes.values()]


def _level(levels: Sequence[Level]) -> Level:
    """What all runs ask for."""
    return Level(*[all(parts) for parts in zip(*levels, strict=True)])


def _modules(observed: Observation) -> list[str]:
    return [event[2] for event in observed.events if event[0] in ("new", "use")]


def _without_nan_bits(observed: Observation, canonical: Canonical) -> Observation:
    """Known by the digests of contents whose NaNs are canonical."""
    return observed._replace(
        events=[_canonical_data(event, canonical) for event in observed.events],
        state=[_canonical_pages(event, canonical) for event in observed.state],
    )


def _canonical_data(event: Event, canonical: Canonical) -> Event:
    if event[0] not in ("data", "write"):
        return event
    size, long, digest = event[-1].rpartition(" ")
    return (*event[:-1], f"{size} {canonical.get((digest, event[-2] % 8), digest)}") if long else event


def _canonical_pages(state: Event, canonical: Canonical) -> Event:
    if state[3] != "memory":
        return state
    pairs = [page.split("=") for page in state[6].split(",") if page]
    return (*state[:6], ",".join([f"{number}={canonical.get((digest, 0), digest)}" for number, digest in pairs]))
