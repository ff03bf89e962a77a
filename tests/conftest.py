"""What all tests share: fake backends, and the three compilers where this Python has them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

# All of it now: `pytester` drops from sys.modules what an in-process run imports first. A second copy of a module
# has other classes, and Hypothesis (which pytest-randomly loads) takes a second to import.
import pytest

import pytest_wasmer.runtime.direct
import pytest_wasmer.runtime.pipe
import pytest_wasmer.wasm.module  # noqa: F401
from pytest_wasmer.engines.registry import COMPILERS, DYLIBS, BackendSpec, Registry
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.settings import INI_ONLY, OPTIONS
from tests import fake_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.runtime.connection import Connection

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent
FAKES = [
    BackendSpec(name, "fake_engine:FakeEngine", name, import_path=str(HERE), identity="fake 1")
    for name in fake_engine.NAMES
]
#: How messages list what can be selected in `fakes`.
KNOWN = ", ".join([*COMPILERS, *DYLIBS, *fake_engine.NAMES])
# Runs with `pytester` that use native code: the wheels exist for CPython 3.10 only.
WHEELS = sys.version_info[:2] == (3, 10)
needs_wheels = pytest.mark.skipif(not WHEELS, reason="the wasmer wheels exist for CPython 3.10 only")

FAKE_CONFTEST = """
import sys
from pytest_wasmer import BackendSpec

HERE = {here!r}
sys.path.insert(0, HERE)

def pytest_wasmer_backends(config):
    names = {names!r}
    return [BackendSpec(name, "fake_engine:FakeEngine", name, import_path=HERE, identity="fake 1") for name in names]
"""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that an earlier run left in the user's cache takes part, and nothing is left there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        for option in (*OPTIONS, *INI_ONLY):
            patch.delenv(option.variable, raising=False)
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pycache")


@pytest.fixture(params=["process", "none"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pool(isolation: str, cache: Path) -> Iterator[EnginePool]:
    """An engine pool over either transport."""
    engines = EnginePool(isolation, cache)
    yield engines
    engines.close()


@pytest.fixture
def fake(pool: EnginePool) -> Connection:
    """A connection to fake-a, over either transport."""
    return pool.connection(FAKES[0])


@pytest.fixture(params=COMPILERS)
def compiler(request: pytest.FixtureRequest) -> str:
    """The name of each compiler of the wheels. Skips where they do not exist."""
    if not WHEELS:
        pytest.skip("the wasmer wheels exist for CPython 3.10 only")
    return str(request.param)


@pytest.fixture
def native(compiler: str, pool: EnginePool, cache: Path) -> Connection:
    """A connection to each compiler, over either transport."""
    return pool.connection(Registry([], cache).spec(compiler))


@pytest.fixture
def fakes(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project in which fake-a, fake-b and fake-c can be selected, and `fake_engine` imported."""
    pytester.makeconftest(FAKE_CONFTEST.format(here=str(HERE), names=fake_engine.NAMES))
    return pytester
