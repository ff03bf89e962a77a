"""Real miscompiles of Wasmer 2.1, in tests that look at nothing: each turns red as test_x[backends-agree]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.artifacts.key import cpu_features
from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from collections.abc import Sequence

# LLVM moves the load into the branch that uses it, and its trap with it.
LOAD_SUNK = """
    W = '''(module (memory 1)
      (func (export "pick") (param i32 i32) (result i32) (local i32)
        (local.set 2 (i32.load (local.get 0)))
        (if (result i32) (local.get 1) (then (i32.const 5)) (else (local.get 2)))))'''

    def test_it(wasm_instance):
        wasm_instance(W).exports.pick.map([(0, 1), (70000, 1)])
"""
# LLVM moves the store of a global behind a load that traps.
GLOBAL_LOST = """
    from pytest_wasmer import Trap

    W = '''(module (memory 1) (global (export "g") (mut i32) (i32.const 0))
      (func (export "f") (param i32) (result i32) (local i32)
        (global.set 0 (i32.const 7))
        (local.set 1 (i32.load (local.get 0)))
        (global.set 0 (i32.const 8))
        (local.get 1)))'''

    def test_it(wasm_instance):
        w = wasm_instance(W)
        try:
            w.exports.f(70000)
        except Trap:
            pass
"""
# Cranelift moves 64 of 128 bits (CVE-2022-31104).
V128_SELECT = """
    import pytest

    W = '''(module (memory (export "memory") 1)
      (func (export "f") (param i32)
        (v128.store (i32.const 0)
          (select (v128.load (i32.const 16)) (v128.load (i32.const 32)) (local.get 0)))))'''

    @pytest.mark.wasm_backends(exclude="singlepass", reason="no SIMD")
    def test_it(wasm_instance):
        w = wasm_instance(W)
        w.memory.write(16, bytes(range(1, 33)))
        w.exports.f(1)
"""
# Singlepass passes floats to a host function that is called through a table in integer registers.
FLOAT_INDIRECT = """
    W = '''(module (type $t (func (param f64))) (import "env" "log" (func $log (type $t)))
      (table 1 funcref) (elem (i32.const 0) $log)
      (func (export "f") (call_indirect (type $t) (f64.const 2.5) (i32.const 0))))'''

    def test_it(wasm_instance):
        wasm_instance(W, imports={"env": {"log": lambda number: None}}).exports.f()
"""

# Singlepass reads a float result of a host function from xmm0, where nothing puts it. With few parameters the result is
# mostly still there; with this many never.
FLOAT_RESULT = """
    W = '''(module (import "env" "f" (func $f (param PARAMS) (result f64)))
      (func (export "f") (result f64) (call $f ARGUMENTS)))'''
    W = W.replace("PARAMS", "i32 " * 30).replace("ARGUMENTS", "(i32.const 1) " * 30)

    def test_it(wasm_instance):
        wasm_instance(W, imports={"env": {"f": lambda *numbers: 1.5}}).exports.f()
"""
# Singlepass panics while it compiles calls within calls with many parameters of several types.
NESTED_CALLS = """
    W = '''(module
      (func $g (param f64 f64 f64 i32 i32 i64 i64) (result i64) (i64.const 0))
      (func (export "f") (param f64 f64 f64 i32 i32 i64 i64) (result i64)
        (call $g (local.get 0) (local.get 0) (local.get 0) (local.get 3) (i32.add (i32.const 8) (local.get 4))
          (call $g (f64.const 1) (f64.const 1) (f64.const 2) (local.get 3) (i32.const 1) (local.get 6)
            (call $g (f64.const 1) (f64.const 2) (local.get 2) (local.get 4) (local.get 4) (i64.const 8) (i64.const 5)))
          (local.get 6))))'''

    def test_it(wasm_instance):
        assert wasm_instance(W).exports.f(0, 0, 0, 0, 0, 0, 0) == 0
"""

# LLVM does not end where it may use AVX-512VL: on this very function, whatever the operands are.
NARROW = """
    import pytest

    W = '''(module (memory (export "memory") 1)
      (func (export "f")
        (v128.store (i32.const 0) (i16x8.narrow_i32x4_s
          (i64x2.gt_s (v128.load (i32.const 16)) (v128.load (i32.const 32)))
          (f64x2.ge (v128.load (i32.const 48)) (v128.load (i32.const 64)))))))'''

    @pytest.mark.wasm_timeout(compile=5)
    @pytest.mark.wasm_backends(exclude="singlepass", reason="no SIMD")
    def test_it(wasm_instance):
        wasm_instance(W).exports.f()
"""


@needs_wheels
@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (
            LOAD_SUNK,
            [
                "llvm against singlepass and cranelift:",
                "map of pick over 2 rows (event 3):",
                "    llvm        row 1: 5",
                "    singlepass  row 1: MEMORY_OUT_OF_BOUNDS",
            ],
        ),
        (
            GLOBAL_LOST,
            [
                "llvm against singlepass and cranelift:",
                "After the test, global 'g' of instance 0 differs:",
                "    llvm        0",
                "    singlepass  7",
            ],
        ),
        (
            V128_SELECT,
            ["cranelift against llvm: they disagree", "After the test, memory 'memory' of instance 0 differs:"],
        ),
        (FLOAT_INDIRECT, ["singlepass against cranelift and llvm:", "*    cranelift   host call env.log(2.5)"]),
        (FLOAT_RESULT, ["singlepass against cranelift and llvm:", "call f() (event 5):", "    cranelift   1.5 *"]),
    ],
    ids=[
        "llvm_oob_load_sunk_into_branch",
        "llvm_global_lost",
        "cranelift_v128_select",
        "singlepass_host_float_indirect",
        "singlepass_host_float_result",
    ],
)
def test_turns_red(pytester: pytest.Pytester, test: str, expected: Sequence[str]) -> None:
    pytester.makepyfile(test)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["FAILED *::test_it[[]backends-agree[]]*"])
    result.stdout.fnmatch_lines(expected)


@needs_wheels
def test_what_one_compiler_cannot_compile_fails_there(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(NESTED_CALLS)
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
    pytester.makepyfile(NARROW)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(passed=1, skipped=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*TimedOut: *: ended after 5 s, the limit of a compile (marker wasm_timeout)", "    1: did not pass on llvm"]
    )
