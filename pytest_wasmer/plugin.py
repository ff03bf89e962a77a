"""The pytest hooks, and nothing else: each is a call or two into a room below. PYTEST_DONT_REWRITE

A suite without Wasm pays for what is here and for what this imports: little, of the standard library and pytest.
What only tests with Wasm need is in `run.py`, whose hooks are registered when there is one.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

import pytest_wasmer.settings as settings  # `from pytest_wasmer import` asks for what tests use
from pytest_wasmer.fixtures import ALL, FIXTURE, NAMES, plugin_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pytest_wasmer.session import WasmSession


class Wasm:
    """What the hooks of one `pytest.Config` share. The session comes, and all below it, with the first need of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.settings = settings.read(config)
        self.began = time.time()
        #: The test that runs now, or ran last.
        self.item: pytest.Item | None = None
        #: Once there is one.
        self.session: WasmSession | None = None
        # The tests, when they were last put in order.
        self._ordered: list[pytest.Item] = []

    def need(self) -> WasmSession:
        if self.session is None:
            from pytest_wasmer.run import Summary
            from pytest_wasmer.session import WasmSession

            self.session = WasmSession(self._config, self.settings, self.began)
            self.session.begin_test(self.item)
            self._config.pluginmanager.register(Summary(self.session), "wasm-summary")
        return self.session

    def begin(self) -> WasmSession:
        """There is a test with Wasm."""
        session = self.need()
        session.begin()
        return session

    def begin_test(self, item: pytest.Item) -> None:
        """What runs now, and may be the first to ask for Wasm."""
        self.item = item
        if self.session is not None:
            self.session.begin_test(item)

    def in_order(self, items: list[pytest.Item]) -> None:
        """A hook for what picks tests by their order: --sw skips all that comes before the failed one."""
        session = self.session
        if session is not None and session.begun and items != self._ordered:
            from pytest_wasmer import selection

            self._ordered = [*selection.in_mirror_order(items, lambda: session.registry.names)]
            items[:] = self._ordered


WASM: pytest.StashKey[Wasm] = pytest.StashKey()
SIGACTIONS = "pytest_wasmer.runtime.sigactions"


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    import pytest_wasmer.hookspecs as hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    for line in settings.MARKER_LINES:
        config.addinivalue_line("markers", line)
    # --help and --version must work whatever the settings say.
    if config.option.help or config.option.version:
        return
    wasm = config.stash[WASM] = Wasm(config)
    if wasm.settings.given:
        session = wasm.need()
        if wasm.settings.backends.given or wasm.settings.isolation.value == settings.NONE:
            _ = session.selection  # a usage error now, not in the middle of collection
        if wasm.settings.isolation.value == settings.NONE:
            import_module(SIGACTIONS)  # now: runs within tests are to share it


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if ALL in metafunc.fixturenames:
        from pytest_wasmer import together

        session = metafunc.config.stash[WASM].begin()
        together.check(metafunc, lambda: session.selection, session.registry.names)
    elif FIXTURE in metafunc.fixturenames:
        from pytest_wasmer import selection

        session = metafunc.config.stash[WASM].begin()
        selection.parametrize(metafunc, lambda: session.selection, session.registry.names)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    # Registered before pytest's FixtureManager and after stepwise, hence called between the two.
    wasm = session.config.stash.get(WASM, None)
    if wasm is not None:
        if session.config.hook.pytest_wasmer_backends.get_hookimpls():
            _ = wasm.need().registry  # a usage error now, not in the middle of collection
        fixtures = plugin_of(wasm.need)
        vars(fixtures)["pytest_collection_modifyitems"] = wasm.in_order
        session.config.pluginmanager.register(fixtures, "wasm-fixtures")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    result = yield
    wasm = config.stash[WASM]
    marked = _one_is_marked(items)
    if marked or (wasm.session and wasm.session.begun):
        from pytest_wasmer import selection

        session = wasm.need()
        if marked:
            selection.mark_unparametrized(items, lambda: session.selection, lambda: session.registry.names)
        wasm.in_order(items)
        if session.begun and "hypothesis" in sys.modules:
            session.begin_properties(items)
    return result


def _one_is_marked(items: Sequence[pytest.Item]) -> bool:
    """Whether a test has a marker of ours. Looks at classes and modules once: this is for suites without Wasm, too."""
    parents = {parent for parent in {item.parent for item in items} if parent is not None}
    above = {node for parent in parents for node in parent.listchain()}
    ours = settings.MARKER_NAMES
    return any(mark.name in ours for nodes in (items, above) for node in nodes for mark in node.own_markers)


def pytest_report_header(config: pytest.Config) -> list[str]:
    wasm = config.stash[WASM]
    return wasm.need().header() if wasm.settings.given else []


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    session = config.stash[WASM].session
    if session is None or not session.begun or session.header_shown:
        return []
    wanted = any({FIXTURE, ALL}.intersection(getattr(item, "fixturenames", ())) for item in items)
    return session.header() if wanted else []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[WASM].begin_test(item)


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    wasm = request.config.stash[WASM]
    if wasm.session is not None or fixturedef.argname in NAMES:
        wasm.need().note_fixture(fixturedef, request)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """For workers of xdist."""
    node.workerinput.update(node.config.stash[WASM].need().workerinput())


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    wasm = config.stash.get(WASM, None)
    if wasm is not None and wasm.session is not None:
        wasm.session.close()
    if SIGACTIONS in sys.modules:
        # pytest's faulthandler has just changed them; and this may be a run within a test that goes on.
        sys.modules[SIGACTIONS].Sigactions.put_back()
