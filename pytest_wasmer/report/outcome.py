"""What a test's report must say about the engines, whatever the test itself made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_wasmer.runtime.errors import EngineLost
from pytest_wasmer.wasm.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


class Outcomes:
    """What became of tests, as their reports arrive: others may have changed them since they were made."""

    def __init__(self) -> None:
        # For the summary, where not all passed: the worst, but a skip in a part of a test that passed is none.
        self._shown: dict[str, str] = {}
        # Not all of which passed.
        self._failed: set[str] = set()

    def note(self, report: pytest.TestReport) -> None:
        name = report.nodeid
        if report.when == "setup":  # a rerun counts from its last attempt
            self._shown.pop(name, None)
            self._failed.discard(name)
        if report.outcome != "passed":
            self._failed.add(name)
            if self._shown.get(name) != "failed":
                self._shown[name] = word_for(report)
        elif report.when == "call" and self._shown.get(name, "failed") != "failed":
            del self._shown[name]

    def shown(self, nodeid: str) -> str:
        """ "failed", "skipped", "xfailed", ...; "" for what has passed so far."""
        return self._shown.get(nodeid, "")

    def has_failed(self, nodeid: str) -> bool:
        """Whether anything of it did not pass."""
        return nodeid in self._failed


def word_for(report: pytest.TestReport) -> str:
    """ "passed", "failed", "skipped", "xfailed", or what other plugins call it."""
    return "xfailed" if report.outcome == "skipped" and hasattr(report, "wasxfail") else report.outcome


def complete(
    report: pytest.TestReport,
    item: pytest.Item,
    call: pytest.CallInfo[None],
    losses: Sequence[EngineLost],
) -> None:
    """Fail a test that lost an engine process, or cannot even find its module.

    `wasm_xfail` must not hide those, nor may a test that catches every exception pass with a dead engine.
    """
    if report.failed:
        return
    crashes = [loss for loss in losses if not loss.interrupted]
    if call.excinfo is not None and (isinstance(call.excinfo.value, (EngineLost, SourceError)) or _cut(report, losses)):
        _fail(report, item.repr_failure(call.excinfo))
    elif crashes:
        said = "\n".join(f"{type(crash).__name__}: {crash}" for crash in crashes)
        _fail(report, f"{said}\nThe test went on without noticing.")


def _cut(report: pytest.TestReport, losses: Sequence[EngineLost]) -> bool:
    """Whether a test that is to fail was ended by what interrupted an engine: pytest-timeout, say."""
    return hasattr(report, "wasxfail") and any(loss.interrupted for loss in losses)


def _fail(report: pytest.TestReport, why: object) -> None:
    report.outcome = "failed"
    report.longrepr = why  # type: ignore[assignment]
    if hasattr(report, "wasxfail"):
        del report.wasxfail
