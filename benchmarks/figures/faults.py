"""What it costs that native code can go wrong: limits where it does not, and the next process where it does."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import enumerate as threads
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from figures.engines import ADD, backends, cache_directory, registry
from figures.figure import Figure, at_most, compared, layouts, pinned, typical
from figures.modules import EXAMPLE_PROJECT
from pytest_wasmer import CompileError
from pytest_wasmer.artifacts.key import parts_of
from pytest_wasmer.artifacts.store import Shelf, open_store
from pytest_wasmer.runtime.pipe import PipeConnection
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.runtime.watchdog import Limit, Limits, Watchdog
from pytest_wasmer.wasm.loading import Fresh, Reloaded
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer import Module
    from pytest_wasmer.engines.registry import BackendSpec

ROUNDS = 40
# It looks once per 50 ms.
SECONDS = 0.2
CRASHES = 7


def timeouts() -> Iterator[Figure]:
    """A call with a limit, which a thread looks after, against one without that thread."""
    for where, (here, there) in layouts().items():
        for spec in backends():
            with closing(PipeConnection(spec, cache_directory() / "pycache")) as connection:
                connect = partial(_same, connection)
                module = Loader().load(spec.name, connect, Source("add.wat", None, ADD), Fresh(lambda *_: None))
                add = module.instantiate().exports.add
                with pinned([here]), pinned([there], connection.pid):
                    limited, free = compared(ROUNDS, partial(_limited, add, connection), partial(_call, add))
            spent = f"{limited * 1e6:.2f} us against {free * 1e6:.2f} us of the test process, all its threads"
            note = f"{spent}; both processes pinned to {where}"
            yield at_most(1.05, f"timeouts ({where}) {spec.name}", limited / free, "x without", note)


def _same(connection: PipeConnection) -> PipeConnection:
    return connection


def _limited(add: Callable[[int, int], int], connection: PipeConnection) -> float:
    watchdog = Watchdog()
    watchdog.limits = Limits(Limit(60))
    watchdog.watch(connection)
    duration = _call(add)
    del watchdog
    while any(thread.name == "wasm-watchdog" for thread in threads()):
        time.sleep(0.01)
    return duration


def _call(add: Callable[[int, int], int]) -> float:
    """Processor time of this process for one call: what a thread adds is less than what a busy machine does."""
    count, began, worked = 0, perf_counter(), process_time()
    while perf_counter() - began < SECONDS:
        for _ in range(100):
            add(3, 4)
        count += 100
    return (process_time() - worked) / count


def restart() -> Iterator[Figure]:
    """From a crash until a new engine process has all modules of the example project, from the store."""
    for spec in backends():
        pool = EnginePool("process", cache_directory() / "pycache")
        with closing(pool), tempfile.TemporaryDirectory(dir=cache_directory()) as store:
            modules = _example_modules(spec, pool, Path(store))
            durations = [_restart(spec, pool, modules) for _ in range(CRASHES)]
        note = f"{len(modules)} modules; least {min(durations):.3f} s, most {max(durations):.3f} s"
        yield at_most(1.0, f"restart {spec.name}", typical(durations), "s", note)


def _example_modules(spec: BackendSpec, pool: EnginePool, store: Path) -> list[Module]:
    """Those that the backend compiles: not all do SIMD."""
    shelf = Shelf(open_store(store, cache_directory() / "seal.key"), parts_of(registry().availability(spec.name), {}))
    strategy = Reloaded(lambda _: shelf, lambda *_: None, lambda *_: None)
    loader, found = Loader(), []
    for file in sorted((EXAMPLE_PROJECT / "modules").glob("*.wa[st]*")):
        with suppress(CompileError):
            source = read(file, file.parent, file.parent)
            found.append(loader.load(spec.name, partial(pool.connection, spec), source, strategy))
    return found


def _restart(spec: BackendSpec, pool: EnginePool, modules: list[Module]) -> float:
    connection = pool.connection(spec)
    assert isinstance(connection, PipeConnection)
    began = perf_counter()
    os.kill(connection.pid, signal.SIGKILL)
    while connection.lost is None:
        pool.settle()
    for module in modules:
        module.loaded()
    return perf_counter() - began
