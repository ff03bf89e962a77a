"""Not measured with coverage: full stacks, and exceptions that come between at any line. Answers stay in step."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import WrongThread
from pytest_wasmer.runtime.flight import Flight
from pytest_wasmer.runtime.pipe import PipeConnection
from tests.agreement.test_lockstep import HOST, Log, check, pids
from tests.agreement.workbench import Workbench
from tests.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def test_calls_from_host_functions(piped: Workbench) -> None:
    exports: list[Any] = []

    def h(value: int) -> int:
        return int(exports[0].f(value - 1)) + 1 if value else int(exports[0].sum(100))

    instance = piped(HOST, {"env": {"h": h, "g": int}})
    exports.append(instance.exports)
    assert instance.exports.f(0) == 100
    assert instance.exports.f(99) == 199
    with pytest.raises(RecursionError, match="call each other more than 100 deep"):
        instance.exports.f(100)
    assert instance.exports.f(9) == 109


def interrupted(work: Callable[[], object], seconds: float = 0.15) -> None:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        timer.join()


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("hang", [True, False, False]),  # fake-a had answered; fake-c's answer had not been looked at
        ("hang_all", [False, False, False]),
        ("hang_or_host", [False, False, False]),  # those in a host call owe an answer, too
    ],
)
def test_an_interrupt_costs_whoever_owes_an_answer(piped: Workbench, name: str, spared: Sequence[bool]) -> None:
    before = pids(piped)
    exports = piped(HOST, {"env": {"h": Log(), "g": int}}).exports
    interrupted(lambda: exports[name](3))
    assert all(loss.interrupted for loss in piped.pool.take()[1])
    assert [new == old for new, old in zip(pids(piped), before, strict=True)] == spared
    check(piped)


def test_an_interrupt_in_a_host_function_costs_nothing(piped: Workbench) -> None:
    def h(value: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return value

    before = pids(piped)
    exports = piped(HOST, {"env": {"h": h, "g": int}}).exports
    with pytest.raises(KeyboardInterrupt):
        exports.f(1)
    assert exports.sum(2) == 2
    assert (pids(piped), piped.pool.take()[1]) == (before, [])


def test_an_interrupt_of_a_nested_call(piped: Workbench) -> None:
    exports: list[Any] = []
    exports.append(piped(HOST, {"env": {"h": lambda value: exports[0].hang_all(value), "g": int}}).exports)
    interrupted(lambda: exports[0].f(3))
    check(piped)


@pytest.mark.parametrize("kind", [ValueError, LookupError, OSError])
def test_an_exception_of_a_signal_handler_is_not_taken_for_nonsense(piped: Workbench, kind: type[Exception]) -> None:
    def ring(number: int, frame: object) -> None:
        raise kind("of the handler")

    exports = piped(HOST, {"env": {"h": Log(), "g": int}}).exports
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(kind, match="of the handler"):
            exports.hang_all(1)
    finally:
        signal.signal(signal.SIGALRM, before)
    check(piped)


class Alarm(BaseException):
    """What a signal handler raises, as pytest-timeout's does."""


@pytest.mark.parametrize("place", range(6))
def test_an_interrupt_on_the_way_out(piped: Workbench, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """No lock stays taken, for which another thread would wait for ever."""
    exports = piped(HOST, {"env": {"h": int, "g": int}}).exports
    leave, times = Flight.leave, itertools.count()

    def interrupted(flight: Flight) -> None:
        if place % 2:
            leave(flight)
        if next(times) == place // 2:
            raise Alarm
        if not place % 2:
            leave(flight)

    monkeypatch.setattr(Flight, "leave", interrupted)
    with pytest.raises(Alarm):
        exports.sum(1)
    monkeypatch.undo()
    assert not anything_locked(piped)
    assert exports.sum(2) == 2


class Ringing:
    """A lock within whose release a signal comes."""

    def __init__(self, lock: threading.Lock) -> None:
        self.acquire, self.locked = lock.acquire, lock.locked
        self._lock = lock
        self.releases = 0

    def release(self) -> None:
        self.releases += 1
        if self.locked():
            self._lock.release()
        if self.releases == 1:
            raise Alarm


@pytest.mark.parametrize("place", range(3))
def test_an_interrupt_when_a_lock_was_released(piped: Workbench, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """Released once only: it may be another thread's by then."""
    exports = piped(HOST, {"env": {"h": int, "g": int}}).exports
    member = piped.connect().members[place]
    assert isinstance(member, PipeConnection)
    lock = Ringing(member._lock)
    monkeypatch.setattr(member, "_lock", lock)
    with pytest.raises(Alarm):
        exports.sum(1)
    assert (lock.releases, anything_locked(piped)) == (1, False)


def anything_locked(bench: Workbench) -> bool:
    return any(member._lock.locked() for member in bench.connect().members if isinstance(member, PipeConnection))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_random_moments(piped: Workbench) -> None:
    """Answers never get out of step."""
    moments = random.Random(1)
    ringing = False

    def ring(number: int, frame: object) -> None:
        if ringing:
            raise Alarm

    def call_within_earshot(exports: Any) -> None:
        nonlocal ringing
        ringing = True
        call_for_ever(exports)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for _ in range(40):
            exports = piped(HOST, {"env": {"h": int, "g": int}}).exports
            exports.sum(0)
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.001, 0.005), 0.05)
            try:
                with pytest.raises(Alarm):
                    call_within_earshot(exports)
            finally:
                ringing = False
                signal.setitimer(signal.ITIMER_REAL, 0)
            check(piped)
            assert not anything_locked(piped)
    finally:
        signal.signal(signal.SIGALRM, before)


def call_for_ever(exports: Any) -> None:
    for number in itertools.count():
        assert exports.sum(number) == number
        assert exports.f(number) == number


def test_objects_belong_to_their_thread(make: Workbench) -> None:
    exports = make(HOST, {"env": {"h": int, "g": int}}).exports
    assert isinstance(in_thread(lambda: exports.sum(1)), WrongThread)
    assert exports.sum(1) == 1


def test_another_thread_during_a_host_function(piped: Workbench) -> None:
    found: list[BaseException | None] = []

    def h(value: int) -> int:
        found.append(in_thread(lambda: check(piped)))
        return value

    exports = piped(HOST, {"env": {"h": h, "g": int}}).exports
    assert exports.f(1) == 1
    (error,) = found
    assert isinstance(error, WrongThread)
    assert "in a call that waits for a host function in another thread" in str(error)
    check(piped)


def test_two_threads(piped: Workbench) -> None:
    errors = []
    for _ in range(3):
        threads = [threading.Thread(target=lambda: errors.append(in_thread(lambda: check_sums(piped)))) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == [None] * 6


def check_sums(bench: Workbench) -> None:
    exports = bench(HOST, {"env": {"h": Log(), "g": int}}).exports
    assert [exports.sum(number) for number in range(50)] == [*range(50)]
