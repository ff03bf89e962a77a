"""Divergences as failed tests of their own, for all that counts failures: -x, --lf, --sw, JUnit, exit status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.agreement.groups import Groups
from pytest_wasmer.agreement.judge import AGREED, DIVERGED, INCOMPARABLE

if TYPE_CHECKING:
    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.groups import Divergence, Membership

# In pytest's cache: the members of groups that diverged and have not agreed since.
REMEMBERED = "wasmer/divergences"
REASONS_SHOWN = 10


class Agreement:
    """One per session, where reports arrive."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._groups = Groups(self._normalize)

    def _normalize(self, group: str, events: list[Event]) -> list[Event]:
        for normalized in self._config.hook.pytest_wasmer_normalize(group=group, events=events):
            events = normalized
        return events

    def add(self, report: pytest.TestReport, membership: Membership | None) -> None:
        """Take note of a report; report the divergence that it completes."""
        divergence = self._groups.add(report, membership)
        if divergence is not None:
            self._emit(divergence)

    def _emit(self, divergence: Divergence) -> None:
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
            )
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=divergence.group, location=divergence.location)
        self._remember_step(divergence)
        # xdist looks at failures of its workers only.
        distributed: Any = manager.getplugin("dsession")
        if distributed is not None and session is not None and session.shouldfail and not distributed.shouldstop:
            distributed.shouldstop = session.shouldfail

    def _remember_step(self, divergence: Divergence) -> None:
        """--sw goes on at a test that can be collected."""
        stepwise: Any = self._config.pluginmanager.getplugin("stepwiseplugin")
        for owner, name in ((getattr(stepwise, "cached_info", None), "last_failed"), (stepwise, "lastfailed")):
            if getattr(owner, name, None) == divergence.group:
                setattr(owner, name, divergence.members[0])

    def finish(self) -> None:
        """At the end: what --lf is to run again, and what stays unsaid otherwise."""
        self._groups.close()
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
        more = ["    ..."] if len(shown) > REASONS_SHOWN else []
        return [f"wasm: {said}", *shown[:REASONS_SHOWN], *more, *[f"wasm: {text}" for text in self._groups.needless]]
