"""Real miscompiles of Wasmer 2.1, in tests that look at nothing: each turns red as test_x[backends-agree]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
    ],
    ids=[
        "llvm_oob_load_sunk_into_branch",
        "llvm_global_lost",
        "cranelift_v128_select",
        "singlepass_host_float_indirect",
    ],
)
def test_turns_red(pytester: pytest.Pytester, test: str, expected: Sequence[str]) -> None:
    pytester.makepyfile(test)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["FAILED *::test_it[[]backends-agree[]]*"])
    result.stdout.fnmatch_lines(expected)
