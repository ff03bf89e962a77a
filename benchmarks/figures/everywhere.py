"""What a call of all backends at once costs, against that of the slowest of them alone."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from figures.calls import ping_processes
from figures.engines import backends, cache_directory
from figures.figure import Figure, at_most, compared
from figures.modules import real_modules
from pytest_wasmer.agreement.at_once.everywhere import Everywhere, module_everywhere
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 40
CALLS = 200
GOAL = 1.5
# A call of `spin` with each takes about a millisecond, on the compiler that is slowest at it.
TURNS = 400_000
# Bytes that one call of a real module digests: all that it takes at once.
BUFFER = 16_384
WAT = """
(module
  (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
  (func (export "spin") (param i32 i32) (result i32)
    (loop $again
      (local.set 1 (i32.rotl (i32.mul (local.get 1) (i32.const 31)) (local.get 0)))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1)))
"""


def wasm_all() -> Iterator[Figure]:
    """One call of all backends at once, against one call of the slowest of them."""
    pool = EnginePool("process", cache_directory() / "pycache")
    try:
        toys = Source("all.wat", None, WAT)
        file = real_modules().files["hash-sha256"]
        sha256 = read(file, file.parent, file.parent)
        with ping_processes(len(backends())) as (_, ping):
            figure = _figure(pool, toys, "add", CALLS, lambda exports: exports.add(3, 7))
            (bare,) = compared(ROUNDS, partial(ping, CALLS))
        yield figure._replace(note=f"{figure.note}; as many bare processes that answer as many bytes {bare * 1e6:.0f}")
        yield _figure(pool, toys, "spin", 10, lambda exports: exports.spin(TURNS, 7))
        yield _figure(pool, sha256, "SHA-256 of 16 KiB", 10, lambda exports: exports.Hash_Update(BUFFER))
    finally:
        pool.close()


def _figure(pool: EnginePool, source: Source, name: str, count: int, call: Callable[[Any], object]) -> Figure:
    modules = [
        Loader().load(spec.name, partial(pool.connection, spec), source, Fresh(lambda *_: None)) for spec in backends()
    ]
    everywhere = Everywhere([pool.connection(spec) for spec in backends()])
    own = [module.instantiate().exports for module in modules]
    together = module_everywhere(modules, lambda: everywhere).instantiate().exports
    all_time, *times = compared(ROUNDS, *[partial(_calls, count, call, exports) for exports in (together, *own)])
    said = ", ".join(f"{spec.name} {time * 1e6:.0f}" for spec, time in zip(backends(), times, strict=True))
    note = f"all {all_time * 1e6:.0f} us, {said}"
    return at_most(GOAL, f"wasm-all {name}", all_time / max(times), "x slowest", note)


def _calls(count: int, call: Callable[[Any], object], exports: Any) -> float:
    """Seconds of one call, of so many."""
    began = perf_counter()
    for _ in range(count):
        call(exports)
    return (perf_counter() - began) / count
