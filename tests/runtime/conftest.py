"""Engine pools over the pipe only, for what the direct transport does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime.pool import EnginePool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def processes(cache: Path) -> Iterator[EnginePool]:
    """A pool of engine processes."""
    engines = EnginePool("process", cache)
    yield engines
    engines.close()
