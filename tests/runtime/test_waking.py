"""An engine process that is about to be asked is woken up; which must never get in the way of anything."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.errors import EngineLost
from tests.conftest import FAKES
from tests.fake_engine import function, module
from tests.runtime.workbench import FAKE, begin, instance, losses, pid_of, state_of

if TYPE_CHECKING:
    from pytest_wasmer.runtime.pool import EnginePool

WASM = module(
    imports=[("env", "h", ["func", [], []])],
    exports={"sum": function("i32 i32 -> i32", ["sum"]), "call": function("->", [["host"]])},
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ops of the frames that this process writes, but for those of calls."""
    ops: list[int] = []
    write = wire.Frames.write

    def noted(frames: wire.Frames, op: int, sequence: int, body: bytes, before: bytes = b"") -> None:
        ops.append(op)
        write(frames, op, sequence, body, before)

    monkeypatch.setattr(wire.Frames, "write", noted)
    return ops


def test_the_only_backend_of_a_test_is_woken_up(processes: EnginePool, sent: list[int]) -> None:
    for spec in FAKES[:2]:
        begin(processes, spec)
    sent.clear()
    processes.only(["fake-b"])
    assert sent == [wire.WAKE]
    processes.only(None)
    processes.only(["fake-c"])  # not started
    assert sent == [wire.WAKE]


def test_several_are_not(processes: EnginePool, sent: list[int]) -> None:
    """They would take the cores from each other, and from the test."""
    for spec in FAKES[:2]:
        begin(processes, spec)
    sent.clear()
    processes.only(["fake-a", "fake-b"])
    assert sent == []


def test_nor_one_that_is_starting(processes: EnginePool, sent: list[int]) -> None:
    processes.connection(FAKE)
    processes.only(["fake-a"])
    assert sent == []


def test_calls_go_on(processes: EnginePool) -> None:
    made = instance(processes, WASM, h=lambda: processes.only(["fake-a"]))
    for number in range(10):
        processes.only(["fake-a"])
        assert made.exports.sum(number, 1) == number + 1
        made.exports.call()  # which holds the pipe meanwhile
        processes.only(None)
    assert losses(processes) == []


def test_a_dead_one(processes: EnginePool) -> None:
    """Who asks next says it."""
    made = instance(processes, WASM, h=lambda: None)
    pid = pid_of(processes)
    os.kill(pid, signal.SIGKILL)
    while state_of(pid) not in ("Z", ""):
        pass
    processes.only(["fake-a"])
    with pytest.raises(EngineLost, match="killed by SIGKILL"):
        made.exports.sum(1, 2)
    assert len(losses(processes)) == 1


def test_what_was_asked_since_it_settled(processes: EnginePool) -> None:
    assert not processes.was_asked()
    made = instance(processes, WASM, h=lambda: None)
    assert processes.was_asked()
    processes.take()
    assert not processes.was_asked()
    made.exports.sum(1, 2)
    assert processes.was_asked()
    processes.settle()
    assert not processes.was_asked()


def test_each_call_lingers_for_its_answer(processes: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    lingered: list[wire.Linger] = []
    monkeypatch.setattr(wire.Linger, "__call__", lambda linger: lingered.append(linger))
    made = instance(processes, WASM, h=lambda: None)
    made.exports.sum(1, 2)
    lingered.clear()
    assert [made.exports.sum(number, 1) for number in range(5)] == [1, 2, 3, 4, 5]
    assert len(lingered) == 5


def test_an_interrupt_costs_the_process_and_leaves_nothing_locked(
    processes: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it comes when the lock has been taken and nobody knows it yet."""
    begin(processes)
    connection: Any = processes.connection(FAKE)
    lock = connection._lock

    class Interrupted:
        locked, release = lock.locked, lock.release

        @staticmethod
        def acquire(*arguments: Any) -> bool:
            lock.acquire(*arguments)
            raise KeyboardInterrupt

    monkeypatch.setattr(connection, "_lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        processes.only(["fake-a"])
    assert connection.lost.interrupted
    processes.only(None)
    assert instance(processes, WASM, h=lambda: None).exports.sum(1, 2) == 3
