"""Tests whose threads use Wasm: what they see comes in an order that may vary, and is not compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "--wasm-backends=fake-a,fake-b,fake-c"
SUITE = """
    from concurrent.futures import ThreadPoolExecutor
    from fake_engine import function, module

    WASM = module(exports={"f": function("i32 -> i32", [["return", 1]]), "g": function("i32 -> i32", [["return", 2]])})

    def test_f(wasm_module):
        made = wasm_module(WASM)

        def work(name):
            return getattr(made.instantiate().exports, name)(5)

"""
WHY = "    1: on fake-a, several threads called Wasm, in an order that may vary"


@pytest.mark.parametrize(
    ("lines", "counted"),
    [
        (
            [
                "pools = [ThreadPoolExecutor(1) for _ in 'fg']",
                "assert [pool.submit(work, name).result() for pool, name in zip(pools, 'fg')] == [1, 2]",
            ],
            ["wasm: nothing was compared", WHY],
        ),
        (
            ["assert work('f') == 1", "assert ThreadPoolExecutor(1).submit(work, 'g').result() == 2"],
            ["wasm: nothing was compared", WHY],
        ),
        (
            ["with ThreadPoolExecutor(1) as threads:", "    assert [*threads.map(work, 'fg')] == [1, 2]"],
            ["wasm: 1 tests agreed, 0 diverged, 0 not compared"],
        ),
    ],
    ids=["two", "main and another", "another"],
)
@pytest.mark.processes  # in the test process engines belong to one thread
def test_threads(fakes: pytest.Pytester, lines: Sequence[str], counted: Sequence[str]) -> None:
    fakes.makepyfile(SUITE + "\n".join(f"        {line}" for line in lines))
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(counted)
