"""What the engine processes of a test may take: markers before settings."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import checking, markers, settings
from pytest_wasmer.runtime.process import can_bound_memory
from pytest_wasmer.runtime.watchdog import Limit, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

# Of commands there is none: whoever types them can end them.
DEFAULT = Limits(compile=Limit(600))


class Bounds:
    """Those of one session."""

    def __init__(self, chosen: settings.Settings) -> None:
        self._settings = chosen
        self._warned = False
        #: Of the running test.
        self.now = DEFAULT

    def begin(self, item: pytest.Item, has_wasm: Callable[[], bool]) -> Limits:
        """Those of a test. Warns once of what has no effect. Raises CollectError for wrong markers."""
        self.now = limits_of(item, self._settings)
        said = without_effect(self.now, self._settings.isolation.value)
        if said and not self._warned and has_wasm():
            self._warned = True
            warnings.warn(pytest.PytestWarning(said), stacklevel=1)
        return self.now


def limits_of(item: pytest.Item, chosen: settings.Settings) -> Limits:
    """Raises CollectError for wrong markers."""
    seconds, compile_seconds = markers.timeout(item)
    size = markers.memory_limit(item)
    timeout, memory = chosen.timeout, chosen.memory_limit
    return Limits(
        _said(seconds, "wasm_timeout") or _set(settings.TIMEOUT, timeout, checking.seconds(settings.TIMEOUT, timeout)),
        _said(compile_seconds, "wasm_timeout") or DEFAULT.compile,
        _said(size, "wasm_memory_limit")
        or _set(settings.MEMORY_LIMIT, memory, checking.size_in_bytes(settings.MEMORY_LIMIT, memory)),
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


def _said(value: float | None, marker: str) -> Limit | None:
    return None if value is None else Limit(value, f"marker {marker}")


def _set(option: settings.Option, setting: settings.Setting, value: float) -> Limit:
    return Limit(value, settings.where(option, setting) if setting.given else setting.source)
