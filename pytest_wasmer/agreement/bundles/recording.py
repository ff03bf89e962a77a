"""What can be replayed of a test without the test: its events, the modules and the long data that they name.

Events are a sequence; what happens *within* a call (host calls, and within those what Python asks of Wasm again) makes
it a tree, of which each node is a step.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.events import content_of
from pytest_wasmer.agreement.judge import HOST_CALLS, UNTOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.local import Local, Told
    from pytest_wasmer.agreement.observe import Observation
    from pytest_wasmer.agreement.verdict import Level, Verdict

# Bytes of modules and long data in one recording.
LIMIT = 64 << 20
# What has an outcome, and what outcomes are.
ASKING = frozenset({"new", "call", "map", "read", "get", "size", "grow", "host"})
OUTCOMES = frozenset(
    {"made", "result", "results", "data", "value", "number", "trap", "raised", "refused", "return", "raise"}
)


class Recording(NamedTuple):
    """Events of one test on one backend, Wasm binaries by the identities in them, and long data by digest.

    `cut`: why this is not all of it; "" if it is.
    """

    events: Sequence[Event]
    modules: Mapping[str, bytes]
    data: Mapping[str, bytes]
    cut: str = ""


# As a tree


class Step(NamedTuple):
    """Something that was done, what happened meanwhile, and what came of it (None: nothing, or that is not known)."""

    event: Event
    inner: tuple[Step, ...] = ()
    outcome: Event | None = None


def steps_of(events: Iterable[Event]) -> list[Step]:
    """The steps that a sequence of events is."""
    rest = iter(events)
    steps: list[Step] = []
    while True:
        found, outcome = _siblings(rest)
        steps += found
        if outcome is None:  # else one of what is not here
            return steps


def _siblings(events: Iterator[Event]) -> tuple[list[Step], Event | None]:
    """Steps up to the outcome of what they are within, and that; None at the end."""
    steps: list[Step] = []
    for event in events:
        if event[0] in OUTCOMES:
            return steps, event
        if event[0] in ASKING:
            inner, outcome = _siblings(events)
            steps.append(Step(event, tuple(inner), outcome))
        else:
            steps.append(Step(event))
    return steps, None


def events_of(steps: Iterable[Step]) -> Iterator[Event]:
    """The reverse of `steps_of`."""
    for step in steps:
        yield step.event
        yield from events_of(step.inner)
        if step.outcome is not None:
            yield step.outcome


# What can be replayed


def settled(recording: Recording) -> Recording:
    """Without what cannot be replayed, within `LIMIT`, and with instances numbered as they are made."""
    modules, data, cut = _within_limit(recording)
    settling = _Settling(modules, data)
    events = list(events_of(settling.steps(steps_of(recording.events))))
    used = {event[2] for event in events if event[0] == "new"}
    written = {event[4].rpartition(" ")[2] for event in events if event[0] == "write"}
    return Recording(
        events,
        {identity: wasm for identity, wasm in modules.items() if identity in used},
        {digest: content for digest, content in data.items() if digest in written},
        "; ".join(dict.fromkeys([*filter(None, [recording.cut]), *cut, *settling.missing])),
    )


def _within_limit(recording: Recording) -> tuple[dict[str, bytes], dict[str, bytes], list[str]]:
    left = LIMIT
    kept: tuple[dict[str, bytes], dict[str, bytes]] = {}, {}
    dropped = False
    for contents, fitting in zip((recording.modules, recording.data), kept, strict=True):
        for name, content in contents.items():
            if len(content) <= left:
                left -= len(content)
                fitting[name] = content
            else:
                dropped = True
    return *kept, [f"its modules and data are larger than {LIMIT >> 20} MiB"] if dropped else []


class _Settling:
    """`missing`: why something was left out."""

    def __init__(self, modules: Mapping[str, bytes], data: Mapping[str, bytes]) -> None:
        self._modules = modules
        self._data = data
        self._indices: dict[int, int] = {}
        self.missing: list[str] = []

    def steps(self, steps: Iterable[Step]) -> list[Step]:
        return [kept for kept in map(self._step, steps) if kept is not None]

    def _step(self, step: Step) -> Step | None:
        kind = step.event[0]
        if kind in ("new", "make"):
            if not self._can_make(step.event):
                return None
            self._indices[step.event[1]] = len(self._indices)
        elif kind != "host" and (step.event[1] not in self._indices or not self._is_replayed(step.event)):
            if kind == "use":
                self.missing.append("an instance was made in an earlier test, which is not at hand")
            return None
        elif kind == "use":
            return None
        event = step.event if kind == "host" else numbered(step.event, self._indices)
        return Step(event, tuple(self.steps(step.inner)), step.outcome)

    def _can_make(self, event: Event) -> bool:
        if event[0] == "make":
            return True
        if event[2] not in self._modules:
            self.missing.append(f"the Wasm of module {event[2][:20]} is not at hand (loaded from an artifact, say)")
            return False
        return all(index in self._indices for _, index, _ in event[3])

    def _is_replayed(self, event: Event) -> bool:
        if event[0] != "write" or content_of(event[4], lambda _: self._data) is not None:
            return True
        self.missing.append("data that was written to a memory is not at hand")
        return False


def numbered(event: Event, numbers: Mapping[int, int]) -> Event:
    """The event with other numbers of instances."""
    kind, index, *rest = event
    if kind == "new":
        identity, linked = rest
        rest = [identity, [[label, numbers[lender], name] for label, lender, name in linked]]
    return (kind, numbers[index], *rest)


# Of a test


def recorded(
    observed: Mapping[str, Observation], verdict: Verdict, level: Level, local_of: Callable[[str], Local | None]
) -> tuple[str, Recording]:
    """What led to a verdict, as one member did it, and who that is: a whole recording, if there is one.

    `local_of`: where a variant's journals, modules and long data are.
    Members did the same up to a divergence; those that most others agree with are asked first.
    """
    first: tuple[str, Recording] | None = None
    for variant in _by_camp(observed, verdict):
        recording = settled(_of_member(observed[variant], variant, verdict, level, local_of(variant)))
        if not recording.cut:
            return variant, recording
        first = first or (variant, recording)
    assert first is not None
    return first


def _by_camp(observed: Mapping[str, Observation], verdict: Verdict) -> list[str]:
    camps = Counter(repr(event) for event in verdict.outcomes.values())
    return sorted(observed, key=lambda variant: -camps[repr(verdict.outcomes.get(variant))])


def _of_member(
    observation: Observation, variant: str, verdict: Verdict, level: Level, local: Local | None
) -> Recording:
    journal = local.told(observation.journal) if local is not None and observation.journal else None
    events = observation.events
    if journal is not None and len(journal.events) > len(events):
        events = journal.events
    steps, cut = _up_to(events, verdict, variant, level)
    if cut and len(events) == observation.total:
        cut = ""
    before, missing = ([], False) if journal is None or local is None else _past(journal, local)
    numbers = None if journal is None else {index: number for index, (number, _) in enumerate(journal.owners)}
    done = [event for told in before for event in _by_number(told)]
    done += list(events_of(steps)) if numbers is None else [_known(event, numbers) for event in events_of(steps)]
    reasons = [cut, "what was done in earlier tests is not at hand" if missing else ""]
    return _with_contents(done, "; ".join(filter(None, reasons)), local)


def _up_to(events: Sequence[Event], verdict: Verdict, variant: str, level: Level) -> tuple[list[Step], str]:
    """What was done up to the divergence, with all of the call in which it is; and what is wrong if that is not all."""
    steps = steps_of(events)
    place = _place(events, verdict, variant, level)
    if place is None:
        return steps, "only the first events are at hand"
    end = 0
    for count, step in enumerate(steps, 1):
        end += sum(1 for _ in events_of([step]))
        if end > place:
            return steps[:count], ""
    return steps, ""


def _place(events: Sequence[Event], verdict: Verdict, variant: str, level: Level) -> int | None:
    """Where the outcome is; None if it is none of the events, or a hook has changed what was compared."""
    outcome = verdict.outcomes.get(variant)
    if outcome is None or outcome[0] in ("state", UNTOLD):
        return None
    compared = [place for place, event in enumerate(events) if level.host_calls or event[0] not in HOST_CALLS]
    place = len(verdict.before)
    return compared[place] if place < len(compared) and events[compared[place]] == outcome else None


def _past(journal: Told, local: Local) -> tuple[list[Told], bool]:
    """The journals of what was done before to the instances of one, oldest first; whether one is missing."""
    found: dict[str, Told | None] = {}
    wanted = [name for _, past in journal.owners for name in past]
    while wanted:
        name = wanted.pop()
        if name not in found:
            told = found[name] = local.told(name)
            wanted += [] if told is None else [other for _, past in told.owners for other in past]
    ordered = [found[name] for name in sorted(found, key=local.age)]
    whole = [told for told in ordered if told is not None]
    return whole, len(whole) < len(ordered) or not all(told.whole for told in whole)


def _by_number(told: Told) -> list[Event]:
    """The events of a journal, with the numbers that the session has for instances."""
    numbers = {index: number for index, (number, _) in enumerate(told.owners)}
    steps = steps_of(told.events)
    if steps and steps[-1].outcome is None and steps[-1].event[0] in ASKING:
        steps.pop()  # it was cut there, and would swallow what comes next
    return [_known(event, numbers) for event in events_of(steps)]


def _known(event: Event, numbers: Mapping[int, int]) -> Event:
    return event if event[0] in OUTCOMES or event[0] == "host" else numbered(event, numbers)


def _with_contents(events: Sequence[Event], cut: str, local: Local | None) -> Recording:
    if local is None:
        return Recording(events, {}, {}, cut)
    identities = dict.fromkeys(event[2] for event in events if event[0] == "new")
    modules = {identity: local.module(identity) for identity in identities}
    long = [event[4].rpartition(" ") for event in events if event[0] == "write"]
    data = local.data([digest for _, blank, digest in long if blank])
    return Recording(events, {name: wasm for name, wasm in modules.items() if wasm is not None}, data, cut)
