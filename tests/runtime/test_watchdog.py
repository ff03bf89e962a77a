"""The watchdog ends the request that takes too long, and nothing else."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime.errors import EngineLost, InstanceLost, TimedOut
from pytest_wasmer.runtime.watchdog import Limit, Limits
from tests.fake_engine import function, module
from tests.runtime.workbench import FAKE, ends, eventually, instance, load, losses, pid_of, start_script

if TYPE_CHECKING:
    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.runtime.watchdog import Watchdog

WASM = module(exports={"hang": function("->", ["hang"]), "sum": function("i32 i32 -> i32", ["sum"])})


def watchdog_of(pool: EnginePool) -> Watchdog:
    watchdog = pool.connection(FAKE).watchdog
    assert watchdog is not None
    return watchdog


def threads() -> list[threading.Thread]:
    """Also of other tests."""
    return [thread for thread in threading.enumerate() if thread.name == "wasm-watchdog"]


def test_the_process_is_gone_and_the_next_one_works(processes: EnginePool) -> None:
    processes.limit(Limits(Limit(0.1, "me")))
    made = instance(processes, WASM)
    pid = pid_of(processes)
    began = time.monotonic()
    with pytest.raises(TimedOut) as late:
        made.exports.hang()
    assert 0.1 < time.monotonic() - began < 0.5
    assert ends(pid)
    assert (late.value.limit, late.value.source, late.value.kind) == (0.1, "me", "call")
    assert late.value.request == "call of 'hang' of m.wasm with ()"
    assert not late.value.interrupted
    assert losses(processes) == [late.value]
    assert load(processes, WASM).instantiate().exports.sum(1, 2) == 3


def test_a_look_that_comes_too_late(processes: EnginePool) -> None:
    """The request has been answered meanwhile: the next one is refused, and does not die of it."""
    made = instance(processes, WASM)
    connection = processes.connection(FAKE)
    connection.end_late(TimedOut("fake-a", 1, "me", "call"))  # type: ignore[attr-defined]
    with pytest.raises(InstanceLost, match=r"lost earlier \(ended after 1 s, the limit of a call \(me\)\)"):
        made.exports.sum(1, 2)
    (lost,) = losses(processes)
    assert str(lost).splitlines()[1] == "It was serving: what was answered at that very moment"


def test_many_short_requests_are_not_one_long_one(processes: EnginePool) -> None:
    processes.limit(Limits(Limit(0.1)))
    made = instance(processes, WASM)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert made.exports.sum(1, 2) == 3


def test_it_looks_only_where_there_is_something_to_see(processes: EnginePool) -> None:
    made = instance(processes, WASM)
    watchdog = watchdog_of(processes)
    assert len(watchdog._clocks) == 1
    os.kill(pid_of(processes), signal.SIGKILL)
    with pytest.raises(EngineLost):
        made.exports.sum(1, 2)
    assert eventually(lambda: not watchdog._clocks)


@pytest.mark.parametrize("closed", [True, False])
def test_its_thread_begins_with_a_process_and_ends_with_the_pool(closed: bool) -> None:
    from tests.runtime.script import new_pool

    before = set(threads())
    pool = new_pool()
    assert not {*threads()} - before
    made = instance(pool, WASM)
    (thread,) = {*threads()} - before
    if closed:
        pool.close()
    else:
        del pool, made
        gc.collect()
    assert eventually(lambda: not thread.is_alive())


STOPPED = """
from pytest_wasmer.runtime.watchdog import Limit, Limits
from tests.fake_engine import function, module
pool = new_pool()
pool.limit(Limits(Limit(0.8)))
made = load(pool, module(exports={"f": function("-> i32", [["wait", 0.4], ["return", 5]])})).instantiate()
print("ready", flush=True)
print(made.exports.f())
"""


def test_a_suspended_machine_fires_nothing() -> None:
    """As Ctrl-Z does it: no process runs, and the clock goes on."""
    script = start_script(STOPPED, own_group=True)
    assert script.stdout is not None
    try:
        assert script.stdout.readline() == "ready\n"
        time.sleep(0.1)
        os.killpg(script.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.killpg(script.pid, signal.SIGCONT)
        assert script.stdout.read() == "5\n"
    finally:
        script.kill()
        script.communicate()


FORKS = """
import threading
import warnings
from tests.fake_engine import function, module
from pytest_wasmer.runtime.errors import TimedOut
from pytest_wasmer.runtime.watchdog import Limit, Limits

warnings.simplefilter("error")
pool = new_pool()
made = load(pool, module(exports={"hang": function("->", ["hang"])})).instantiate()
(before,) = [thread for thread in threading.enumerate() if thread.name == "wasm-watchdog"]
fork = os.fork()
if not fork:
    os._exit(threading.active_count() - 1)
print(os.waitpid(fork, 0)[1], before.is_alive(), threading.active_count(), flush=True)
pool.limit(Limits(Limit(0.1, "me")))
try:
    made.exports.hang()
except TimedOut as late:
    print(late.limit, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_it_steps_aside_for_forks() -> None:
    """Python 3.12 warns of forks of processes with threads, and a warning may be an error."""
    script = start_script(FORKS)
    said, _ = script.communicate(timeout=30)
    assert said.split() == ["0", "False", "1", "0.1"]
