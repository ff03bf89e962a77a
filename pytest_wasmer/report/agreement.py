"""Divergences as failed tests of their own, for all that counts failures: -x, --lf, --sw, JUnit, exit status."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.agreement.groups import Groups, told
from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, INCOMPARABLE, NOT_DETERMINISTIC

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.groups import Judged, Membership
    from pytest_wasmer.agreement.local import Local
    from pytest_wasmer.goldens import Update
    from pytest_wasmer.report.bundles import Bundles, Kept

# In pytest's cache: the members of groups that diverged and have not agreed since.
REMEMBERED = "wasmer/divergences"
REASONS_SHOWN = 10


class Normalizer:
    """What the hook makes of events of a group."""

    def __init__(self, config: pytest.Config) -> None:
        self._hook = config.hook.pytest_wasmer_normalize

    @property
    def changes_nothing(self) -> bool:
        """Whether nobody implements the hook; a conftest.py that is found later may."""
        return not self._hook.get_hookimpls()

    def __call__(self, group: str, events: list[Event]) -> list[Event]:
        for normalized in self._hook(group=group, events=events):
            events = normalized
        return events


class Agreement:
    """One per session, where reports arrive."""

    def __init__(
        self, config: pytest.Config, local: Local | None, update: Callable[[], Update], bundles: Callable[[], Bundles]
    ) -> None:
        self._config = config
        self._update = update
        self._bundles = bundles
        self._groups = Groups(Normalizer(config), local)

    def add(self, report: pytest.TestReport, membership: Membership, *, failed: bool) -> None:
        """Take note of a test's last report, and say what became of the group that it completes."""
        judged = self._groups.add(report, membership, failed=failed)
        if judged is None:
            return
        kept = self._bundles().keep(judged)
        if judged.text:
            self._emit(judged if kept is None else judged._replace(text=kept.within(judged.text)), kept)
        elif judged.verdict.reason == NOT_DETERMINISTIC:
            self._warn(judged, f"{judged.verdict.reason}, nothing was compared: {told(judged.verdict)}")
        if judged.golden is not None:
            self._update().take(judged, judged.golden, partial(self._groups.compare, judged))
        self._groups.done(judged)

    def _warn(self, judged: Judged, text: str) -> None:
        """In the warnings summary, whatever filters say: a warning that is an error would end the session here."""
        path, line, _ = judged.location
        said = warnings.WarningMessage(pytest.PytestWarning(text), pytest.PytestWarning, path, (line or 0) + 1)
        self._config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": said, "when": "runtest", "nodeid": judged.group, "location": None}
        )

    def _emit(self, divergence: Judged, kept: Kept | None) -> None:
        hook, manager = self._config.hook, self._config.pluginmanager
        session: Any = manager.getplugin("session")
        if session is not None:
            session.testscollected += 1  # else progress goes beyond 100 %
        hook.pytest_runtest_logstart(nodeid=divergence.group, location=divergence.location)
        for when, outcome, text in (("call", "failed", divergence.text), ("teardown", "passed", None)):
            report = pytest.TestReport(
                nodeid=divergence.group,
                location=divergence.location,
                keywords={},
                outcome=outcome,  # type: ignore[arg-type]
                longrepr=text,
                when=when,  # type: ignore[arg-type]
                user_properties=[] if kept is None else kept.properties,
            )
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=divergence.group, location=divergence.location)
        self._remember_step(divergence)
        # xdist looks at failures of its workers only.
        distributed: Any = manager.getplugin("dsession")
        if distributed is not None and session is not None and session.shouldfail and not distributed.shouldstop:
            distributed.shouldstop = session.shouldfail

    def _remember_step(self, divergence: Judged) -> None:
        """--sw goes on at a test that can be collected."""
        stepwise: Any = self._config.pluginmanager.getplugin("stepwiseplugin")
        for owner, name in ((getattr(stepwise, "cached_info", None), "last_failed"), (stepwise, "lastfailed")):
            if getattr(owner, name, None) == divergence.group:
                setattr(owner, name, next(iter(divergence.members.values())))

    def finish(self) -> None:
        """At the end: what --lf is to run again, and what stays unsaid otherwise."""
        self._groups.close()
        for group, (mark, why) in self._groups.incomplete.items():
            self._update().incomplete(group, mark, why)
        cache: Any = getattr(self._config, "cache", None)
        if cache is None:
            return
        known = cache.get(REMEMBERED, {})
        remembered: dict[str, list[str]] = dict(known) if isinstance(known, dict) else {}
        for group in self._groups.agreed:
            remembered.pop(group, None)
        remembered.update(self._groups.diverged)
        remembered = {group: ids for group, ids in remembered.items() if self._exists(group)}
        if remembered != known:
            cache.set(REMEMBERED, remembered)
        last_failed: Any = getattr(self._config.pluginmanager.getplugin("lfplugin"), "lastfailed", None)
        if isinstance(last_failed, dict):
            for group in self._groups.diverged:
                last_failed.pop(group, None)
            last_failed.update({member: True for members in remembered.values() for member in members})

    def _exists(self, group: str) -> bool:
        return Path(self._config.rootpath, group.partition("::")[0]).exists()

    @property
    def verdicts(self) -> Mapping[str, tuple[str, str]]:
        """Of each group the kind of its verdict, and the reason."""
        return self._groups.verdicts

    def lines(self) -> list[str]:
        """For the summary: always, and in words where nothing was compared."""
        counts, reasons = self._groups.counts, self._groups.reasons
        if not counts:
            return []
        if not counts[AGREED] and not counts[DIVERGED]:
            said = "nothing was compared"
        else:
            said = f"{counts[AGREED]} tests agreed, {counts[DIVERGED]} diverged, {counts[INCOMPARABLE]} not compared"
        shown = [f"    {count}: {reason}" for reason, count in reasons.most_common()]
        notes = [f"wasm: {text}" for text in (*self._groups.needless, *self._groups.notes)]
        return [f"wasm: {said}", *_first(shown), *_first(notes)]


def _first(lines: list[str]) -> list[str]:
    return [*lines[:REASONS_SHOWN], *(["    ..."] if len(lines) > REASONS_SHOWN else [])]
