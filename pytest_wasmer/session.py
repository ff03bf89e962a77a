"""The state of one pytest session: everything the hooks and fixtures share, made when it is first needed."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import checking, selection, settings
from pytest_wasmer.agreement import FOLDER
from pytest_wasmer.fixtures import ALL, FACTORIES, FIXTURE, GOLDEN
from pytest_wasmer.observing import Observing
from pytest_wasmer.remaking import Remaking
from pytest_wasmer.report.outcome import Outcomes
from pytest_wasmer.variants import ALL_AT_ONCE, FRESH, RELOADED, backend_in, variants_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from pytest_wasmer.engines.registry import BackendSpec, Registry
    from pytest_wasmer.goldens import Goldens
    from pytest_wasmer.limits import Bounds
    from pytest_wasmer.modules import Modules
    from pytest_wasmer.report.agreement import Agreement
    from pytest_wasmer.report.bundles import Bundles
    from pytest_wasmer.report.run_report import RunReport
    from pytest_wasmer.report.terminal import Facts, Tally
    from pytest_wasmer.report.waiting import Board
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.runtime.errors import EngineLost
    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.selection import Selection
    from pytest_wasmer.settings import Settings
    from pytest_wasmer.together import Together
    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.source import SourceLike

# What workers of xdist say of goldens without a test.
UNUSED = "wasm_unused"


class WasmSession:
    """One per `pytest.Config`. Nothing native happens before a test asks for a module."""

    def __init__(self, config: pytest.Config, settings: Settings, began: float) -> None:
        self._config = config
        self.settings = settings
        #: In seconds since the epoch; the same on all workers of xdist.
        self.began: float = getattr(config, "workerinput", {}).get("wasm_began", began)
        # Of xdist.
        self._is_worker = hasattr(config, "workerinput")
        #: The test that runs now; session-scoped fixtures cannot know it.
        self.item: pytest.Item | None = None
        # What it is parametrized with.
        self._parameter: str | None = None
        # Whether it names `wasm_golden`.
        self._has_golden = False
        #: Files some tests of which do not run.
        self.deselected: set[Path] = set()
        #: Whether there is a test with Wasm.
        self.begun = False
        self.header_shown = False
        # Of the test that runs: seconds that no report has said yet, and whether it came to its call.
        self._unsaid = 0.0
        self._called = False
        self._outcomes = Outcomes()
        # The variant of the last test that said it by marker, see `variant`.
        self._said: str | None = None
        # The last test that had to be asked for it.
        self._asked: pytest.Item | None = None
        self.observing = Observing(self, config)
        # What the summary says of the report of the run.
        self._wrote = ""
        # Whether fixtures may hold instances of a lost engine process.
        self._stale = False
        self._remaking = Remaking()

    @cached_property
    def cache(self) -> Path:
        """Where this plugin keeps what other runs can use."""
        import platformdirs

        return Path(platformdirs.user_cache_dir("pytest-wasmer", appauthor=False))

    @cached_property
    def registry(self) -> Registry:
        from pytest_wasmer.engines.interpreter import Named
        from pytest_wasmer.engines.registry import Registry
        from pytest_wasmer.registered import registered

        python = self.settings.python
        named = Named(python.value, settings.where(settings.PYTHON, python), self._config.rootpath)
        return Registry(registered(self._config), self.cache, named if python.given else None)

    @cached_property
    def selection(self) -> Selection:
        codes = (FRESH, RELOADED) if self.settings.artifacts.value == "both" else ("",)
        chosen = selection.select(self.settings.backends, self.registry, codes)
        if self.settings.isolation.value == "none":
            selection.refuse_other_python(self.settings.isolation, chosen, self.registry)
        return chosen

    @cached_property
    def pool(self) -> EnginePool:
        from pytest_wasmer.runtime.pool import EnginePool

        pool = EnginePool(self.settings.isolation.value, self.cache / "pycache")
        pool.record(*self.observing.recorded)
        pool.limit(self._bounds.now)
        return pool

    @cached_property
    def _bounds(self) -> Bounds:
        from pytest_wasmer.limits import Bounds

        return Bounds(self.settings)

    @property
    def started(self) -> bool:
        """Whether an engine was ever asked for."""
        return "pool" in self.__dict__

    @cached_property
    def modules(self) -> Modules:
        from pytest_wasmer.modules import Modules

        return Modules(self._config, self.settings, self.registry, self.cache, self.began)

    @cached_property
    def together(self) -> Together:
        from pytest_wasmer.together import Together

        return Together(self)

    def connection(self, variant: str) -> Connection:
        """The live one."""
        return self.pool.connection(self._spec(variant))

    def load(self, variant: str, source: SourceLike, asking: str) -> Module:
        """The module of a source that code in the file `asking` names."""
        __tracebackhide__ = True
        connect = self._connect(variant)
        # An engine process starts while this one imports what follows.
        if not self._is_worker:
            _ = self._agreement
        from pytest_wasmer.wasm.source import read

        return self.modules.load(variant, connect, read(source, self._folder(asking), self._config.rootpath))

    def load_artifact(self, variant: str, path: str | os.PathLike[str], asking: str, *, trusted: bool) -> Module:
        """The module of an artifact file that code in the file `asking` names."""
        __tracebackhide__ = True
        from pytest_wasmer.wasm.source import find

        connect = self._connect(variant)
        found = find("artifact", Path(path), self._folder(asking), self._config.rootpath)
        return self.modules.load_artifact(variant, connect, found, trusted=trusted)

    def _connect(self, variant: str) -> Callable[[], Connection]:
        """What gives the live connection of a variant. Raises `WrongBackend` where the running test has another."""
        __tracebackhide__ = True
        connect = partial(self.pool.connection, self._spec(variant))
        connection = connect()
        if connection.test_runs_on:
            connection.refuse_other_test("wasm_module, wasm_instance or wasm_round_trip")
        item = self.item
        if item is not None and self._parameter is None and self.together.asked_by(item) is None:
            self._asked, self._said = item, variant  # the value of wasm_backend may be that of an earlier test
        return connect

    def _folder(self, asking: str) -> Path:
        """Where relative paths start."""
        folder = Path(asking).parent
        if self.item is not None and not folder.is_relative_to(self._config.rootpath):
            return self.item.path.parent  # called by pytest.raises, a thread pool, a doctest
        return folder

    def _spec(self, variant: str) -> BackendSpec:
        """What runs a variant: each has an engine of its own, so that what was made on one cannot serve another."""

        return self.registry.spec(backend_in(variant))._replace(name=variant)

    def variant(self) -> str:
        """What the running test runs on: its parameter, or the only one left. Fails or skips the test."""
        if self.item is None:
            pytest.fail(f"{FIXTURE} is used outside a test", pytrace=False)
        if self._parameter is not None:
            return self._parameter
        self.begin()
        self._asked = self.item
        self._said = None
        self._said = selection.only_variant(self.item, self.selection, self.registry.names)
        return self._said

    def _runs_on(self, item: pytest.Item) -> tuple[str | None, list[str] | None]:
        """What the running test runs on, once it has asked for it, or what it asks all at once."""
        if self._parameter is not None:
            return self._parameter, None
        if FIXTURE in getattr(item, "fixturenames", ()) or self._asked is item:
            return self._said, self.together.asked_by(item)
        return None, self.together.asked_by(item)

    # What happens around a test

    def begin(self) -> None:
        """There is a test with Wasm: from now on the hooks that watch tests are needed."""
        if not self.begun:
            from pytest_wasmer.run import Run

            self.begun = True
            self._config.pluginmanager.register(Run(self), "wasm-run")

    def begin_properties(self, items: Sequence[pytest.Item]) -> None:
        """Hypothesis is in use: by which tests?"""
        from pytest_wasmer import properties

        if any(map(properties.is_property_test, items)):
            plugin = properties.Properties(lambda: len(self.selection.variants))
            self._config.pluginmanager.register(plugin, "wasm-properties")

    def note_fixture(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
        """To be called before each set-up."""
        self._remaking.note(fixturedef, request, watch=self.begun)

    def before(self, item: pytest.Item) -> None:
        """A test that cannot be parametrized must not get the cached backend, or failure, of the one before."""
        if self.started:
            self.pool.settle()
        self.renew_fixtures()
        if self._parameter is None and self.together.before(item):
            self._remaking.let_go(ALL)
        if self._is_of_another_backend(item):
            self._remaking.let_go(FIXTURE)
        said = selection.said_late(item, self.registry.names)
        had_golden, self._has_golden = self._has_golden, GOLDEN in getattr(item, "fixturenames", ())
        if not (had_golden and self._has_golden):  # who asks for it in passing is refused
            self._remaking.let_go(GOLDEN)
        limits = self._bounds.begin(said, lambda: any(self._runs_on(item)))
        if self.started:
            self.pool.limit(limits)
        self.observing.begin(item, said)

    def _is_of_another_backend(self, item: pytest.Item) -> bool:
        """Whether a test must not get the `wasm_backend` that there is.

        pytest makes it anew when it comes to it, which is too late for what was already given to the test.
        """
        request = self._remaking.request_of(FIXTURE)
        if request is None:
            return False
        if self._parameter is None:
            return self._asked is not None and self._left_to(item) != [self._said]
        return getattr(request, "param", None) != self._parameter

    def _left_to(self, item: pytest.Item) -> list[str]:
        """Of what is selected, what the markers of a test leave."""
        return selection.left_to(item, self.selection, self.registry.names)

    def only(self, item: pytest.Item | None) -> None:
        """While a test runs, its backends only: others could but be asked through something kept by mistake."""
        if self.started:
            variants = None if item is None else self._variants_said_by(item)
            self.pool.only(variants)
            if "together" in self.__dict__:
                self.together.only(variants)

    def _variants_said_by(self, item: pytest.Item) -> list[str] | None:
        variant, asked = self._runs_on(item)
        if variant is not None or asked is not None:
            return asked if variant is None else [variant]
        left = self._left_to(item) if item.get_closest_marker("wasm_backends") is not None else []
        return left if len(left) == 1 else None

    def begin_test(self, item: pytest.Item | None) -> None:
        """What runs now; None between tests."""
        if item is not self.item:
            self.item = item
            self._parameter = None if item is None else selection.variant_of(item)
            self.observing.membership = None

    def collected(self, session: pytest.Session) -> None:
        """The tests that will run are known. Goldens are looked for where there may be some."""
        folders = {path.parent for path in {item.path for item in session.items}}
        named = any(GOLDEN in getattr(item, "fixturenames", ()) for item in session.items)
        if named or any((folder / FOLDER).is_dir() for folder in folders):
            self.goldens.collected(session, self.deselected)

    @cached_property
    def goldens(self) -> Goldens:
        from pytest_wasmer.goldens import Goldens

        return Goldens(self._config, self.settings, lambda: self.observing.local)

    def take_output(self, output: Mapping[str, Any]) -> None:
        """What a worker of xdist says when it ends."""
        if "tally" in self.__dict__ and output.get(UNUSED):
            self.goldens.unused = output[UNUSED]

    def renew_fixtures(self) -> None:
        """Let go of what fixtures of wider scope hold of a lost engine process: the next test makes them anew."""
        if self._stale:
            self._stale = False
            self._remaking.let_go(*FACTORIES)

    def after_phase(self, item: pytest.Item, when: str) -> tuple[dict[str, str], list[EngineLost]]:
        """What native code printed (by backend) and which engine processes were lost since the last time.

        What fixtures hold of those is then due to be made anew.
        """
        if not self.started or (when != "teardown" and not self.pool.was_asked()):
            return {}, []
        outputs, losses = self.pool.take()
        if losses:
            self._stale = True
            self.modules.crashes.note(losses, item.nodeid)
        if when == "teardown":
            self.modules.crashes.end_test()
        return outputs, losses

    # What the run says

    def inform(self, report: pytest.TestReport, item: pytest.Item) -> None:
        """Add to a report what the summary needs: to the last one of a test, and to those with news."""
        variant, asked = self._runs_on(item)
        if variant is None and asked is None:
            return
        last, passed = report.when == "teardown", report.outcome == "passed"
        self._unsaid += report.duration
        self._called |= report.when == "call"
        news = self.started and self.modules.has_news
        if last or news or not passed or asked is not None or self.settings.report.value:
            loadings, warnings = self.modules.take() if news else ({}, [])
            membership = self.observing.membership if last else None
            facts: Facts = {
                "variant": variant or ALL_AT_ONCE,
                "at_once": "" if asked is None else self.together.said_of(asked),
                "seconds": self._unsaid,
                "ended": last and self._called,
                "loadings": loadings,
                "warnings": warnings,
                "membership": membership,
            }
            self._unsaid = 0.0
            report.wasm = facts  # type: ignore[attr-defined]
        if last:
            self._called = False

    @cached_property
    def tally(self) -> Tally:
        from pytest_wasmer.report.terminal import Tally

        return Tally()

    def header(self) -> list[str]:
        from pytest_wasmer.report.terminal import header

        self.header_shown = True
        return header(self.settings, self.selection, self.registry)

    def summary(self) -> list[str]:
        """Nothing where no test ran on a backend."""
        wrote = [self._wrote] if self._wrote else []
        if "tally" not in self.__dict__:
            return wrote
        from pytest_wasmer.report.terminal import notes, table

        # xdist shows no header after the collection.
        missing = [] if self.header_shown else notes(self.selection, self.registry)
        rows = table(self.tally.rows([*variants_of(self.registry.names), ALL_AT_ONCE]))
        said = self.tally.at_once() + self._agreement.lines() if rows else []
        if rows and "goldens" in self.__dict__:
            said += self.goldens.lines()
        return rows + said + self.tally.remarks() + wrote + missing

    @cached_property
    def _agreement(self) -> Agreement:
        from pytest_wasmer.report.agreement import Agreement

        return Agreement(self._config, self.observing.local, lambda: self.goldens.update, lambda: self._bundles)

    @cached_property
    def _bundles(self) -> Bundles:
        from pytest_wasmer.report.bundles import Bundles

        return Bundles(self._config, self.settings, self.registry, self.observing.local)

    def take_report(self, report: pytest.TestReport) -> None:
        """A report has arrived here; a worker of xdist sends its own on."""
        if self._is_worker:
            return
        self._outcomes.note(report)
        facts: Facts | None = getattr(report, "wasm", None)
        if facts is None:
            return
        self.tally.add(report, facts, self._outcomes.shown(report.nodeid))
        if self._run_report is not None:
            self._run_report.add(report, facts)
        if facts["membership"] is not None:
            self._agreement.add(report, facts["membership"], failed=self._outcomes.has_failed(report.nodeid))
        vars(report)["wasm"] = None  # reports live as long as the session

    def finish(self) -> None:
        if self._is_worker and "modules" in self.__dict__:
            self.modules.note_use()
        if self._is_worker and "goldens" in self.__dict__:
            self._config.workeroutput[UNUSED] = self.goldens.unused  # type: ignore[attr-defined]
        if "tally" in self.__dict__:
            self._agreement.finish()
            self._evict()
        if self._run_report is not None and not self._config.option.collectonly:
            self._wrote = self._write_report(self._run_report)

    @cached_property
    def _run_report(self) -> RunReport | None:
        if not self.settings.report.value or self._is_worker:
            return None
        from pytest_wasmer.report.agreement import Normalizer
        from pytest_wasmer.report.run_report import RunReport

        return RunReport(checking.report_file(self._config, self.settings.report), Normalizer(self._config))

    def _write_report(self, report: RunReport) -> str:
        from pytest_wasmer.report.run_report import environment

        backends = [self.registry.availability(name) for name in self.selection.names]
        about = environment(self._config, self.settings, backends)
        return report.write(about, self.began, self._agreement.verdicts, self.observing.local)

    def _evict(self) -> None:
        """Make room in the store where this run, workers of xdist included, has added to it.

        Where it has not, room is not what is missing, and looking at 10,000 artifacts takes up to a second.
        """
        if self.tally.compiled:
            self.tally.evicted = self.modules.evict()

    # With xdist, on the controller

    @cached_property
    def _board(self) -> Board:
        from pytest_wasmer.report.waiting import Board

        return Board(self._config)

    def workerinput(self) -> dict[str, object]:
        """For workers: what is compiled after `wasm_began` is not compiled again by --wasm-cache=refresh."""
        from pytest_wasmer.report.waiting import BOARD

        local = self.observing.local
        return {"wasm_began": self.began, "wasm_local": local.folder if local else None, BOARD: self._board.folder}

    def close(self) -> None:
        if self.started:
            self.pool.close()
        if "_board" in self.__dict__:
            self._board.close()
        self.observing.close()
