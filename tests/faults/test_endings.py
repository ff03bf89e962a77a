"""However a session ends, no engine process and no temporary file survives it."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.workbench import Run, start
from tests.runtime.workbench import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Busy = Callable[..., Run]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")

SUITE = """
    import os
    from pathlib import Path
    from fake_engine import module, function

    HANG = module(imports=[("env", "ready", ["func", [], []])], exports={"hang": function("->", [["host"], "hang"])})
    READY = Path("ready")

    def test_call(wasm_instance):
        def ready():
            READY.write_text(str(os.getpid()))
        wasm_instance(HANG, imports={"env": {"ready": ready}}).exports.hang()

    def test_compile(wasm_module):
        wasm_module(module())
        READY.write_text(str(os.getpid()))
        wasm_module(module(seconds=60))

    def test_works(wasm_instance):
        wasm_instance(module())
"""


@pytest.fixture
def busy(pytester: pytest.Pytester) -> Iterator[Busy]:
    """Starts a run, and waits until one of its tests is in native code."""
    runs: list[Run] = []

    def begin(*arguments: str) -> Run:
        pytester.makepyfile(SUITE)
        runs.append(start(pytester, "--wasm-backends=fake-a", *arguments))
        assert eventually((pytester.path / "ready").exists, 30)
        time.sleep(0.05)
        assert runs[0].engines()
        return runs[0]

    yield begin
    for run in runs:
        run.kill()


@pytest.mark.parametrize("where", ["call", "compile"])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_the_session(busy: Busy, where: str, times: int) -> None:
    """As a terminal sends it: to the whole process group."""
    run = busy("-k", where)
    began = time.monotonic()
    for _ in range(times):
        os.killpg(run.process.pid, signal.SIGINT)
        time.sleep(0.01)
    lines = run.finish(10)
    assert time.monotonic() - began < 2  # one on a machine that does nothing else
    assert run.process.returncode in (pytest.ExitCode.INTERRUPTED, -signal.SIGINT, 1)
    if times == 1:
        assert run.process.returncode == pytest.ExitCode.INTERRUPTED
        assert any("KeyboardInterrupt" in line for line in lines)
    assert run.is_clean() if times == 1 else eventually(lambda: not run.engines())


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_no_engine_process_survives(busy: Busy, death: signal.Signals) -> None:
    run = busy("-k", "call")
    run.process.send_signal(death)
    run.process.wait(10)
    assert eventually(lambda: not run.engines())


def test_a_killed_worker_takes_its_engine_processes_along(busy: Busy) -> None:
    """xdist starts another worker, and the tests that follow pass."""
    run = busy("-p", "xdist", "-n", "1", "-k", "call or works")
    engines = run.engines()
    os.kill(int((run.folder / "ready").read_text()), signal.SIGKILL)
    assert eventually(lambda: not set(engines) & set(run.engines()))
    lines = run.finish(30)
    assert "1 failed, 1 passed" in lines[-1]
    assert any("worker 'gw0' crashed" in line for line in lines)
    assert eventually(lambda: not run.engines())


def test_ctrl_c_with_xdist(busy: Busy) -> None:
    run = busy("-p", "xdist", "-n", "2")
    os.killpg(run.process.pid, signal.SIGINT)
    run.finish(30)
    assert run.process.returncode == pytest.ExitCode.INTERRUPTED
    assert eventually(lambda: not run.engines())
