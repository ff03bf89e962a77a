"""What a call of all backends at once costs, against that of the slowest of them alone."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from figures.engines import backends, cache_directory
from figures.figure import Figure, at_most, compared
from pytest_wasmer.agreement.at_once.everywhere import Everywhere, module_everywhere
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 40
GOAL = 1.5
# A call of `spin` with each takes about a millisecond, on the compiler that is slowest at it.
TURNS = 400_000
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
        modules = [
            Loader().load(
                spec.name, partial(pool.connection, spec), Source("all.wat", None, WAT), Fresh(lambda *_: None)
            )
            for spec in backends()
        ]
        everywhere = Everywhere([pool.connection(spec) for spec in backends()])
        exports = [module.instantiate().exports for module in modules]
        together = module_everywhere(modules, lambda: everywhere).instantiate().exports
        for name, first, count in (("add", 3, 200), ("spin", TURNS, 10)):
            all_time, *times = compared(
                ROUNDS,
                partial(_calls, count, together[name], first),
                *[partial(_calls, count, own[name], first) for own in exports],
            )
            slowest = max(times)
            said = ", ".join(f"{spec.name} {time * 1e6:.0f}" for spec, time in zip(backends(), times, strict=True))
            note = f"all {all_time * 1e6:.0f} us, {said}"
            yield at_most(GOAL, f"wasm-all {name}", all_time / slowest, "x slowest", note)
    finally:
        pool.close()


def _calls(count: int, function: Callable[[int, int], int], first: int) -> float:
    """Seconds of one call, of so many."""
    began = perf_counter()
    for _ in range(count):
        function(first, 4)
    return (perf_counter() - began) / count
