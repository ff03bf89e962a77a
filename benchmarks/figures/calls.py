"""What one call costs: through the pipe, many in one message, and by direct call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from figures.engines import backends, bare, plugged
from figures.figure import Figure, at_most, compared, layouts, pinned, seconds
from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.pipe import PipeConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_wasmer.engines.registry import BackendSpec

CHILD = Path(__file__).resolve().parent.parent / "children" / "ping.py"
ROUNDS = 60
CALLS = 200
MAP_CALLS = 10_000
DIRECT_CALLS = 5_000

# What a call of add(i32, i32) -> i32 sends and gets: a header and a function's handle with the arguments, a header and
# the result.
REQUEST = wire.HEADER.size + wire.HANDLE.size + 8
ANSWER = wire.HEADER.size + 4


def call_pipe() -> Iterator[Figure]:
    """One call through the pipe, against a ping of the same bytes between two processes, each pinned to a core."""
    for spec in backends():
        *others, (where, call_time, ping_time) = [
            (where, *_call_and_ping(spec, *cores)) for where, cores in layouts().items()
        ]
        note = "; ".join(
            f"both processes pinned to {where}: call {call * 1e6:.1f} us, ping {ping * 1e6:.1f} us"
            for where, call, ping in [(where, call_time, ping_time), *others]
        )
        yield at_most(2.0, f"call-pipe {spec.name}", call_time / ping_time, "x ping", note)


def _call_and_ping(spec: BackendSpec, here: int, there: int) -> list[float]:
    """Seconds of each."""
    with (
        pinned({here, there}),  # from the start: who has one core knows
        plugged(spec, "process") as (add, connection),
        ping_processes() as ((child,), ping),
    ):
        assert isinstance(connection, PipeConnection)
        with pinned([here]), pinned([there], child), pinned([there], connection.pid):
            return compared(ROUNDS, partial(_calls, CALLS, add), partial(ping, CALLS))


def map_10_000() -> Iterator[Figure]:
    """`map` of 10,000 calls, against a loop over the bare function."""
    rows = [(number, 1) for number in range(MAP_CALLS)]
    for spec in backends():
        function = bare(spec.name)
        with plugged(spec, "process") as (add, _):
            assert add.map(rows) == _loop(function, rows)
            map_time, loop_time = compared(
                ROUNDS,
                partial(seconds, partial(add.map, rows)),
                partial(seconds, partial(_loop, function, rows)),
            )
        note = f"map {map_time * 1e3:.2f} ms, bare loop {loop_time * 1e3:.2f} ms, not pinned"
        yield at_most(2.5, f"map {spec.name}", map_time / loop_time, "x bare loop", note)


def call_direct() -> Iterator[Figure]:
    """One call with `--wasm-isolation=none`, against the bare call."""
    for spec in backends():
        with plugged(spec, "none") as (add, _):
            call_time, bare_time = compared(
                ROUNDS, partial(_calls, DIRECT_CALLS, add), partial(_calls, DIRECT_CALLS, bare(spec.name))
            )
        note = f"call {call_time * 1e6:.2f} us, bare {bare_time * 1e6:.2f} us"
        yield at_most(4.0, f"call-direct {spec.name}", call_time / bare_time, "x bare call", note)


def _calls(count: int, add: Callable[[int, int], int]) -> float:
    """Seconds of one call, of so many."""
    began = perf_counter()
    for _ in range(count):
        add(3, 4)
    return (perf_counter() - began) / count


def _loop(add: Callable[[int, int], int], rows: Sequence[tuple[int, int]]) -> list[int]:
    return [add(first, second) for first, second in rows]


@contextmanager
def ping_processes(number: int = 1) -> Iterator[tuple[list[int], Callable[[int], float]]]:
    """Ids of processes that answer `REQUEST` bytes by `ANSWER` bytes; and what measures one ping of all, of so many."""
    command = [sys.executable, "-I", str(CHILD), str(ANSWER)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0))
            for _ in range(number)
        ]
        request = bytes(REQUEST)
        outgoing = [process.stdin.fileno() for process in processes if process.stdin is not None]
        incoming = [process.stdout.fileno() for process in processes if process.stdout is not None]

        def ping(count: int) -> float:
            began = perf_counter()
            for _ in range(count):
                for descriptor in outgoing:
                    os.write(descriptor, request)
                for descriptor in incoming:
                    os.read(descriptor, wire.CHUNK)
            return (perf_counter() - began) / count

        yield [process.pid for process in processes], ping
