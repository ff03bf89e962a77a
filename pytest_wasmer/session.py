"""The state of one pytest session: everything the hooks and fixtures share, made when it is first needed."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import selection, settings
from pytest_wasmer.selection import FIXTURE

if TYPE_CHECKING:
    from pytest_wasmer.engines.registry import Registry
    from pytest_wasmer.runtime.errors import EngineLost
    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.selection import Selection
    from pytest_wasmer.wasm.module import Loader, Module
    from pytest_wasmer.wasm.source import SourceLike

FACTORIES = ("wasm_module", "wasm_instance")


class WasmSession:
    """One per `pytest.Config`. Nothing native happens before a test asks for a module."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.settings = settings.read(config)
        #: The test that runs now; session-scoped fixtures cannot know it.
        self.item: pytest.Item | None = None
        self._compiles: dict[str, list[float]] = {}
        # The backend of the last test that said its backend by marker, see `unparametrized_backend`.
        self._said: str | None = None
        # The last test that had to be asked for it.
        self._asked: pytest.Item | None = None
        # Whether fixtures may hold instances of a lost engine process.
        self._stale = False
        self._fixtures: dict[str, tuple[pytest.FixtureDef[Any], pytest.FixtureRequest]] = {}

    @cached_property
    def cache(self) -> Path:
        """Where this plugin keeps what other runs can use."""
        import platformdirs

        return Path(platformdirs.user_cache_dir("pytest-wasmer", appauthor=False))

    @cached_property
    def registry(self) -> Registry:
        from pytest_wasmer.engines.registry import Registry

        registered = self._config.hook.pytest_wasmer_backends(config=self._config)
        return Registry([spec for specs in registered for spec in specs], self.cache)

    @cached_property
    def selection(self) -> Selection:
        return selection.select(self.settings.backends, self.registry)

    @cached_property
    def pool(self) -> EnginePool:
        from pytest_wasmer.runtime.pool import EnginePool

        return EnginePool(self.settings.isolation.value, self.cache / "pycache")

    @property
    def started(self) -> bool:
        """Whether an engine was ever asked for."""
        return "pool" in self.__dict__

    @cached_property
    def _loader(self) -> Loader:
        from pytest_wasmer.wasm.module import Loader

        return Loader(lambda backend, seconds: self._compiles.setdefault(backend, []).append(seconds))

    def load(self, backend: str, source: SourceLike, asking: str) -> Module:
        """The module of a source that code in the file `asking` names."""
        __tracebackhide__ = True
        from pytest_wasmer.wasm.source import read

        found = read(source, Path(asking).parent, self._config.rootpath)
        return self._loader.load(backend, partial(self.pool.connection, self.registry.spec(backend)), found)

    def unparametrized_backend(self) -> str:
        """The backend of the running test, which has no parameter for it. Fails or skips the test."""
        if self.item is None:
            pytest.fail(f"{FIXTURE} is used outside a test", pytrace=False)
        self._asked = self.item
        self._said = None
        self._said = selection.only_backend(self.item, self.selection, self.registry.names)
        return self._said

    def backend_of(self, item: pytest.Item) -> str | None:
        """The backend that a test runs on, once it has asked for it."""
        if FIXTURE in getattr(item, "fixturenames", ()) or self._asked is item:
            return selection.backend_of(item) or self._said
        return None

    # What happens around a test

    def note_fixture(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
        """Remember the definitions whose values may have to be made anew."""
        if fixturedef.argname in (FIXTURE, *FACTORIES):
            self._fixtures[fixturedef.argname] = (fixturedef, request)

    def before(self, item: pytest.Item) -> None:
        """A test that cannot be parametrized must not get the cached backend, or failure, of the one before."""
        self.renew_fixtures()
        if self._asked is None or selection.backend_of(item) is not None:
            return
        if selection.left_to(item, self.selection, self.registry.names) != [self._said]:
            self._finish(FIXTURE)

    def renew_fixtures(self) -> None:
        """Let go of what fixtures of wider scope hold of a lost engine process: the next test makes them anew."""
        if self._stale:
            self._stale = False
            for name in FACTORIES:
                self._finish(name)

    def _finish(self, name: str) -> None:
        if name in self._fixtures:
            fixturedef, request = self._fixtures.pop(name)
            fixturedef.finish(request)  # type: ignore[arg-type]

    def settle(self) -> None:
        if self.started:
            self.pool.settle()

    def take_outputs(self) -> dict[str, str]:
        return self.pool.take_outputs() if self.started else {}

    def take_losses(self) -> list[EngineLost]:
        """Engine processes lost since the last time. What fixtures hold of them is then due to be made anew."""
        losses = self.pool.take_losses() if self.started else []
        self._stale = self._stale or bool(losses)
        return losses

    def take_compiles(self) -> dict[str, list[float]]:
        """Seconds of each compile since the last time, by backend."""
        compiles, self._compiles = self._compiles, {}
        return compiles

    def close(self) -> None:
        if self.started:
            self.pool.close()


SESSION = pytest.StashKey[WasmSession]()
