"""Property tests (`@given`) of Hypothesis that run on each backend: all get the same examples, so that they compare.

Imported only where such a test was collected.
"""

from __future__ import annotations

import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, core, settings
from hypothesis.database import ExampleDatabase

from pytest_wasmer.selection import group_of, variant_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


# Hypothesis's own limit of one example's time, which nobody chose: the first example starts an engine and compiles.
UNCHOSEN = timedelta(milliseconds=200)
EVERYWHERE = "wasm_all"


def is_property_test(item: pytest.Item) -> bool:
    """Whether it is one, and runs on backends."""
    if not getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return False
    return variant_of(item) is not None or EVERYWHERE in getattr(item, "fixturenames", ())


class Properties:
    """Hooks; one per session. `variants`: what a test that is left whole runs on."""

    def __init__(self, variants: Callable[[], int]) -> None:
        self._variants = variants
        self._originals: dict[Any, tuple[settings, int | None]] = {}
        self._replays: dict[str, _Replays] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: Any) -> None:
        """After Hypothesis's own hook, which tells tests with parameters apart by their ids."""
        if not is_property_test(item):
            return
        test = getattr(item.obj, "__func__", item.obj)
        chosen, _ = self._original(test)
        changed: dict[str, Any] = {"deadline": None} if chosen.deadline == UNCHOSEN else {}
        variant = variant_of(item)
        if variant is not None:
            changed |= self._equal_examples(item, test, group_of(item.nodeid, variant))
        test._hypothesis_internal_use_settings = settings(chosen, **changed)

    def _equal_examples(self, item: pytest.Item, test: Any, group: str) -> dict[str, Any]:
        """What else to change of the settings."""
        chosen, seed = self._original(test)
        test._hypothesis_internal_use_seed = seed
        if seed is None and core.global_force_seed is None and not chosen.derandomize:
            test._hypothesis_internal_use_seed = zlib.crc32(group.encode())
        inner = test.hypothesis.inner_test
        if getattr(inner, "_hypothesis_internal_add_digest", b"") == item.nodeid.encode():
            inner._hypothesis_internal_add_digest = group.encode()
        # Methods have another `self` on each backend.
        changed: dict[str, Any] = {
            "suppress_health_check": {HealthCheck.differing_executors, *chosen.suppress_health_check}
        }
        if chosen.database is not None and not chosen.derandomize:
            changed["database"] = self._replays.setdefault(group, _Replays(chosen.database)).shared()
        return changed

    def _original(self, test: Any) -> tuple[settings, int | None]:
        """As its author decorated it."""
        if test not in self._originals:
            self._originals[test] = test._hypothesis_internal_use_settings, test._hypothesis_internal_use_seed
        return self._originals[test]

    def pytest_sessionfinish(self) -> None:
        for replays in self._replays.values():
            replays.finish(self._variants())


class _Replays:
    """What one test's backends replay: the examples that were stored when the first of them asked.

    Hypothesis deletes an example where it does not fail any more; here only once it has failed on no backend.
    """

    def __init__(self, database: ExampleDatabase) -> None:
        self._database = database
        self._stored: dict[bytes, frozenset[bytes]] = {}
        self._members = 0
        self._passed: dict[tuple[bytes, bytes], int] = {}

    def shared(self) -> ExampleDatabase:
        """For one more backend."""
        self._members += 1
        return _Shared(self._database, self)

    def stored(self, key: bytes) -> frozenset[bytes]:
        if key not in self._stored:
            self._stored[key] = frozenset(self._database.fetch(key))
        return self._stored[key]

    def has_passed(self, key: bytes, value: bytes) -> bool:
        """Take note, if it is one of those."""
        if value not in self._stored.get(key, ()):
            return False
        self._passed[key, value] = self._passed.get((key, value), 0) + 1
        return True

    def finish(self, variants: int) -> None:
        if self._members < variants:
            return  # it may fail on a backend that did not run here
        for (key, value), count in self._passed.items():
            if count == self._members:
                self._database.delete(key, value)


class _Shared(ExampleDatabase):
    """The database of one run of one test."""

    def __init__(self, database: ExampleDatabase, replays: _Replays) -> None:
        super().__init__()
        self._database = database
        self._replays = replays
        self._asked: set[bytes] = set()

    def fetch(self, key: bytes) -> Iterable[bytes]:
        if key in self._asked:  # now it is about what this run has added
            yield from self._database.fetch(key)
            return
        self._asked.add(key)
        yield from self._replays.stored(key)

    def save(self, key: bytes, value: bytes) -> None:
        self._database.save(key, value)

    def delete(self, key: bytes, value: bytes) -> None:
        if not self._replays.has_passed(key, value):
            self._database.delete(key, value)
