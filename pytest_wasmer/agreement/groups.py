"""Groups of one test on all its variants: gathered from reports as they come in, judged when complete.

Lives where reports arrive: in the only process, or on the controller of xdist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

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
    from collections.abc import Iterator
    from typing import TypedDict

    import pytest

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.local import Local
    from pytest_wasmer.agreement.observe import Observation

    class Membership(TypedDict):
        """What a test's last report says of its group: plain values."""

        group: str
        variant: str
        expected: list[str]
        #: As of `verdict.Level`; None where nothing is to be compared.
        level: tuple[bool, bool, bool, bool] | None
        #: What a marker leaves out, as it says it; "" for nothing.
        exempt: str
        observed: bytes
        #: None without one.
        golden: GoldenMark | None

    class GoldenMark(TypedDict):
        """What a test found its golden to be. `path`: relative to rootdir; `level`: as of `verdict.Level`."""

        path: str
        state: str
        level: tuple[bool, bool, bool, bool]


# What a test finds its golden to be; REBUILT: it did the same, but with other modules than when that was written.
SAME, REBUILT, MISSING, DIFFERENT = "same", "rebuilt", "missing", "different"

ALONE = "one backend only"


def test_name(group: str) -> str:
    """Of a group's id what names the test in its file: "TestA::test_b[3]"."""
    _, _, name = group.partition("::")
    return name.removesuffix("[backends-agree]").replace("-backends-agree]", "]")


def told(verdict: Verdict) -> str:
    """What differs, in a line."""
    from pytest_wasmer.agreement.verdicts import difference  # of the few that need it

    return difference(verdict)


class Judged(NamedTuple):
    """A group that is complete: its id, the node ids of its members and what each let be seen, by variant.

    `text` is what its failure says; "" where it is none. `level`: what they had to agree on, as of `Membership`.
    `why_not`: why nothing could be compared at all.
    """

    group: str
    members: dict[str, str]
    observed: Observed
    verdict: Verdict
    text: str
    location: tuple[str, int | None, str]
    level: tuple[bool, bool, bool, bool] | None
    why_not: str = ""
    golden: GoldenMark | None = None

    @property
    def compared(self) -> bool:
        """Whether somebody wants to know."""
        return self.level is not None


class Normalize(Protocol):
    """Given a group's id and the events of one member, what is to be compared. See `hookspecs`."""

    @property
    def changes_nothing(self) -> bool: ...

    def __call__(self, group: str, events: list[Event]) -> list[Event]: ...


class Observed(Mapping[str, "Observation"]):
    """What members let be seen, by variant: unpacked when somebody looks, since most groups agree."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        from pytest_wasmer.agreement.observe import Observation, heading  # of runs on one backend nobody asks for it

        self._contents = contents
        self._unpacked = Observation.unpacked
        # What members saw alike is unpacked once.
        self._known: dict[bytes, Observation] = {}
        headings = [heading(content) for content in contents.values()]
        #: Names of journals.
        self.journals = [journal for _, _, journal, _ in headings if journal]
        #: Whether all saw the same, to the bit, and nothing speaks against comparing it.
        self.is_same = len({seen for *_, seen in headings}) == 1 and not any(trouble for _, trouble, *_ in headings)

    def __getitem__(self, variant: str) -> Observation:
        return self._unpacked(self._contents[variant], self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)


class _Group:
    def __init__(self, expected: list[str]) -> None:
        self.expected = expected
        self.members: dict[str, str] = {}
        self.observed: dict[str, bytes] = {}
        self.failed: list[str] = []
        self.golden: GoldenMark | None = None


class Groups:
    """All groups of a session. `local`: where there are contents and events that did not travel."""

    def __init__(self, normalize: Normalize, local: Local | None = None) -> None:
        self._normalize = normalize
        self._local = local
        self._find = nothing_at_hand if local is None else local.data
        self._groups: dict[str, _Group] = {}
        self.counts: Counter[str] = Counter()
        #: Why groups were not compared, and how many for each reason.
        self.reasons: Counter[str] = Counter()
        self.agreed: list[str] = []
        #: Markers that hide nothing any more.
        self.needless: list[str] = []
        #: What was let pass, and where.
        self.notes: list[str] = []
        self.diverged: dict[str, list[str]] = {}
        #: Of each group the kind of its verdict, and the reason.
        self.verdicts: dict[str, tuple[str, str]] = {}
        #: Of groups that stayed incomplete: their goldens, and why.
        self.incomplete: dict[str, tuple[GoldenMark, str]] = {}

    def add(self, report: pytest.TestReport, membership: Membership, *, failed: bool) -> Judged | None:
        """Take note of a test's last report; what became of the group that it completes, if it does."""
        name = membership["group"]
        if len(membership["expected"]) == 1 and not membership["observed"]:
            self._count(name, Verdict(INCOMPARABLE, ALONE), [], "")
            return None
        group = self._groups.setdefault(name, _Group(membership["expected"]))
        variant = membership["variant"]
        group.members[variant] = report.nodeid
        group.observed[variant] = membership["observed"]
        group.golden = _worse(group.golden, membership["golden"])
        if failed:
            group.failed.append(variant)
        elif variant in group.failed:  # a rerun that passed
            group.failed.remove(variant)
        if any(expected not in group.members for expected in group.expected):
            return None
        del self._groups[name]
        members = {variant: group.members[variant] for variant in group.expected}
        seen = {variant: group.observed[variant] for variant in group.expected}
        observed = Observed({variant: content for variant, content in seen.items() if content})
        verdict = self._verdict(name, group, observed, membership)
        text = self._text(verdict, members, membership["level"])
        self._count(name, verdict, list(members.values()), text)
        path, line, _ = report.location
        location = path, line, name.partition("::")[2].replace("::", ".")
        level, why_not = membership["level"], self._why_not(group)
        return Judged(name, members, observed, verdict, text, location, level, why_not, group.golden)

    def done(self, judged: Judged) -> None:
        """Nobody needs the journals of a group any more."""
        if self._local is not None:
            for journal in judged.observed.journals:
                self._local.discard(journal)

    def compare(self, judged: Judged, level: Level) -> Verdict:
        """What a group would be judged by another level."""
        return self._judge(judged.group, judged.observed, level)

    def _verdict(self, name: str, group: _Group, observed: Observed, membership: Membership) -> Verdict:
        level = membership["level"]
        why_not = self._why_not(group)
        if why_not == ALONE:
            return Verdict(INCOMPARABLE, ALONE)
        if level is None:
            if not why_not:
                self._look_behind(membership, observed, strict=False)
            return Verdict(INCOMPARABLE, "told not to compare")
        if why_not:
            return Verdict(INCOMPARABLE, why_not)
        verdict = self._judge(name, observed, Level(*level))
        self.notes += [f"{name}: {note}" for note in verdict.notes]
        if verdict.kind == AGREED:
            self._look_behind(membership, observed, strict=level[0])
        return verdict

    def _look_behind(self, membership: Membership, observed: Observed, *, strict: bool) -> None:
        """Whether what a marker leaves out would make a difference."""
        name, exempt = membership["group"], membership["exempt"]
        if exempt and self._judge(name, observed, Level(strict)).kind == AGREED:
            self.needless.append(f"{exempt} of {name} hides nothing any more")

    def _why_not(self, group: _Group) -> str:
        """Why there is nothing to compare."""
        if len(group.expected) < 2:
            return ALONE
        if group.failed:
            return f"did not pass on {', '.join(group.failed)}"
        if not any(group.observed.values()):
            return "nothing was asked of Wasm"
        if not all(group.observed.values()):
            return "Wasm was asked on some backends only"
        return ""

    def _judge(self, name: str, observed: Observed, level: Level) -> Verdict:
        if observed.is_same and self._normalize.changes_nothing:
            return Verdict(AGREED)
        from pytest_wasmer.agreement.judge import judge  # of the few that need it

        whole = self._whole(observed, level)
        normal = {
            variant: found._replace(events=self._normalize(name, [*found.events])) for variant, found in whole.items()
        }
        return judge(normal, level, self._find)

    def _whole(self, observed: Mapping[str, Observation], level: Level) -> Mapping[str, Observation]:
        """All of it, where digests of what did not travel differ, and journals are at hand."""
        if self._local is None or all(found.is_whole for found in observed.values()):
            return observed
        rests = [[[point[level.strict] for point in found.checkpoints], found.state] for found in observed.values()]
        if all(rest == rests[0] for rest in rests):
            return observed
        told = {name: self._local.told(found.journal) for name, found in observed.items() if not found.is_whole}
        if not all(journal is not None and journal.whole for journal in told.values()):
            return observed
        return {**observed} | {
            name: observed[name]._replace(events=journal.events, checkpoints=[], state=journal.state)
            for name, journal in told.items()
            if journal is not None
        }

    def _text(self, verdict: Verdict, members: dict[str, str], level: tuple[bool, bool, bool, bool] | None) -> str:
        """What the failure of the group says; "" where it is none."""
        if verdict.kind == DIVERGED:
            from pytest_wasmer.agreement.verdicts import message  # of the few that need it

            return message(verdict, members, self._find)
        if verdict.reason == NOT_DETERMINISTIC and level is not None and level[0]:
            return f"{verdict.reason}, an error under strict: {told(verdict)}"
        return ""

    def _count(self, name: str, verdict: Verdict, members: list[str], text: str) -> None:
        self.counts[verdict.kind] += 1
        self.verdicts[name] = verdict.kind, verdict.reason
        if verdict.kind == AGREED:
            self.agreed.append(name)
        elif text:
            self.diverged[name] = members
        if verdict.kind == INCOMPARABLE:
            self.reasons[verdict.reason + (f": {name}: {told(verdict)}" if verdict.outcomes else "")] += 1

    def close(self) -> None:
        """The session ends: what is incomplete now stays so."""
        for name, group in self._groups.items():
            reason = f"{len(group.members)} of {len(group.expected)} backends ran it"
            self.counts[INCOMPARABLE] += 1
            self.reasons[reason] += 1
            self.verdicts[name] = INCOMPARABLE, reason
            if group.golden is not None:
                self.incomplete[name] = group.golden, reason
        self._groups.clear()


def _worse(one: GoldenMark | None, other: GoldenMark | None) -> GoldenMark | None:
    """What one backend, at least, found."""
    return one if other is None or (one is not None and one["state"] != SAME) else other
