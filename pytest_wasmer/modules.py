"""The modules of one session: each loaded once per backend, from the store where it was compiled before."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import checking, settings
from pytest_wasmer.artifacts.key import parts_of
from pytest_wasmer.crashes import Crashes
from pytest_wasmer.report.waiting import waiting
from pytest_wasmer.variants import FRESH, backend_in
from pytest_wasmer.wasm.loading import Fresh, Reloaded
from pytest_wasmer.wasm.module import Loader, module_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.artifacts.key import Parts
    from pytest_wasmer.artifacts.store import Entry, Shelf, Store
    from pytest_wasmer.engines.registry import Registry
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.loading import Loading, Strategy
    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.source import Source


class Modules:
    """Loads modules as `--wasm-artifacts` and `--wasm-cache` say, and notes what that cost.

    `began`: when this run began, in seconds since the epoch.
    """

    def __init__(
        self, config: pytest.Config, chosen: settings.Settings, registry: Registry, cache: Path, began: float
    ) -> None:
        self._config = config
        self._settings = chosen
        self._registry = registry
        self._cache = cache
        self._began = began
        self._loader = Loader()
        says = waiting(config)
        self.crashes = Crashes()
        self._fresh = self.crashes.careful(Fresh(self._tell, says))
        self._reloaded = self.crashes.careful(Reloaded(self._shelf, self._tell, self._warn, says))
        self._shelves: dict[str, Shelf | None] = {}
        self._known_parts: dict[str, Parts] = {}
        self._loadings: dict[str, list[Loading]] = {}
        self._warnings: list[tuple[str, str]] = []
        self._warned: set[tuple[str, str]] = set()

    def load(self, variant: str, connect: Callable[[], Connection], source: Source) -> Module:
        __tracebackhide__ = True
        strategy = self._strategy(variant)
        if strategy is self._reloaded:
            self._shelf(variant)  # now, while an engine process may be starting
        return self._loader.load(variant, connect, source, strategy, self._parts(variant))

    def load_artifact(self, variant: str, connect: Callable[[], Connection], path: Path, *, trusted: bool) -> Module:
        """The module of a file that `Module.save` wrote. Raises `ArtifactError`."""
        __tracebackhide__ = True
        from pytest_wasmer.wasm import artifact

        here = self._parts(variant)
        content, parts = artifact.read(path, here, trusted=trusted, how_to_trust="load_artifact(path, trusted=True)")
        return module_of(content, parts, connect, str(path))

    def _strategy(self, variant: str) -> Strategy:
        fresh = variant.endswith(f"-{FRESH}") or self._settings.artifacts.value == FRESH
        return self._fresh if fresh else self._reloaded

    def _tell(self, variant: str, loading: Loading) -> None:
        self._loadings.setdefault(variant, []).append(loading)

    def _warn(self, backend: str, reason: str) -> None:
        """Why artifacts of a backend, "" for all, are not stored."""
        if (backend, reason) not in self._warned:
            self._warned.add((backend, reason))
            self._warnings.append((backend, reason))

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return bool(self._loadings or self._warnings)

    def take(self) -> tuple[dict[str, list[tuple[str, float, float]]], list[tuple[str, str]]]:
        """By variant what was loaded (as plain tuples, for reports), and what is to be said, since the last time."""
        loadings, self._loadings = self._loadings, {}
        warnings, self._warnings = self._warnings, []
        return {name: [(*loading,) for loading in told] for name, told in loadings.items()}, warnings

    # The store

    @cached_property
    def store(self) -> Store | None:
        """None where artifacts are not kept: as told, or because the directory cannot be used (said once)."""
        from pytest_wasmer.artifacts.seal import seal_file
        from pytest_wasmer.artifacts.store import Unusable, open_store

        if self._settings.cache.value == "off":
            return None
        given = self._settings.cache_dir.value
        root = self._config.rootpath / Path(given).expanduser() if given else self._cache / "artifacts"
        try:
            return open_store(root, seal_file())
        except Unusable as unusable:
            self._warn("", str(unusable))
            return None

    def _shelf(self, variant: str) -> Shelf | None:
        """Where the artifacts of a variant are kept, if they are."""
        if variant not in self._shelves:
            self._shelves[variant] = self._make_shelf(variant)
        return self._shelves[variant]

    def _make_shelf(self, variant: str) -> Shelf | None:
        from pytest_wasmer.artifacts.store import Shelf

        parts = self._parts(variant)
        if self.store is None or not parts.library:  # nobody could tell which artifacts are stale
            return None
        refreshed = self._began if self._settings.cache.value == "refresh" else None
        return Shelf(self.store, parts, refreshed)

    def _parts(self, variant: str) -> Parts:
        backend = backend_in(variant)
        if backend not in self._known_parts:
            self._known_parts[backend] = parts_of(self._registry.availability(backend), self._added_parts())
        return self._known_parts[backend]

    def _added_parts(self) -> dict[str, str]:
        """What plugins add. Raises pytest.UsageError."""
        added = self._config.hook.pytest_wasmer_key_parts(config=self._config)
        for parts in added:
            if not isinstance(parts, dict) or not all(isinstance(text, str) for pair in parts.items() for text in pair):
                raise pytest.UsageError(
                    f"the hook pytest_wasmer_key_parts returned {parts!r}: it is to be a dict of str"
                )
        return {name: value for parts in added for name, value in parts.items()}

    def evict(self) -> list[Entry]:
        """Delete what is too old or too much, least recently used first; never what may be in use."""
        store = self.store
        if store is None:
            return []
        size = checking.size_in_bytes(settings.CACHE_MAX_SIZE, self._settings.cache_max_size)
        age = checking.days(settings.CACHE_MAX_AGE, self._settings.cache_max_age)
        return store.remove(store.prunable(size, age * 86400, self._used()))

    def note_use(self) -> None:
        """Of what this process used, for the one that evicts: with xdist another one does."""
        if self._used() and self.store is not None:
            self.store.note_use(self._used())

    def _used(self) -> set[str]:
        return {path for shelf in self._shelves.values() if shelf is not None for path in shelf.used}
