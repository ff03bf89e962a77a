"""Groups of one test on all its variants: gathered from reports as they come in, judged when complete.

Lives where reports arrive: in the only process, or on the controller of xdist.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.judge import AGREED, DIVERGED, INCOMPARABLE, NOT_DETERMINISTIC, Level, Verdict, judge
from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.verdicts import difference, message

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    import pytest

    from pytest_wasmer.agreement.events import Event

    class Membership(TypedDict):
        """What a test's last report says of its group: plain values."""

        group: str
        variant: str
        expected: list[str]
        level: tuple[bool, bool, bool, bool] | None
        #: What a marker leaves out, as it says it; "" for nothing.
        exempt: str
        observed: bytes


class Divergence(NamedTuple):
    """A group that did not agree: its id, the node ids of its members, and what to say."""

    group: str
    members: list[str]
    text: str
    location: tuple[str, int | None, str]


class _Group:
    def __init__(self, expected: list[str]) -> None:
        self.expected = expected
        self.members: dict[str, str] = {}
        self.observed: dict[str, bytes] = {}
        self.failed: list[str] = []


class Groups:
    """All groups of a session. `normalize` is given a group's id and the events of one member."""

    def __init__(self, normalize: Callable[[str, list[Event]], list[Event]]) -> None:
        self._normalize = normalize
        self._groups: dict[str, _Group] = {}
        self._failed: set[str] = set()
        self.counts: Counter[str] = Counter()
        #: Why groups were not compared, and how many for each reason.
        self.reasons: Counter[str] = Counter()
        self.agreed: list[str] = []
        #: Markers that hide nothing any more.
        self.needless: list[str] = []
        self.diverged: dict[str, list[str]] = {}

    def add(self, report: pytest.TestReport, membership: Membership | None) -> Divergence | None:
        """Take note of a report; the divergence of the group that it completes, if there is one."""
        if report.when == "setup":
            self._failed.discard(report.nodeid)
        if report.outcome != "passed":
            self._failed.add(report.nodeid)
        if report.when != "teardown" or membership is None:
            return None
        name = membership["group"]
        group = self._groups.setdefault(name, _Group(membership["expected"]))
        variant = membership["variant"]
        group.members[variant] = report.nodeid
        group.observed[variant] = membership["observed"]
        if report.nodeid in self._failed:
            group.failed.append(variant)
        elif variant in group.failed:  # a rerun that passed
            group.failed.remove(variant)
        if any(expected not in group.members for expected in group.expected):
            return None
        del self._groups[name]
        members = {variant: group.members[variant] for variant in group.expected}
        verdict = self._verdict(name, group, membership)
        text = self._text(verdict, members, membership["level"])
        self._count(name, verdict, list(members.values()), text)
        if not text:
            return None
        path, line, _ = report.location
        return Divergence(name, list(members.values()), text, (path, line, name.partition("::")[2].replace("::", ".")))

    def _verdict(self, name: str, group: _Group, membership: Membership) -> Verdict:
        level = membership["level"]
        if level is None:
            return Verdict(INCOMPARABLE, "told not to compare")
        if len(group.expected) < 2:
            return Verdict(INCOMPARABLE, "one backend only")
        if group.failed:
            return Verdict(INCOMPARABLE, f"did not pass on {', '.join(group.failed)}")
        if not any(group.observed.values()):
            return Verdict(INCOMPARABLE, "nothing was asked of Wasm")
        if not all(group.observed.values()):
            return Verdict(INCOMPARABLE, "Wasm was asked on some backends only")
        observed = {variant: self._observation(name, group.observed[variant]) for variant in group.expected}
        verdict = judge(observed, Level(*level))
        if membership["exempt"] and verdict.kind == AGREED and judge(observed, Level(level[0])).kind == AGREED:
            self.needless.append(f"{membership['exempt']} of {name} hides nothing any more")
        return verdict

    def _observation(self, name: str, content: bytes) -> Observation:
        observation = Observation.unpacked(content)
        return observation._replace(events=self._normalize(name, observation.events))

    def _text(self, verdict: Verdict, members: dict[str, str], level: tuple[bool, bool, bool, bool] | None) -> str:
        """What the failure of the group says; "" where it is none."""
        if verdict.kind == DIVERGED:
            return message(verdict, members)
        if verdict.reason == NOT_DETERMINISTIC and level is not None and level[0]:
            return f"{verdict.reason}, an error under strict: {difference(verdict)}"
        return ""

    def _count(self, name: str, verdict: Verdict, members: list[str], text: str) -> None:
        self.counts[verdict.kind] += 1
        if verdict.kind == AGREED:
            self.agreed.append(name)
        elif text:
            self.diverged[name] = members
        if verdict.kind == INCOMPARABLE:
            self.reasons[verdict.reason + (f": {name}: {difference(verdict)}" if verdict.outcomes else "")] += 1

    def close(self) -> None:
        """The session ends: what is incomplete now stays so."""
        for group in self._groups.values():
            self.counts[INCOMPARABLE] += 1
            self.reasons[f"{len(group.members)} of {len(group.expected)} backends ran it"] += 1
        self._groups.clear()
