"""Real miscompiles of Wasmer 2.1, in tests that look at nothing: each turns red as test_x[backends-agree]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.artifacts.key import cpu_features
from tests.agreement.miscompiles import (
    FLOAT_INDIRECT,
    FLOAT_RESULT,
    GLOBAL_LOST,
    LOAD_SUNK,
    NARROW,
    NESTED_CALLS,
    V128_SELECT,
    with_module,
)
from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from collections.abc import Sequence

READ_OUT_OF_BOUNDS = """
def test_it(wasm_instance):
    wasm_instance(W).exports.pick.map([(0, 1), (70000, 1)])
"""
TRAP_AFTER_A_STORE = """
from pytest_wasmer import Trap

def test_it(wasm_instance):
    w = wasm_instance(W)
    try:
        w.exports.f(70000)
    except Trap:
        pass
"""
SELECT = """
import pytest

@pytest.mark.wasm_backends(exclude="singlepass", reason="no SIMD")
def test_it(wasm_instance):
    w = wasm_instance(W)
    w.memory.write(16, bytes(range(1, 33)))
    w.exports.f(1)
"""
LOG = """
def test_it(wasm_instance):
    wasm_instance(W, imports={"env": {"log": lambda number: None}}).exports.f()
"""
GIVE_A_FLOAT = """
def test_it(wasm_instance):
    wasm_instance(W, imports={"env": {"f": lambda *numbers: 1.5}}).exports.f()
"""
CALL = """
def test_it(wasm_instance):
    assert wasm_instance(W).exports.f(0, 0, 0, 0, 0, 0, 0) == 0
"""
WAIT_FOR_A_COMPILE = """
import pytest

@pytest.mark.wasm_timeout(compile=5)
@pytest.mark.wasm_backends(exclude="singlepass", reason="no SIMD")
def test_it(wasm_instance):
    wasm_instance(W).exports.f()
"""


@needs_wheels
@pytest.mark.parametrize(
    ("wat", "test", "expected"),
    [
        (
            LOAD_SUNK,
            READ_OUT_OF_BOUNDS,
            [
                "llvm against singlepass and cranelift:",
                "map of pick over 2 rows (event 3):",
                "    llvm        row 1: 5",
                "    singlepass  row 1: MEMORY_OUT_OF_BOUNDS",
            ],
        ),
        (
            GLOBAL_LOST,
            TRAP_AFTER_A_STORE,
            [
                "llvm against singlepass and cranelift:",
                "After the test, global 'g' of instance 0 differs:",
                "    llvm        0",
                "    singlepass  7",
            ],
        ),
        (
            V128_SELECT,
            SELECT,
            ["cranelift against llvm: they disagree", "After the test, memory 'memory' of instance 0 differs:"],
        ),
        (FLOAT_INDIRECT, LOG, ["singlepass against cranelift and llvm:", "*    cranelift   host call env.log(2.5)"]),
        (
            FLOAT_RESULT,
            GIVE_A_FLOAT,
            ["singlepass against cranelift and llvm:", "call f() (event 5):", "    cranelift   1.5 *"],
        ),
    ],
    ids=[
        "llvm_oob_load_sunk_into_branch",
        "llvm_global_lost",
        "cranelift_v128_select",
        "singlepass_host_float_indirect",
        "singlepass_host_float_result",
    ],
)
def test_turns_red(pytester: pytest.Pytester, wat: str, test: str, expected: Sequence[str]) -> None:
    pytester.makepyfile(with_module(wat, test))
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["FAILED *::test_it[[]backends-agree[]]*"])
    result.stdout.fnmatch_lines(expected)


@needs_wheels
def test_what_one_compiler_cannot_compile_fails_there(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(with_module(NESTED_CALLS, CALL))
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*singlepass panicked while compiling *: assertion failed: !self.used_gprs.contains*",
            "    1: did not pass on singlepass",
        ]
    )


@needs_wheels
@pytest.mark.skipif(
    "avx512vl" not in cpu_features(), reason="LLVM hangs where the processor has AVX-512VL, which this one lacks"
)
def test_a_compile_that_does_not_end_fails_there(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(with_module(NARROW, WAIT_FOR_A_COMPILE))
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(passed=1, skipped=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*TimedOut: *: ended after 5 s, the limit of a compile (marker wasm_timeout)", "    1: did not pass on llvm"]
    )
