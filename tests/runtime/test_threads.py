"""One engine process serves one thread at a time; nobody waits for a host function of another thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime.errors import EngineLost, InstanceLost, WrongThread
from tests.fake_engine import function, module
from tests.runtime.workbench import FAKE, instance, load, pid_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.pool import EnginePool

WASM = module(
    imports=[("env", "h", ["func", ["i32"], ["i32"]])],
    exports={
        "sum": function("i32 i32 -> i32", ["sum"]),
        "host": function("i32 -> i32", ["host"]),
        "exit": function("->", [["exit", 3]]),
        "hang": function("->", ["hang"]),
    },
)


def run(*works: Callable[[], Any]) -> list[Any]:
    """What each returns or raises, all at the same time in threads of their own."""
    outcomes: list[Any] = [None] * len(works)

    def perform(place: int, work: Callable[[], Any]) -> None:
        try:
            outcomes[place] = work()
        except BaseException as error:
            outcomes[place] = error

    threads = [threading.Thread(target=perform, args=item, daemon=True) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return outcomes


def test_two_threads_with_an_instance_each(processes: EnginePool) -> None:
    """Serialized, and every answer goes to whom it belongs."""
    loaded = load(processes, WASM)

    def work(offset: int) -> list[int]:
        made = loaded.instantiate({"env": {"h": lambda value: value}})
        return [made.exports.sum(number, offset) for number in range(300)]

    offsets = [0, 1000, 2000, 3000]
    assert run(*[lambda offset=offset: work(offset) for offset in offsets]) == [
        list(range(offset, offset + 300)) for offset in offsets
    ]


@pytest.mark.parametrize("waiting", ["joined", "not joined"])
def test_another_thread_during_a_host_function_is_refused_at_once(processes: EnginePool, waiting: str) -> None:
    """The host function may well wait for that thread: whoever waits for the other, nobody must wait for ever."""
    loaded = load(processes, WASM)
    refused: list[Any] = []

    def other() -> None:
        began = time.monotonic()
        try:
            loaded.instantiate({"env": {"h": int}})
        except BaseException as error:
            refused.append(error)
        refused.append(time.monotonic() - began)

    def host(value: int) -> int:
        thread = threading.Thread(target=other)
        thread.start()
        if waiting == "joined":
            thread.join(5)
        else:
            while thread.is_alive():
                time.sleep(0.001)
        return value + 1

    made = loaded.instantiate({"env": {"h": host}})
    assert made.exports.host(1) == 2
    error, seconds = refused
    assert isinstance(error, WrongThread)
    assert str(error) == (
        "the fake-a engine process is in a call that waits for a host function in another thread\n"
        "Call it from that thread, or after that call has returned."
    )
    assert seconds < 0.5
    assert processes.connection(FAKE).lost is None
    assert made.exports.sum(1, 2) == 3


def test_a_thread_that_waited_before_the_host_function_began(processes: EnginePool) -> None:
    """It waits for a call to end; that call comes to a host function, which waits for the thread."""
    loaded = load(processes, module(
        imports=[("env", "h", ["func", [], []])],
        exports={"f": function("->", [["print", "begun"], ["host"], ["host"]])},
    ))  # fmt: skip
    outcomes: list[Any] = []
    threads: list[threading.Thread] = []
    connection = processes.connection(FAKE)
    begun = threading.Event()

    def other() -> None:
        begun.set()
        try:
            outcomes.append(connection.make_memory(1, None, "a memory"))
        except WrongThread as error:
            outcomes.append(error)

    def host() -> None:
        if not threads:
            threads.append(threading.Thread(target=other))
            threads[0].start()
            begun.wait(5)
        else:
            threads[0].join(5)
            assert not threads[0].is_alive()

    loaded.instantiate({"env": {"h": host}}).exports.f()
    assert len(outcomes) == 1


def test_the_host_function_itself_may_call(processes: EnginePool) -> None:
    made = instance(processes, WASM, h=lambda value: made.exports.sum(value, 1))
    assert made.exports.host(1) == 2


def test_after_the_host_function_others_may_call(processes: EnginePool) -> None:
    made = instance(processes, WASM, h=lambda value: value)
    assert made.exports.host(1) == 1
    connection = processes.connection(FAKE)
    assert isinstance(run(lambda: connection.make_memory(1, None, "a memory"))[0], int)


def test_after_a_host_function_that_raised_others_may_call(processes: EnginePool) -> None:
    def host(value: int) -> int:
        raise LookupError

    made = instance(processes, WASM, h=host)
    with pytest.raises(LookupError):
        made.exports.host(1)
    connection = processes.connection(FAKE)
    assert isinstance(run(lambda: connection.make_memory(1, None, "a memory"))[0], int)


def test_a_thread_that_waits_when_the_process_dies(processes: EnginePool) -> None:
    """It is told so, not that a pipe is closed."""
    connection = processes.connection(FAKE)
    hanging = load(processes, WASM)
    pid = pid_of(processes)
    begun = threading.Event()

    def hang() -> None:
        made = hanging.instantiate({"env": {"h": int}})
        begun.set()
        made.exports.hang()

    def wait() -> None:
        begun.wait(5)
        time.sleep(0.05)
        threading.Timer(0.1, os.kill, (pid, signal.SIGKILL)).start()
        connection.make_memory(1, None, "a memory")

    outcomes = run(hang, wait)
    assert type(outcomes[0]) is EngineLost
    assert type(outcomes[1]) is InstanceLost
    assert str(outcomes[1]).splitlines()[0] == (
        "a memory is gone: its fake-a engine process was lost earlier (killed by SIGKILL)"
    )


def test_an_instance_belongs_to_its_thread(pool: EnginePool) -> None:
    """Over both transports."""
    made = instance(pool, WASM, h=int)
    made.exports.sum(1, 2)
    (error,) = run(lambda: made.exports.sum(1, 2))
    assert isinstance(error, WrongThread)
    assert str(error).startswith("function 'sum' of m.wasm belongs to thread 'MainThread', used in 'Thread-")


@pytest.mark.parametrize("isolation", ["none"])
def test_without_isolation_an_engine_belongs_to_its_thread(pool: EnginePool) -> None:
    """Native objects do: another thread would end the process in a panic."""
    connection = pool.connection(FAKE)
    handle, _ = connection.compile(WASM, "compile")
    first = connection.instantiate(handle, [(0, connection.make_memory(1, None, "m"))], "instantiation")
    call = connection.caller(first + 1, ("i32", "i32"), ("i32",), "call")
    mapped = connection.mapper(first + 1, ("i32", "i32"), ("i32",), "map")
    works: list[Callable[[], Any]] = [
        lambda: connection.compile(WASM, "compile"),
        lambda: call((1, 2)),
        lambda: mapped([(1, 2)]),
        lambda: connection.get_global(first + 1, "global"),
    ]
    for error in run(*works):
        assert isinstance(error, WrongThread)
        assert str(error) == (
            "with --wasm-isolation=none the fake-a engine belongs to the thread that used it first\n"
            "Call it from there, or use --wasm-isolation=process."
        )
    assert call((1, 2)) == (3,)


def test_calls_go_on_while_the_main_thread_looks_after_processes(processes: EnginePool) -> None:
    """As it does after each phase of a test, whose fixtures may have threads."""
    done, found = threading.Event(), []

    def work() -> None:
        made = instance(processes, WASM, h=int)
        number = 0
        while not done.is_set():
            found.append(made.exports.sum(number, 1) - number)
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while len(found) < 300 and thread.is_alive() and time.monotonic() < deadline:
            processes.only(["fake-a"])
            processes.settle()
            assert processes.take() == ({}, [])
            time.sleep(0.0002)  # without it the thread has little of the lock
    finally:
        done.set()
        thread.join()
    assert len(found) >= 300
    assert set(found) == {1}
