"""What it costs to record what tests see, and to compare it."""

from __future__ import annotations

import json
import os
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from figures.engines import backends, plugged
from figures.figure import Figure, at_most, compared, in_turns, typical
from figures.runs import copied, run
from pytest_wasmer.agreement.local import Local
from pytest_wasmer.agreement.observe import Observation, Recorder
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.runtime.connection import Connection

ROUNDS = 40
CALLS = 1_000
PAGES = 16
MIB = f'(module (memory (export "memory") {PAGES}))'


def recording() -> Iterator[Figure]:
    """1,000 calls that are recorded and packed for the report, against the same calls alone."""
    local = Local.make()
    try:
        for spec in backends():
            with plugged(spec, "process") as (add, connection):
                recorder = Recorder(local)
                recorded, alone = compared(
                    ROUNDS, partial(_recorded, recorder, connection, local, add), partial(_calls, add)
                )
            note = f"{recorded * 1e3:.1f} ms against {alone * 1e3:.1f} ms"
            yield at_most(1.15, f"recording {spec.name}", recorded / alone, "x alone", note)
    finally:
        local.remove()


def end_digests() -> Iterator[Figure]:
    """What a test with an instance of 1 MiB of memory, all of it just written, costs at its end."""
    for spec in backends():
        local = Local.make()  # each its own: else the last one waits for the disk that the others have filled
        try:
            with plugged(spec, "process") as (_, connection):
                load = Loader().load(
                    spec.name, partial(_same, connection), Source("mib.wat", None, MIB), Fresh(lambda *_: None)
                )
                memory = load.instantiate().memory
                recorder = Recorder(local)
                (ends,) = in_turns(ROUNDS, partial(_end, recorder, connection, memory))
        finally:
            local.remove()
        note = f"{PAGES} pages of random bytes, digested and kept"
        yield at_most(2.0, f"end-digests {spec.name}", typical(ends) * 1e3, "ms", note)


def judging() -> Iterator[Figure]:
    """1,000 tests of 100 events on each backend: the share of the session that comparing them takes."""
    directory = copied("agreement")
    report = directory / "seconds.json"
    run(["-m", "pytest"], directory, ["--wasm-backends=all"], REPORT=str(report))
    judged, whole = json.loads(report.read_text())
    note = f"{judged:.2f} s of {whole:.1f} s"
    yield at_most(2.0, "judging", 100 * judged / whole, "% of session", note)


def _same(connection: Connection) -> Connection:
    return connection


def _calls(add: Callable[[int, int], int]) -> float:
    began = perf_counter()
    for number in range(CALLS):
        add(number, 4)
    return perf_counter() - began


def _recorded(recorder: Recorder, connection: Connection, local: Local, add: Callable[[int, int], int]) -> float:
    began = perf_counter()
    recorder.begin("")
    connection.recorder = recorder
    _calls(add)
    observed = recorder.end()
    connection.recorder = None
    duration = perf_counter() - began
    assert observed is not None
    local.discard(Observation.unpacked(observed).journal)
    return duration


def _end(recorder: Recorder, connection: Connection, memory: object) -> float:
    content = os.urandom(PAGES << 16)
    memory.write(0, content)  # type: ignore[attr-defined]
    recorder.begin("")
    connection.recorder = recorder
    memory.read(0, 1)  # type: ignore[attr-defined]
    began = perf_counter()
    observed = recorder.end()
    duration = perf_counter() - began
    connection.recorder = None
    assert observed is not None
    assert Observation.unpacked(observed).state
    return duration
