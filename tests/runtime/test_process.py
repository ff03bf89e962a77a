"""Start and end of engine processes: what they inherit, what they leave behind, what forks of the test process see."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime.errors import EngineLost, InstanceLost
from pytest_wasmer.runtime.pool import EnginePool
from tests.conftest import FAKES
from tests.fake_engine import function, module
from tests.runtime.workbench import (
    FAKE,
    HERE_OF_FAKES,
    begin,
    children,
    descriptors,
    instance,
    load,
    losses,
    outputs,
    pid_of,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")

WASM = module(
    exports={
        "sum": function("i32 i32 -> i32", ["sum"]),
        "hang": function("->", ["hang"]),
        "exit": function("->", [["exit", 3]]),
    }
)


# One per backend, on first use


# Those of other folders' session fixtures, in a run of all tests.
OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
def _others() -> None:
    OTHERS.clear()
    OTHERS.update(engines())


def test_nothing_is_started_before_it_is_used(processes: EnginePool) -> None:
    assert engines() == []
    assert losses(processes) == []
    assert outputs(processes) == {}
    processes.settle()


def engines() -> list[int]:
    """Children that are engine processes."""
    found = [pid for pid in children() if pid not in OTHERS]
    return [pid for pid in found if b"pytest_wasmer.runtime.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_one_process_per_backend(processes: EnginePool) -> None:
    connections = [processes.connection(spec) for spec in FAKES for _ in range(2)]
    assert len({id(connection) for connection in connections}) == 3
    assert [connection.backend for connection in connections[::2]] == ["fake-a", "fake-b", "fake-c"]
    assert sorted(engines()) == sorted(pid_of(processes, spec) for spec in FAKES)


def test_threads_that_come_first_together_share_it(processes: EnginePool) -> None:
    barrier = threading.Barrier(4)
    found = []

    def use() -> None:
        barrier.wait()
        found.append(processes.connection(FAKE))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(connection) for connection in found}) == 1


# What it has


def test_its_descriptors(processes: EnginePool) -> None:
    """Nothing of the test process but the pipe, the lifeline and the capture, however many engines there are."""
    for spec in FAKES:
        begin(processes, spec)
    ours = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(ours, True)
    try:
        begin(processes, FAKE._replace(name="another"))
    finally:
        os.close(ours)
    for spec in (*FAKES, FAKE._replace(name="another")):
        folder = f"/proc/{pid_of(processes, spec)}/fd"
        opened = {int(name): os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}
        assert opened.pop(0) == os.devnull
        assert "pytest-wasmer-" in opened[1]
        assert opened.pop(1).endswith(" (deleted)")
        assert "pytest-wasmer-" in opened.pop(2)
        assert sorted(name.partition(":")[0] for name in opened.values()) == [os.devnull, "pipe", "pipe", "pipe"]


def test_it_is_the_first_to_go_when_memory_runs_out(processes: EnginePool) -> None:
    begin(processes)
    assert Path(f"/proc/{pid_of(processes)}/oom_score_adj").read_text().strip() == "1000"
    assert Path("/proc/self/oom_score_adj").read_text().strip() != "1000"


def test_its_environment(processes: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the user's, but for what changes its Python or measures coverage."""
    for name in ("PYTHONPATH", "PYTHONWARNINGS", "COV_CORE_SOURCE", "COVERAGE_PROCESS_START", "WASM_TEST"):
        monkeypatch.setenv(name, "1")
    begin(processes)
    names = {
        item.partition(b"=")[0].decode()
        for item in Path(f"/proc/{pid_of(processes)}/environ").read_bytes().split(b"\0")
    }
    assert "WASM_TEST" in names
    assert "PATH" in names
    assert not [name for name in names if name.startswith(("PYTHON", "COV"))]


def test_its_compiled_python_goes_to_the_cache(tmp_path: Path) -> None:
    """It may be another version of Python: nothing is written to this installation."""
    pool = EnginePool("process", tmp_path)
    try:
        begin(pool)
        names = {path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc")}
        assert {"child", "wire", "executor", "api", "fake_engine"} <= names
    finally:
        pool.close()


# The end


def test_close(processes: EnginePool) -> None:
    made = instance(processes, WASM)
    pids = [pid_of(processes, spec) for spec in FAKES]
    processes.close()
    assert [state_of(pid) for pid in pids] == ["", "", ""]
    with pytest.raises(InstanceLost, match=r"its fake-a engine process was lost earlier \(the session has ended\)"):
        made.exports.sum(1, 2)
    assert losses(processes) == []
    processes.close()


def test_close_while_one_hangs(processes: EnginePool) -> None:
    """Another thread waits in it: native code does not see that its pipe is closed, but the lifeline ends it."""
    pid = pid_of(processes)
    outcome = []

    def hang() -> None:
        try:
            instance(processes, WASM).exports.hang()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGKILL)
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(outcome[0], EngineLost)
    processes.close()
    assert state_of(pid) == ""


def kill(pool: EnginePool) -> None:
    os.kill(pid_of(pool), signal.SIGKILL)
    with pytest.raises(EngineLost):
        load(pool, WASM)
    losses(pool)


def crash(pool: EnginePool) -> None:
    with pytest.raises(EngineLost):
        instance(pool, WASM).exports.exit()
    losses(pool)


def fail_to_start(pool: EnginePool) -> None:
    with pytest.raises(EngineLost):
        begin(pool, FAKE._replace(argument="broken"))
    losses(pool)


def cannot_start(pool: EnginePool) -> None:
    with pytest.raises(FileNotFoundError):
        pool.connection(FAKE._replace(python="/no/such/python"))


def close(pool: EnginePool) -> None:
    begin(pool)
    pool.close()


@pytest.mark.parametrize("end", [kill, crash, fail_to_start, cannot_start, close])
def test_nothing_is_left(processes: EnginePool, end: Callable[[EnginePool], None]) -> None:
    """No descriptor, no zombie, no file, after 20 of them."""
    end(processes)
    processes.close()
    gc.collect()
    opened, others = sorted(descriptors()), sorted(children())
    for _ in range(20):
        end(processes)
    processes.close()
    gc.collect()
    assert sorted(descriptors()) == opened
    assert sorted(children()) == others


def test_a_dropped_connection_ends_its_process(processes: EnginePool) -> None:
    pool = EnginePool("process", processes._pycache)
    begin(pool)
    pid = pid_of(pool)
    assert state_of(pid) not in ("", "Z")
    del pool
    gc.collect()
    assert state_of(pid) == ""


# Forks


def in_a_fork(work: Callable[[], object]) -> str:
    """What happened there: the answer, or the exception."""
    reading, writing = os.pipe()
    fork = os.fork()
    if not fork:
        try:
            try:
                said = repr(work())
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode())
            gc.collect()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    os.waitpid(fork, 0)
    return said.decode()


def test_a_fork_is_refused_and_does_no_harm(processes: EnginePool) -> None:
    made = instance(processes, WASM)
    pid = pid_of(processes)
    said = in_a_fork(lambda: made.exports.sum(1, 2))
    assert said.splitlines()[0] == (
        "InstanceLost: call of 'sum' of m.wasm is gone: its fake-a engine process was lost earlier "
        "(it belongs to the process that was forked)"
    )
    assert made.exports.sum(1, 2) == 3
    assert pid_of(processes) == pid


@pytest.mark.parametrize("end", ["close", "drop", "nothing"])
def test_a_fork_that_ends_does_not_end_it(processes: EnginePool, end: str) -> None:
    """By its finalizers, as pytest-forked and multiprocessing run them."""
    made = instance(processes, WASM)

    def work() -> None:
        if end == "close":
            processes.close()
        elif end == "drop":
            processes._connections.clear()
            gc.collect()

    assert in_a_fork(work) == "None"
    assert made.exports.sum(1, 2) == 3


def test_a_fork_starts_its_own(processes: EnginePool) -> None:
    loaded = load(processes, WASM)
    pid = pid_of(processes)

    def work() -> object:
        assert pid_of(processes) != pid
        answer = loaded.instantiate().exports.sum(1, 2)
        processes.close()
        return answer

    assert in_a_fork(work) == "3"
    assert loaded.instantiate().exports.sum(1, 2) == 3


def test_a_fork_leaves_the_output(processes: EnginePool) -> None:
    """The capture is one file for both."""
    text = "x" * 100_000
    made = instance(processes, module(exports={"say": function("->", [["print", text], ["print", "end"]])}))
    made.exports.say()
    assert in_a_fork(lambda: len(outputs(processes)) < 2) == "True"
    assert outputs(processes)["fake-a"].endswith("xend")


def test_import_path_of_an_engine(processes: EnginePool, tmp_path: Path) -> None:
    """Last in the child's path: it cannot hide the standard library."""
    (tmp_path / "struct.py").write_text("raise ImportError('hidden')")
    (tmp_path / "own.py").write_text(f"import sys; sys.path.append({HERE_OF_FAKES!r}); from fake_engine import *")
    spec = FAKE._replace(engine="own:FakeEngine", import_path=str(tmp_path))
    assert load(processes, WASM, spec).instantiate().exports.sum(1, 2) == 3


def test_a_test_process_with_very_many_files_open(processes: EnginePool) -> None:
    """`select` knows descriptors up to 1023 only; the lifeline has the same number on both sides."""

    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"no more than {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    first = os.open(os.devnull, os.O_RDONLY)
    opened = [first, *[os.dup(first) for _ in range(1100)]]
    try:
        assert instance(processes, WASM).exports.sum(1, 2) == 3
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
