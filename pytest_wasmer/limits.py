"""What the engine processes of a test may take: markers before settings."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import checking, settings
from pytest_wasmer.markers import NOTHING
from pytest_wasmer.runtime.process import can_bound_memory
from pytest_wasmer.runtime.watchdog import Limit, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer import markers

# Of commands there is none: whoever types them can end them.
DEFAULT = Limits(compile=Limit(600))


class Bounds:
    """Those of one session."""

    def __init__(self, chosen: settings.Settings) -> None:
        self._settings = chosen
        self._warned = False
        #: Of the running test.
        self.now = DEFAULT

    def begin(self, said: markers.Said, has_wasm: Callable[[], bool]) -> Limits:
        """Those of a test whose markers say that. Warns once of what has no effect."""
        self.now, warning = self._limits(said) if said is not NOTHING else self._unmarked
        if warning and not self._warned and has_wasm():
            self._warned = True
            warnings.warn(pytest.PytestWarning(warning), stacklevel=1)
        return self.now

    @cached_property
    def _unmarked(self) -> tuple[Limits, str]:
        """Those of most tests."""
        return self._limits(NOTHING)

    def _limits(self, said: markers.Said) -> tuple[Limits, str]:
        """And what to warn of, see `without_effect`."""
        limits = Limits(
            _by_marker(said.timeout.seconds, "wasm_timeout") or self._set.call,
            _by_marker(said.timeout.compile, "wasm_timeout") or self._set.compile,
            _by_marker(said.memory_limit, "wasm_memory_limit") or self._set.memory,
        )
        return limits, without_effect(limits, self._settings.isolation.value)

    @cached_property
    def _set(self) -> Limits:
        return Limits(
            _by_setting(settings.TIMEOUT, self._settings.timeout, checking.seconds),
            DEFAULT.compile,
            _by_setting(settings.MEMORY_LIMIT, self._settings.memory_limit, checking.size_in_bytes),
        )


def without_effect(limits: Limits, isolation: str) -> str:
    """What to say of limits that somebody set and that do not hold here; "" where all do."""
    timed = [limit for limit, default in zip(limits[:2], DEFAULT[:2], strict=True) if limit.value and limit != default]
    sized = [limits.memory] if limits.memory.value else []
    if isolation == settings.NONE and timed + sized:
        sources = " and ".join(dict.fromkeys(limit.source for limit in timed + sized))
        return (
            f"{sources}: without effect, since with {settings.ISOLATION.flag}={settings.NONE} native code runs in the "
            "test process, which can be neither ended nor bounded; pytest-timeout limits whole tests"
        )
    if sized and not can_bound_memory():
        return f"{limits.memory.source}: without effect, since only Linux bounds what another process takes"
    return ""


def _by_marker(value: float | None, marker: str) -> Limit | None:
    return None if value is None else Limit(value, f"marker {marker}")


def _by_setting(
    option: settings.Option, setting: settings.Setting, meaning: Callable[[settings.Option, settings.Setting], float]
) -> Limit:
    return Limit(meaning(option, setting), settings.where(option, setting)) if setting.given else Limit()
