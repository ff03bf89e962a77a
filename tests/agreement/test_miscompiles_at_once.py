"""Real miscompiles of Wasmer 2.1 by `wasm_all`: red at the very call, with the right backend named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """
    import pytest
    from pytest_wasmer import Divergence, Trap
"""
LOAD_SUNK = """
    W = '''(module (memory 1)
      (func (export "pick") (param i32 i32) (result i32) (local i32)
        (local.set 2 (i32.load (local.get 0)))
        (if (result i32) (local.get 1) (then (i32.const 5)) (else (local.get 2)))))'''

    def test_it(wasm_all):
        wasm_all(W).exports.pick(70000, 1)
"""
GLOBAL_LOST = """
    W = '''(module (memory 1) (global (export "g") (mut i32) (i32.const 0))
      (func (export "f") (param i32) (result i32) (local i32)
        (global.set 0 (i32.const 7))
        (local.set 1 (i32.load (local.get 0)))
        (global.set 0 (i32.const 8))
        (local.get 1)))'''

    def test_it(wasm_all):
        everywhere = wasm_all(W)
        with pytest.raises(Trap):
            everywhere.exports.f(70000)
        assert everywhere.exports.g.value == 7
"""
V128_SELECT = """
    W = '''(module (memory (export "memory") 1)
      (func (export "f") (param i32)
        (v128.store (i32.const 0)
          (select (v128.load (i32.const 16)) (v128.load (i32.const 32)) (local.get 0)))))'''

    @pytest.mark.wasm_backends(exclude="singlepass", reason="no SIMD")
    def test_it(wasm_all):
        everywhere = wasm_all(W)
        everywhere.memory.write(16, bytes(range(1, 33)))
        everywhere.exports.f(1)
        everywhere.memory.read(0, 16)
"""
FLOAT_INDIRECT = """
    W = '''(module (type $t (func (param f64))) (import "env" "log" (func $log (type $t)))
      (table 1 funcref) (elem (i32.const 0) $log)
      (func (export "f") (call_indirect (type $t) (f64.const 2.5) (i32.const 0))))'''

    def test_it(wasm_all):
        log = []
        try:
            wasm_all(W, imports={"env": {"log": log.append}}).exports.f()
        finally:
            assert log == []
"""


@needs_wheels
@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (
            LOAD_SUNK,
            [
                "E *Divergence: llvm against singlepass and cranelift:",
                "E *call of 'pick' of <WAT text> with (70000, 1):",
                "E * llvm        5 *",
                "E * singlepass  trap MEMORY_OUT_OF_BOUNDS",
                "E * cranelift   trap MEMORY_OUT_OF_BOUNDS",
            ],
        ),
        (
            GLOBAL_LOST,
            [
                "E *Divergence: llvm against singlepass and cranelift:",
                "E *value of 'g' of <WAT text>:",
                "E * llvm        0  0x00000000  *",
                "E * singlepass  7  0x00000007  *",
            ],
        ),
        (
            V128_SELECT,
            [
                "> *everywhere.memory.read(0, 16)",
                "E *Divergence: cranelift against llvm: they disagree",
                "E *read of 'memory' of <WAT text>:",
                "E *The first byte that differs is at 0x?; from 0x0:",
                "E * llvm       01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10",
            ],
        ),
        (
            FLOAT_INDIRECT,
            [
                "E *Divergence: singlepass against cranelift and llvm:",
                "E *call of 'f' of <WAT text>:",
                "E * singlepass  host call env.log(*)",
                "E * cranelift   host call env.log(2.5)",
            ],
        ),
    ],
    ids=[
        "llvm_oob_load_sunk_into_branch",
        "llvm_global_lost",
        "cranelift_v128_select",
        "singlepass_host_float_indirect",
    ],
)
def test_turns_red(pytester: pytest.Pytester, test: str, expected: Sequence[str]) -> None:
    pytester.makepyfile(HEAD + test)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(expected)
    result.stdout.fnmatch_lines(["test_turns_red.py:*: Divergence", "FAILED *::test_it - *Divergence*"])
