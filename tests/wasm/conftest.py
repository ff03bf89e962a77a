"""One engine pool per transport for the whole room, so that a test costs no start of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.engines.registry import COMPILERS, Registry
from pytest_wasmer.runtime.pool import EnginePool
from tests.conftest import skip_without_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_wasmer.runtime.connection import Connection


@pytest.fixture(scope="session")
def pools(cache: Path) -> Iterator[dict[str, EnginePool]]:
    made = {isolation: EnginePool(isolation, cache) for isolation in ("process", "none")}
    yield made
    for engines in made.values():
        engines.close()


@pytest.fixture
def pool(isolation: str, pools: dict[str, EnginePool]) -> Iterator[EnginePool]:
    """A test that loses an engine process fails, whatever else it saw."""
    engines = pools[isolation]
    engines.settle()
    yield engines
    assert [str(loss) for loss in engines.take()[1]] == []


@pytest.fixture(params=COMPILERS[1:])
def capable(request: pytest.FixtureRequest, isolation: str, pool: EnginePool, cache: Path) -> Connection:
    """A connection to each compiler that has SIMD and multi-value, over either transport."""
    skip_without_wheels(isolation)
    return pool.connection(Registry([], cache).spec(request.param))
