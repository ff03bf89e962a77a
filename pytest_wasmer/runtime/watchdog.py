"""Ends engine processes that work longer on one request than they may."""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from pytest_wasmer.runtime.errors import TimedOut

if TYPE_CHECKING:
    from pytest_wasmer.runtime.pipe import PipeConnection

# In seconds. A limit is good to two of them.
INTERVAL = 0.05
# Who wakes up that much later was not running: a suspended machine, a stopped session. That is nobody's working time.
SUSPENDED = 1.0


class Limit(NamedTuple):
    """A number (of seconds, of bytes; 0: no limit), and who says so."""

    value: float = 0
    source: str = "default"


class Limits(NamedTuple):
    """What a test's engine processes may take.

    `call`: seconds that Wasm may run in one call from Python, with all that the call makes in turn, but for the time in
    host functions; also calls that are mapped, and start functions. `compile`: seconds for all else. `memory`: bytes
    of each engine process, beyond what it has when the test begins.
    """

    call: Limit = Limit()
    compile: Limit = Limit()
    memory: Limit = Limit()


class Watchdog:
    """One thread for all engine processes of a pool, which looks every 50 ms; requests do nothing for it.

    A request that it sees for the second time has been under way for that long. It begins with the first process.
    """

    def __init__(self) -> None:
        self.limits = Limits()
        self._clocks: list[_Clock] = []
        self._thread: Thread | None = None
        self._leave = Event()
        _WATCHDOGS.add(self)

    def watch(self, connection: PipeConnection) -> None:
        self._clocks.append(_Clock(connection))
        self.start()

    def start(self) -> None:
        """Unless there is nothing to watch, or it has."""
        for clock in self._clocks[:]:  # its thread may remove some meanwhile
            clock.tell(unwatched=False)
        if self._clocks and (self._thread is None or not self._thread.is_alive()):
            self._leave = Event()
            # It holds the watchdog weakly, so as to end with the pool.
            arguments = weakref.ref(self), self._leave
            self._thread = Thread(target=_keep_looking, args=arguments, name="wasm-watchdog", daemon=True)
            self._thread.start()

    def pause(self) -> None:
        """Until the next request."""
        for clock in self._clocks[:]:  # its thread may remove some meanwhile
            clock.tell(unwatched=True)
        thread, self._thread = self._thread, None
        self._leave.set()
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """Nothing is watched any more."""
        self._clocks = []
        self.pause()

    def look(self, seconds: float) -> None:
        """That long after the last time."""
        for clock in self._clocks[:]:
            if not clock.advance(seconds, self.limits):
                with suppress(ValueError):  # closed meanwhile
                    self._clocks.remove(clock)


_WATCHDOGS: WeakSet[Watchdog] = WeakSet()


def _step_aside() -> None:
    """Forks of processes with threads may come to a deadlock, and Python 3.12 warns of them.

    The next request starts the thread again; one started right after a fork would be warned of, too.
    """
    for watchdog in [*_WATCHDOGS]:
        watchdog.pause()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_step_aside)


def _keep_looking(watchdog: weakref.ref[Watchdog], leave: Event) -> None:
    before = time.monotonic()
    while not leave.wait(INTERVAL):
        seen = watchdog()
        if seen is None:
            return
        now = time.monotonic()
        seen.look(now - before if now - before < SUSPENDED else INTERVAL)
        before = now
        del seen


class _Clock:
    """How long one engine process has worked on what it is at."""

    def __init__(self, connection: PipeConnection) -> None:
        self._connection = weakref.ref(connection)
        self._request = -1
        self._seconds = 0.0
        self._in_python = 0.0

    def tell(self, *, unwatched: bool) -> None:
        connection = self._connection()
        if connection is not None:
            connection.unwatched = unwatched

    def advance(self, seconds: float, limits: Limits) -> bool:
        """Whether there is something to look at the next time."""
        connection = self._connection()
        if connection is None or connection.lost is not None:
            return False
        request, hosts = connection.under_way, connection.hosts
        if request != self._request:
            self._request, self._seconds, self._in_python = request, 0.0, hosts.seconds
        elif request >= 0 and not hosts.in_python:
            # A host call that has come and gone since then is not the engine's time.
            python, self._in_python = hosts.seconds - self._in_python, hosts.seconds
            self._seconds += max(0.0, seconds - python)
            self._check(connection, limits)
        return True

    def _check(self, connection: PipeConnection, limits: Limits) -> None:
        calls = connection.runs_wasm
        limit = limits.call if calls else limits.compile
        if 0 < limit.value < self._seconds and connection.under_way == self._request:
            connection.end_late(TimedOut(connection.backend, limit.value, limit.source, "call" if calls else "compile"))
