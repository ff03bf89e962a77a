"""What a test's report must say about the engines, whatever the test itself made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from pytest_wasmer.runtime.errors import EngineLost
    from pytest_wasmer.session import WasmSession


def complete(report: pytest.TestReport, session: WasmSession, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Add what the summary needs, and fail a test that lost an engine process, or cannot even find its module.

    `wasm_xfail` must not hide those, nor may a test that catches every exception pass with a dead engine.
    """
    backend = session.backend_of(item)
    if backend is not None:
        report.wasm = {"backend": backend, "compiles": session.take_compiles()}  # type: ignore[attr-defined]
    if not session.started:
        return
    crashes = [loss for loss in session.take_losses() if not loss.interrupted]
    if report.failed:
        return
    if call.excinfo is not None and _never_expected(call.excinfo.value):
        _fail(report, item.repr_failure(call.excinfo))
    elif crashes:
        _fail(report, f"{_all_of(crashes)}\nThe test went on without noticing.")


def _never_expected(error: BaseException) -> bool:
    from pytest_wasmer.runtime.errors import EngineLost
    from pytest_wasmer.wasm.errors import SourceError

    return isinstance(error, (EngineLost, SourceError))


def _fail(report: pytest.TestReport, why: object) -> None:
    report.outcome = "failed"
    report.longrepr = why  # type: ignore[assignment]
    if hasattr(report, "wasxfail"):
        del report.wasxfail


def _all_of(crashes: list[EngineLost]) -> str:
    return "\n".join(f"{type(crash).__name__}: {crash}" for crash in crashes)
