"""What all tests share: fake backends, and the three compilers where this Python has them."""

from __future__ import annotations

import gc
import os
import pkgutil
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

# All of it now: `pytester` drops from sys.modules what an in-process run imports first. A second copy of a module
# has other classes, and Hypothesis (which pytest-randomly loads) takes a second to import.
import pytest

import pytest_wasmer
from pytest_wasmer.checking import CI_VARIABLES
from pytest_wasmer.engines import interpreter
from pytest_wasmer.engines.registry import COMPILERS, DYLIBS, BackendSpec, Registry
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.settings import INI_ONLY, ISOLATION, NONE, OPTIONS, PYTHON
from tests import fake_engine

for _found in pkgutil.walk_packages(pytest_wasmer.__path__, "pytest_wasmer."):
    import_module(_found.name)
# What these import when they need it.
for _needed in ("doctest", "filelock", "xdist.plugin", "xdist.dsession", "xdist.workermanage"):
    import_module(_needed)

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

# Shells ignore SIGINT in what they run in the background, and Python leaves it so: then no test could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _python_with_wheels() -> interpreter.Interpreter:
    """As for any run: of PYTEST_WASMER_PYTHON, else this one, else that of `pytest-wasmer setup`."""
    named = os.environ.get(PYTHON.variable)
    place = interpreter.Named(named, PYTHON.variable, Path.cwd()) if named else None
    with tempfile.TemporaryDirectory() as cache:
        return interpreter.find(place, Path(cache))


PYTHON_WITH_WHEELS = _python_with_wheels()
# Whether there are wheels for engine processes, and whether the test process itself can load them.
WHEELS = not PYTHON_WITH_WHEELS.reason
WHEELS_HERE = WHEELS and PYTHON_WITH_WHEELS.origin == interpreter.HERE
needs_wheels = pytest.mark.skipif(not WHEELS, reason=f"{PYTHON_WITH_WHEELS.reason} ({PYTHON_WITH_WHEELS.remedy})")
NOT_HERE = "the wasmer wheels are loaded into the test process, and are for another Python"
needs_wheels_here = pytest.mark.skipif(not WHEELS_HERE, reason=NOT_HERE)


def provide_wheels(data: Path) -> None:
    """Into a data directory of tests, where this Python has none: what `pytest-wasmer setup` would make there."""
    if WHEELS and not WHEELS_HERE:
        environment = data / "pytest-wasmer" / interpreter.environment().name
        environment.parent.mkdir(parents=True)
        environment.symlink_to(Path(PYTHON_WITH_WHEELS.executable).parent.parent)


FAKE_CONFTEST = """
import sys
from pytest_wasmer import BackendSpec

HERE = {here!r}
sys.path.insert(0, HERE)

def pytest_wasmer_backends(config):
    names = {names!r}
    return [BackendSpec(name, "fake_engine:FakeEngine", name, import_path=HERE, identity="fake 1") for name in names]
"""


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> None:
    """Each run within a test ends with five collections of garbage, which need not look at all that tests leave."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs inside tests find the bytecode of what earlier ones imported: else they compile for most of their time.

    Where PYTHONDONTWRITEBYTECODE is set nothing else has any, and without autoloaded plugins pytest rewrites less.
    """
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("bytecode")
        patch.setenv("PYTHONPYCACHEPREFIX", str(folder))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        # For runs in process, too, which drop what they import.
        patch.setattr(sys, "pycache_prefix", str(folder))
        patch.setattr(sys, "dont_write_bytecode", False)
        # A file where there would be a directory: what a test writes twice within a second counts as it is now.
        temporary = folder.joinpath(*tmp_path_factory.getbasetemp().parts[1:])
        temporary.parent.mkdir(parents=True)
        temporary.touch()
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that an earlier run left in the user's cache takes part, and nothing is left there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        data = tmp_path_factory.mktemp("data")
        provide_wheels(data)
        patch.setenv("XDG_DATA_HOME", str(data))
        for option in (*OPTIONS, *INI_ONLY):
            patch.delenv(option.variable, raising=False)
        # On CI Hypothesis derandomizes, and pytest words some lines differently.
        for name in ("PYTEST_ADDOPTS", *CI_VARIABLES):
            patch.delenv(name, raising=False)
        # Runs inside tests load this plugin and what they name with `-p`: it takes them half the time.
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.setenv("PYTEST_PLUGINS", "pytest_wasmer.plugin")
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
        pytest.skip(PYTHON_WITH_WHEELS.reason)
    return str(request.param)


def skip_without_wheels(isolation: str) -> None:
    if not (WHEELS_HERE if isolation == "none" else WHEELS):
        pytest.skip(NOT_HERE if WHEELS else PYTHON_WITH_WHEELS.reason)


@pytest.fixture
def native(compiler: str, isolation: str, pool: EnginePool, cache: Path) -> Connection:
    """A connection to each compiler, over either transport."""
    skip_without_wheels(isolation)
    return pool.connection(Registry([], cache).spec(compiler))


@pytest.fixture
def fakes(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A project in which fake-a, fake-b and fake-c can be selected, and `fake_engine` imported.

    They run in the test process, in half the time, unless a test is marked: `processes`.
    """
    pytester.makeconftest(FAKE_CONFTEST.format(here=str(HERE), names=fake_engine.NAMES))
    if request.node.get_closest_marker("processes") is None:
        monkeypatch.setenv(ISOLATION.variable, NONE)
    return pytester
