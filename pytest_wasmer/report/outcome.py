"""What a test's report must say about the engines, whatever the test itself made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_wasmer.runtime.errors import EngineLost
from pytest_wasmer.wasm.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


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
