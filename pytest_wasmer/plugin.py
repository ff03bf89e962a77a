"""The pytest hooks, and nothing else: each is a call or two into a room below.

A suite without Wasm pays for what is here and for what this imports: little, of the standard library and pytest.
What only tests with Wasm need is in `run.py`, whose hooks are registered when there is one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import settings
from pytest_wasmer.fixtures import ALL, FIXTURE, plugin_of
from pytest_wasmer.session import SESSION, WasmSession

if TYPE_CHECKING:
    from collections.abc import Generator


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_wasmer import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    for line in settings.MARKER_LINES:
        config.addinivalue_line("markers", line)
    # --help and --version must work whatever the settings say.
    if config.option.help or config.option.version:
        return
    session = config.stash[SESSION] = WasmSession(config)
    config.pluginmanager.register(plugin_of(session), "wasm-fixtures")
    config.pluginmanager.register(Summary(session), "wasm-summary")
    if session.settings.backends.given or session.settings.isolation.value == "none":
        _ = session.selection  # a usage error now, not in the middle of collection


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if ALL in metafunc.fixturenames:
        from pytest_wasmer import together

        session = metafunc.config.stash[SESSION]
        session.begin()
        together.check(metafunc, lambda: session.selection, session.registry.names)
    elif FIXTURE in metafunc.fixturenames:
        from pytest_wasmer import selection

        session = metafunc.config.stash[SESSION]
        session.begin()
        selection.parametrize(metafunc, lambda: session.selection, session.registry.names)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    # Registered before pytest's FixtureManager and after stepwise, hence called between the two.
    wasm = session.config.stash.get(SESSION, None)
    if wasm is not None:
        if session.config.hook.pytest_wasmer_backends.get_hookimpls():
            _ = wasm.registry  # a usage error now, not in the middle of collection
        session.config.pluginmanager.register(Order(wasm), "wasm-order")


class Order:
    """The order in which tests run, for what picks by it: --sw skips all that comes before the failed test."""

    def __init__(self, session: WasmSession) -> None:
        self._session = session

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._session.begun:
            from pytest_wasmer import selection

            items[:] = selection.in_mirror_order(items, lambda: self._session.registry.names)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    result = yield
    session = config.stash[SESSION]
    if session.begun or any(item.get_closest_marker("wasm_xfail") for item in items):
        from pytest_wasmer import selection

        selection.mark_unparametrized(items, lambda: session.selection, lambda: session.registry.names)
        items[:] = selection.in_mirror_order(items, lambda: session.registry.names)
    if session.begun and "hypothesis" in sys.modules:
        session.begin_properties(items)
    return result


def pytest_report_header(config: pytest.Config) -> list[str]:
    session = config.stash[SESSION]
    return session.header() if session.settings.given else []


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    session = config.stash[SESSION]
    wanted = session.begun and any({FIXTURE, ALL}.intersection(getattr(item, "fixturenames", ())) for item in items)
    return session.header() if wanted and not session.header_shown else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    session = item.config.stash[SESSION]
    session.begin_test(item)
    try:
        return (yield)
    finally:
        session.begin_test(None)


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    request.config.stash[SESSION].note_fixture(fixturedef, request)


class Summary:
    """Hooks that are needed also where no test is collected: on the controller of xdist."""

    def __init__(self, session: WasmSession) -> None:
        self._session = session

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "wasm"):
            self._session.take_report(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._session.finish()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._session.take_output(getattr(node, "workeroutput", {}))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """For workers of xdist."""
        node.workerinput.update(self._session.workerinput())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = self._session.summary()
        if lines:
            terminalreporter.write_sep("=", "wasm backends")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()
