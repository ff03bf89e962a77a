"""The hooks around tests that only a suite with Wasm needs: registered when its first Wasm test is met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.report import outcome

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pytest_wasmer.session import WasmSession


class Run:
    """One per session."""

    def __init__(self, session: WasmSession) -> None:
        self._session = session

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._session.goldens.deselected.update(item.path for item in items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._session.goldens.collected(session)

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
        outcome.complete(report, item, call, losses, self._session.facts(item, call.when))
        return report
