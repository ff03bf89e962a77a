"""What fuzzing costs beside the calls themselves."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from figures.engines import ADD, backends, bare, cache_directory
from figures.figure import Figure, at_least, compared
from pytest_wasmer.agreement.fuzzing.fuzz import fuzz
from pytest_wasmer.agreement.fuzzing.generate import Generator
from pytest_wasmer.agreement.fuzzing.lanes import Batch, Lanes
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.engines.api import Values

PLANS = 100
ROUNDS = 8
SEED = 1


def fuzz_speed() -> Iterator[Figure]:
    """Calls per second of `pytest-wasmer fuzz`, against a loop over each bare function with the same inputs."""
    specs = backends()
    pool = EnginePool("process", cache_directory() / "pycache")
    source = Source("add.wat", None, ADD)
    loader = Loader()
    modules = [loader.load(spec.name, partial(pool.connection, spec), source, Fresh(lambda *_: None)) for spec in specs]
    functions = [bare(spec.name) for spec in specs]
    with Lanes(modules) as lanes:
        generator = Generator(lanes.types, SEED)
        steps = [step for number in range(PLANS) for step in generator.plan(number).steps]
        rows = [row for step in steps if isinstance(step, Batch) for row in step.rows]
        fuzz_time, loop_time = compared(ROUNDS, partial(_fuzz, lanes), partial(_loops, functions, rows))
    pool.close()
    note = f"{1 / fuzz_time:.0f} calls/s, bare {1 / loop_time:.0f} calls/s, {len(specs)} backends, not pinned"
    yield at_least(0.5, "fuzz", loop_time / fuzz_time, "x bare loops", note)


def _fuzz(lanes: Lanes) -> float:
    """Seconds per call. On a busy machine it may make fewer."""
    began = perf_counter()
    calls = fuzz(lanes, SEED, 600.0, PLANS).calls * len(lanes.names)
    return (perf_counter() - began) / calls


def _loops(functions: list[Callable[[int, int], int]], rows: list[Values]) -> float:
    """Seconds per call."""
    began = perf_counter()
    for function in functions:
        for first, second in rows:
            function(first, second)
    return (perf_counter() - began) / (len(rows) * len(functions))
