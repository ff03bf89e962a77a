"""What interrupts the wait for an answer propagates as it is, and costs the process: answers never get out of step."""

from __future__ import annotations

import ctypes
import linecache
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_wasmer.runtime import process
from pytest_wasmer.runtime.errors import EngineLost, InstanceLost
from tests.fake_engine import function, module
from tests.runtime.workbench import (
    FAKE,
    children,
    descriptors,
    instance,
    load,
    losses,
    pid_of,
    run_script,
    start_script,
    state_of,
)

if TYPE_CHECKING:
    from types import FrameType

    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.wasm.instance import Instance
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


Ringing = Callable[[float], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def _nothing_is_left_handled(request: pytest.FixtureRequest) -> None:
    """From CPython 3.11 on, one that strikes at the begin of an `except` leaves that exception as handled for good.

    All that is raised later would have it as its context.
    """
    if sys.version_info >= (3, 11):
        # A generator would have a state of its own.
        request.addfinalizer(lambda: ctypes.pythonapi.PyErr_SetHandledException(ctypes.py_object()))  # noqa: PT021


@pytest.fixture
def alarm() -> Iterator[Ringing]:
    """`with alarm(seconds)`: after that time a signal handler raises `Alarm` in the block, which must not outlast it.

    It rings again, since a weakref callback or a finalizer may be what is interrupted: that exception is lost.
    """
    ringing = False

    def ring(number: int, frame: FrameType | None) -> None:
        if ringing:
            raise Alarm

    @contextmanager
    def within(seconds: float) -> Iterator[None]:
        nonlocal ringing
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
        ringing = True
        try:
            yield
        finally:
            ringing = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, ring)
    yield within
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


def test_an_exception_of_a_signal_handler(processes: EnginePool, alarm: Ringing) -> None:
    loaded = load(processes, WASM)
    made = loaded.instantiate({"env": {"h": int}})
    connection, pid = processes.connection(FAKE), pid_of(processes)
    began = time.monotonic()
    with pytest.raises(Alarm), alarm(0.05):
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
    assert [loss.interrupted for loss in losses(processes)] == [True]


@pytest.mark.parametrize("kind", [ValueError, LookupError, OSError, type("Own", (ValueError,), {})])
def test_an_exception_of_any_kind(processes: EnginePool, kind: type[Exception]) -> None:
    """Also of the kinds by which decoding says that an answer makes no sense."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise kind("of the handler")

    made = instance(processes, WASM, h=int)
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(kind, match="of the handler"):
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
    assert losses(processes) == []


def test_ctrl_c_in_a_nested_call(processes: EnginePool) -> None:
    """The wait for the inner answer is interrupted: then the outer call is lost, too, and says so by the interrupt."""
    loaded = load(processes, WASM)
    made = loaded.instantiate({"env": {"h": lambda value: made.exports.hang()}})
    with ctrl_c_after(0.05), pytest.raises(KeyboardInterrupt):
        made.exports.host(1)
    check(loaded)


def call_for_ever(made: Instance) -> NoReturn:
    for number in count():
        assert made.exports.sum(number, 1) == number + 1
        assert made.exports.host(number) == number
    raise AssertionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_random_moments(processes: EnginePool, alarm: Ringing) -> None:
    moments = random.Random(1)
    loaded = load(processes, WASM)
    for _ in range(100):
        made = loaded.instantiate({"env": {"h": lambda value: value}})
        with pytest.raises(Alarm), alarm(moments.uniform(0.001, 0.005)):
            call_for_ever(made)
        with alarm(5):
            check(loaded)
    assert all(loss.interrupted for loss in losses(processes))


# At every line

RUNTIME = os.path.join("pytest_wasmer", "runtime")


# Before these lines no signal is handled: CPython looks for signals after calls and in loops, and here is neither.
SHELTERED = (
    "if outermost:",
    "self.hosts.depth = 0  # also where an interrupt kept a host call from counting down",
    "self._owner = None",
    "self._lock.release()",
)


def interrupting(line: int, within: str, places: list[str]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function.

    It raises `Alarm` before the line that is executed as number `line` in the files with `within` in their path,
    as a signal handler could, and says in `places` where that was.
    """
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if within not in frame.f_code.co_filename:
            return None
        if event == "line" and linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() not in SHELTERED:
            left -= 1
            if left < 0:
                places.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
                raise Alarm
        return trace

    return trace


@contextmanager
def traced(trace: Callable[[FrameType, str, Any], Any]) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_every_line_of_a_call(processes: EnginePool, alarm: Ringing) -> None:
    """One interrupt each: afterwards other calls are answered, by this process or a new one, also in other threads."""
    loaded = load(processes, WASM)
    places: list[str] = []
    for line in range(1000):
        made = loaded.instantiate({"env": {"h": lambda value: value}})
        connection = processes.connection(FAKE)
        places.clear()
        with suppress(Alarm), traced(interrupting(line, RUNTIME, places)):
            assert made.exports.host(line) == line
        if not places:
            break
        try:
            with alarm(5):
                check(loaded)
            if connection.lost is None:
                assert connection.hosts.depth == 0, places
                assert in_another_thread(partial(connection.make_memory, 3, None, "a memory")), places
        except (Alarm, EngineLost) as error:
            pytest.fail(f"after an interrupt at {places[0]}: {error!r}")
    assert line > 40
    assert all(loss.interrupted for loss in losses(processes))


def in_another_thread(work: Callable[[], Any], within: float = 2) -> Any:
    """What `work` returns; None if it has not returned in that time."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(within)
    return answers[0] if answers else None


def test_a_second_interrupt_while_the_first_is_dealt_with(processes: EnginePool, alarm: Ringing) -> None:
    """At every line of the ending of the process: it ends, and is not taken for a crash."""
    loaded = load(processes, WASM)
    places: list[str] = []
    for line in range(100):
        made = loaded.instantiate({"env": {"h": lambda value: value}})
        pid = pid_of(processes)
        places.clear()

        def ring(number: int, frame: FrameType | None) -> None:
            sys.settrace(interrupting(line, os.path.join(RUNTIME, "process.py"), places))  # noqa: B023
            raise KeyboardInterrupt

        before = sys.gettrace(), signal.signal(signal.SIGUSR1, ring)
        timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        try:
            with pytest.raises((KeyboardInterrupt, Alarm)):
                made.exports.hang()
        finally:
            sys.settrace(before[0])
            timer.join()
            signal.signal(signal.SIGUSR1, before[1])
        try:
            with alarm(5):
                check(loaded)
        except (Alarm, EngineLost) as error:
            pytest.fail(f"after a second interrupt at {places}: {error!r}")
        assert state_of(pid) == "", places
        if not places:
            break
    assert line > 1
    assert all(loss.interrupted for loss in losses(processes))


# While a process starts


def test_ctrl_c_while_a_process_starts(processes: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until the process is made, and then leaves nothing behind."""
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
    assert {pid_of(pool)} == pids and losses(pool) == []
    pool.close()
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("interrupted" if count > 20 else f"interrupted {count} times only")
"""


def test_ctrl_c_to_the_whole_process_group() -> None:
    """As a terminal sends it: to the test process, which goes on here, and all engine processes, starting ones, too."""
    script = start_script(GROUP, own_group=True)
    assert script.stdout is not None
    try:
        assert script.stdout.readline() == "ready\n"
        while script.poll() is None:
            os.killpg(script.pid, signal.SIGINT)
            time.sleep(0.003)
        assert script.stdout.read() == "interrupted\n"
    finally:
        script.kill()
        script.communicate()
    assert script.returncode == 0


def test_ctrl_c_ends_a_script_in_the_middle_of_a_call() -> None:
    script = run_script(
        "pool = new_pool()\n"
        "made = load(pool, HANGING).instantiate()\n"
        "print(pid_of(pool), flush=True)\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "made.exports.hang()\n"
    )
    pid, *_, last = script.stdout.splitlines()
    assert last == "KeyboardInterrupt"
    assert script.returncode in (1, -signal.SIGINT)
    assert state_of(int(pid)) == ""
