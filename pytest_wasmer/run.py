"""The hooks that only a suite with Wasm needs: registered with the first need of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.report import outcome

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pytest_wasmer.session import WasmSession


class Summary:
    """What a run says: needed also where no test is collected, on the controller of xdist."""

    def __init__(self, session: WasmSession) -> None:
        self._session = session

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._session.take_report(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._session.finish()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._session.take_output(getattr(node, "workeroutput", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = self._session.summary()
        if lines:
            terminalreporter.write_sep("=", "wasm backends")
        for line in lines:
            terminalreporter.write_line(line)


class Run:
    """What happens around tests, once there is one with Wasm."""

    def __init__(self, session: WasmSession) -> None:
        self._session = session

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._session.deselected.update(item.path for item in items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._session.collected(session)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._session.begin_test(item)
        try:
            return (yield)
        finally:
            self._session.begin_test(None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._session.before(item)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self._session.only(item)
        try:
            result = yield
        finally:
            self._session.only(None)
            self._session.observing.end()
        self._session.observing.check_golden(item)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        self._session.renew_fixtures()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        outputs, losses = self._session.after_phase(item, call.when)
        for backend, text in outputs.items():
            item.add_report_section(call.when, f"{backend} engine output", text)
        report = yield
        outcome.complete(report, item, call, losses)
        self._session.inform(report, item)
        return report
