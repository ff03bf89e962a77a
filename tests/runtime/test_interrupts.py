"""What interrupts the wait for an answer propagates as it is, and costs the process: answers never get out of step."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime.errors import EngineLost, InstanceLost
from tests.fake_engine import function, module
from tests.runtime.workbench import (
    FAKE,
    children,
    descriptors,
    instance,
    load,
    pid_of,
    run_script,
    start_script,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.wasm.module import Module

WASM = module(
    imports=[("env", "h", ["func", ["i32"], ["i32"]])],
    exports={
        "hang": function("->", ["hang"]),
        "sum": function("i32 i32 -> i32", ["sum"]),
        "host": function("i32 -> i32", ["host"]),
    },
)


class Alarm(BaseException):
    """What a signal handler raises, as pytest-timeout's does."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Sets a timer whose handler raises `Alarm` in the main thread."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def check(loaded: Module) -> None:
    """It runs, on a new process if the last one was lost, and its answers are its own."""
    made = loaded.instantiate({"env": {"h": lambda value: value + 1}})
    assert [made.exports.sum(number, 1) for number in range(5)] == [1, 2, 3, 4, 5]
    assert made.exports.host(41) == 42


def test_an_exception_of_a_signal_handler(processes: EnginePool, alarm: Callable[[float], None]) -> None:
    loaded = load(processes, WASM)
    made = loaded.instantiate({"env": {"h": int}})
    connection, pid = processes.connection(FAKE), pid_of(processes)
    alarm(0.05)
    began = time.monotonic()
    with pytest.raises(Alarm):
        made.exports.hang()
    assert time.monotonic() - began < 1
    assert state_of(pid) == ""
    assert isinstance(connection.lost, EngineLost)
    assert connection.lost.interrupted
    assert str(connection.lost).splitlines()[:2] == [
        "the fake-a engine process was lost: killed, because Alarm interrupted the wait for its answer",
        "It was serving: call of 'hang' of m.wasm with ()",
    ]
    with pytest.raises(InstanceLost):
        made.exports.sum(1, 2)
    check(loaded)
    assert pid_of(processes) != pid


def test_ctrl_c(processes: EnginePool) -> None:
    loaded = load(processes, WASM)
    made = loaded.instantiate({"env": {"h": int}})
    pid = pid_of(processes)
    with ctrl_c_after(0.05), pytest.raises(KeyboardInterrupt):
        made.exports.hang()
    assert state_of(pid) == ""
    check(loaded)
    assert [loss.interrupted for loss in processes.take_losses()] == [True]


@pytest.mark.parametrize("kind", [ValueError, LookupError, OSError, type("Own", (ValueError,), {})])
def test_an_exception_of_any_kind(processes: EnginePool, kind: type[Exception]) -> None:
    """Also of the kinds by which decoding says that an answer makes no sense."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise kind("of the handler")

    made = instance(processes, WASM, h=int)
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(kind, match="^of the handler$"):
            made.exports.hang()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_in_a_host_function_costs_nothing(processes: EnginePool) -> None:
    """The engine process is not in the middle of an answer: the exception travels through Wasm as any other."""

    def host(value: int) -> int:
        if value:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return value

    made = instance(processes, WASM, h=host)
    pid = pid_of(processes)
    with pytest.raises(KeyboardInterrupt):
        made.exports.host(1)
    assert made.exports.host(0) == 0
    assert made.exports.sum(1, 2) == 3
    assert pid_of(processes) == pid
    assert processes.take_losses() == []


def test_ctrl_c_in_a_nested_call(processes: EnginePool) -> None:
    """The wait for the inner answer is interrupted: then the outer call is lost, too, and says so by the interrupt."""
    loaded = load(processes, WASM)
    made = loaded.instantiate({"env": {"h": lambda value: made.exports.hang()}})
    with ctrl_c_after(0.05), pytest.raises(KeyboardInterrupt):
        made.exports.host(1)
    check(loaded)


def test_random_moments(processes: EnginePool, alarm: Callable[[float], None]) -> None:
    moments = random.Random(1)
    loaded = load(processes, WASM)
    interrupted = 0
    for _ in range(100):
        made = loaded.instantiate({"env": {"h": lambda value: value}})
        number = 0
        alarm(moments.uniform(0.001, 0.005))
        try:
            while True:
                number += 1
                assert made.exports.sum(number, 1) == number + 1
                assert made.exports.host(number) == number
        except Alarm:
            interrupted += 1
        check(loaded)
    assert interrupted == 100
    assert all(loss.interrupted for loss in processes.take_losses())


# At every line

RUNTIME = os.path.join("pytest_wasmer", "runtime")


@contextmanager
def interrupt_at(line: int) -> Iterator[list[str]]:
    """Raises `Alarm` before the line that is executed as number `line` in `runtime`, as a signal handler could.

    Yields where that was.
    """
    places: list[str] = []
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if RUNTIME not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                places.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
                raise Alarm
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield places
    finally:
        sys.settrace(before)


def test_every_line_of_a_call(processes: EnginePool, alarm: Callable[[float], None]) -> None:
    """One interrupt each: afterwards other calls are answered, by this process or a new one, also in other threads."""
    loaded = load(processes, WASM)
    for line in range(1000):
        made = loaded.instantiate({"env": {"h": lambda value: value}})
        connection = processes.connection(FAKE)
        with interrupt_at(line) as places:
            try:
                assert made.exports.host(line) == line
            except Alarm:
                pass
        if not places:
            break
        alarm(5)
        try:
            check(loaded)
            if connection.lost is None:
                assert connection.hosts.depth == 0, places
                answers: list[int] = []
                thread = threading.Thread(
                    target=lambda: answers.append(connection.memory_pages(connection.make_memory(3, None, ""), "")),
                    daemon=True,
                )
                thread.start()
                thread.join(2)
                assert answers == [3], places
        except (Alarm, EngineLost) as error:
            pytest.fail(f"after an interrupt at {places[0]}: {error!r}")
        alarm(0)
    assert line > 40
    assert all(loss.interrupted for loss in processes.take_losses())


def test_every_line_of_the_trouble(processes: EnginePool, alarm: Callable[[float], None]) -> None:
    """A second Ctrl-C while the first one is dealt with: nothing is taken for the next answer, or for a crash."""
    loaded = load(processes, WASM)
    for line in range(100):
        made = loaded.instantiate({"env": {"h": lambda value: value}})
        pid = pid_of(processes)
        tracing: list[list[str]] = []

        def ring(number: int, frame: FrameType | None) -> None:
            interrupting = interrupt_at(line)  # noqa: B023
            tracing.append(interrupting.__enter__())  # noqa: B023
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGUSR1, ring)
        timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        try:
            made.exports.hang()
        except (KeyboardInterrupt, Alarm):
            pass
        finally:
            sys.settrace(None)
            timer.join()
            signal.signal(signal.SIGUSR1, before)
        try:
            check(loaded)
        except EngineLost as error:
            pytest.fail(f"after a second interrupt at {tracing[0]}: {error}")
        assert state_of(pid) == "", tracing
        if not tracing[0]:
            break


# While a process starts


def test_ctrl_c_while_a_process_starts(processes: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until the process is made, and then leaves nothing behind."""
    import subprocess

    from pytest_wasmer.runtime import process

    real = subprocess.Popen
    started = []

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        made = real(*arguments, **keywords)
        started.append(made.pid)
        os.kill(os.getpid(), signal.SIGINT)
        return made

    monkeypatch.setattr(process.subprocess, "Popen", interrupted)
    before, others = descriptors(), children()
    with pytest.raises(KeyboardInterrupt):
        processes.connection(FAKE)
    monkeypatch.undo()
    assert len(started) == 1
    assert state_of(started[0]) == ""
    assert sorted(descriptors()) == sorted(before)
    assert children() == others
    check(load(processes, WASM))


@pytest.mark.parametrize("where", ["main", "another"])
def test_the_mask_is_as_before(processes: EnginePool, where: str) -> None:
    masks = []

    def start() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        processes.connection(FAKE)
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    if where == "main":
        start()
    else:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    assert len(masks) == 2
    assert masks[0] == masks[1]


@pytest.mark.parametrize("where", ["main", "another"])
def test_ctrl_c_does_not_reach_the_process(processes: EnginePool, where: str) -> None:
    """Whichever thread started it."""
    loaded = []
    if where == "main":
        loaded.append(load(processes, WASM))
    else:
        thread = threading.Thread(target=lambda: loaded.append(load(processes, WASM)))
        thread.start()
        thread.join()
    pid = pid_of(processes)
    os.kill(pid, signal.SIGINT)
    check(loaded[0])
    assert pid_of(processes) == pid


GROUP = """
import signal, os
count = 0
def counted(number, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, counted)
print("ready", flush=True)
for _ in range(12):
    pool = new_pool()
    made = load(pool, WASM).instantiate()
    pids = {pid_of(pool)}
    for number in range(50):
        assert made.exports.sum(number, 1) == number + 1
    assert {pid_of(pool)} == pids and pool.take_losses() == []
    pool.close()
print("interrupted" if count > 20 else f"interrupted {count} times only")
"""


def test_ctrl_c_to_the_whole_process_group() -> None:
    """As a terminal sends it: to the test process, which here goes on, and to all engine processes, also starting ones."""
    process = start_script(GROUP, own_group=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        while process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.003)
        assert process.stdout.read() == "interrupted\n"
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0


def test_ctrl_c_ends_a_script_in_the_middle_of_a_call() -> None:
    script = run_script(
        "import threading, os, signal\n"
        "pool = new_pool()\n"
        'made = load(pool, HANGING).instantiate({"env": {"ready": lambda: None}})\n'
        "print(pid_of(pool), flush=True)\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "made.exports.hang()\n"
    )
    pid, *_, last = script.stdout.splitlines()
    assert last == "KeyboardInterrupt"
    assert script.returncode in (1, -signal.SIGINT)
    assert state_of(int(pid)) == ""
