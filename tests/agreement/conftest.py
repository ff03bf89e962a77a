"""One engine pool per transport for the whole room, so that a test costs no start of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime.pool import EnginePool
from tests.agreement.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def pools(cache: Path) -> Iterator[dict[str, EnginePool]]:
    made = {isolation: EnginePool(isolation, cache) for isolation in ("process", "none")}
    yield made
    for pool in made.values():
        pool.close()


@pytest.fixture
def make(isolation: str, pools: dict[str, EnginePool]) -> Iterator[Workbench]:
    """Over either transport. A test that loses an engine process fails."""
    bench = Workbench(pools[isolation])
    bench.connect()
    yield bench
    assert [str(loss) for loss in bench.pool.take()[1]] == []
    assert all(member.hosts.depth == 0 for member in bench.connect().members)


@pytest.fixture
def piped(pools: dict[str, EnginePool]) -> Iterator[Workbench]:
    """Over the pipe transport. A test may lose engine processes."""
    bench = Workbench(pools["process"])
    bench.connect()
    yield bench
    bench.pool.take()
