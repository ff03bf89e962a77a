"""What the tests of this room share: modules on a pool, scripts in processes of their own, a look at processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_wasmer.engines.registry import BackendSpec
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests import fake_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.errors import EngineLost
    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module

ROOT = Path(__file__).parents[2]
HERE_OF_FAKES = str(Path(fake_engine.__file__).parent)
# As in tests.conftest, which scripts do not import: pytest takes its time.
FAKE = BackendSpec("fake-a", "fake_engine:FakeEngine", "fake-a", import_path=HERE_OF_FAKES)


def load(pool: EnginePool, wasm: bytes, spec: BackendSpec = FAKE, path: str = "m.wasm") -> Module:
    source = Source(path, wasm, None)
    return Loader().load(spec.name, partial(pool.connection, spec), source, Fresh(lambda backend, loading: None))


def instance(pool: EnginePool, wasm: bytes, **imports: Callable[..., Any]) -> Instance:
    """An instance on fake-a of a module that imports these functions from "env"."""
    return load(pool, wasm).instantiate({"env": imports})


def begin(pool: EnginePool, spec: BackendSpec = FAKE) -> None:
    """Until its engine is loaded: a process is started, and not waited for."""
    pool.connection(spec).make_memory(1, None, "a memory")


def outputs(pool: EnginePool) -> dict[str, str]:
    """Since the last time."""
    return pool.take()[0]


def losses(pool: EnginePool) -> list[EngineLost]:
    """Since the last time."""
    return pool.take()[1]


def pid_of(pool: EnginePool, spec: BackendSpec = FAKE) -> int:
    pid: int = pool.connection(spec).pid  # type: ignore[attr-defined]
    return pid


def start_script(text: str, *arguments: str, own_group: bool = False) -> subprocess.Popen[str]:
    """A Python that runs this text and can import this project, its tests and a `pool`."""
    head = "from tests.runtime.script import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=own_group,
    )


def run_script(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = start_script(text, *arguments)
    output, _ = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def state_of(pid: int) -> str:
    """One letter, as in ps; "" for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def ends(pid: int, within: float = 2.0) -> bool:
    """Whether a process ends in that many seconds. A zombie has ended: its new parent may never ask for it."""
    return eventually(lambda: state_of(pid) in ("", "Z", "X"), within)


def eventually(happened: Callable[[], bool], within: float = 2.0) -> bool:
    deadline = time.monotonic() + within
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def descriptors() -> list[str]:
    """What this process has open."""
    return [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)]


def _is_open(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


def children() -> list[int]:
    """This process's children, zombies included."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(name))
    return found
