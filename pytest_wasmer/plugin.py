"""The pytest hooks, and nothing else: each is a call or two into a room below.

A suite without Wasm pays for these imports and hooks only: standard library and pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import markers, selection, settings
from pytest_wasmer.fixtures import wasm_backend, wasm_instance, wasm_module
from pytest_wasmer.report import outcome
from pytest_wasmer.report.terminal import Tally, header, missing_lines, summary
from pytest_wasmer.session import SESSION, WasmSession

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["wasm_backend", "wasm_instance", "wasm_module"]

# Whether the header was shown.
SHOWN = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_wasmer import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    for line in markers.LINES:
        config.addinivalue_line("markers", line)
    # --help and --version must work whatever the settings say.
    if config.option.help or config.option.version:
        return
    session = config.stash[SESSION] = WasmSession(config)
    config.pluginmanager.register(Summary(config), "wasm-summary")
    if session.settings.backends.given:
        _ = session.selection  # a usage error now, not in the middle of collection


def pytest_report_header(config: pytest.Config) -> list[str]:
    session = config.stash[SESSION]
    return _header(config) if session.settings.given else []


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    if config.stash.get(SHOWN, False) or not any(selection.backend_of(item) for item in items):
        return []
    return _header(config)


def _header(config: pytest.Config) -> list[str]:
    config.stash[SHOWN] = True
    return header(config.stash[SESSION])


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if selection.FIXTURE in metafunc.fixturenames:
        session = metafunc.config.stash[SESSION]
        selection.parametrize(metafunc, lambda: session.selection, session.registry.names)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    result = yield
    session = config.stash[SESSION]
    selection.mark_unparametrized(items, lambda: session.selection, lambda: session.registry.names)
    items[:] = selection.in_mirror_order(items, lambda: session.registry.names)
    return result


# Around a test


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    session = item.config.stash[SESSION]
    session.item = item
    try:
        return (yield)
    finally:
        session.item = None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    session = item.config.stash[SESSION]
    session.settle()
    session.before(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    item.config.stash[SESSION].settle()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    session = item.config.stash[SESSION]
    session.settle()
    session.renew_fixtures()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    request.config.stash[SESSION].note_fixture(fixturedef, request)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    session = item.config.stash[SESSION]
    for backend, text in session.take_outputs().items():
        item.add_report_section(call.when, f"{backend} engine output", text)
    report = yield
    outcome.complete(report, session, item, call)
    return report


# The end


class Summary:
    """Registered per session, since the hooks that count get no config."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._tally = Tally()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tally.add(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._tally.used:
            return
        session = self._config.stash[SESSION]
        terminalreporter.write_sep("=", "wasm backends")
        for line in summary(self._tally.rows(session.registry.names)):
            terminalreporter.write_line(line)
        # xdist shows no header after the collection.
        for line in [] if self._config.stash.get(SHOWN, False) else missing_lines(session.selection):
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()
