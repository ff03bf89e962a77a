"""Real miscompiles of Wasmer 2.1 by `wasm_all`: red at the very call, with the right backend named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agreement.miscompiles import (
    FLOAT_INDIRECT,
    FLOAT_RESULT,
    GLOBAL_LOST,
    LOAD_SUNK,
    NESTED_CALLS,
    V128_SELECT,
    with_module,
)
from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """
import pytest
from pytest_wasmer import Trap
"""
READ_OUT_OF_BOUNDS = """
def test_it(wasm_all):
    wasm_all(W).exports.pick(70000, 1)
"""
TRAP_AFTER_A_STORE = """
def test_it(wasm_all):
    everywhere = wasm_all(W)
    with pytest.raises(Trap):
        everywhere.exports.f(70000)
    assert everywhere.exports.g.value == 7
"""
SELECT = """
@pytest.mark.wasm_backends(exclude="singlepass", reason="no SIMD")
def test_it(wasm_all):
    everywhere = wasm_all(W)
    everywhere.memory.write(16, bytes(range(1, 33)))
    everywhere.exports.f(1)
    everywhere.memory.read(0, 16)
"""
GIVE_A_FLOAT = """
def test_it(wasm_all):
    wasm_all(W, imports={"env": {"f": lambda *numbers: 1.5}}).exports.f()
"""
LOG = """
def test_it(wasm_all):
    log = []
    try:
        wasm_all(W, imports={"env": {"log": log.append}}).exports.f()
    finally:
        assert log == []
"""


@needs_wheels
@pytest.mark.parametrize(
    ("wat", "test", "expected"),
    [
        (
            LOAD_SUNK,
            READ_OUT_OF_BOUNDS,
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
            TRAP_AFTER_A_STORE,
            [
                "E *Divergence: llvm against singlepass and cranelift:",
                "E *value of 'g' of <WAT text>:",
                "E * llvm        0  0x00000000  *",
                "E * singlepass  7  0x00000007  *",
            ],
        ),
        (
            V128_SELECT,
            SELECT,
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
            LOG,
            [
                "E *Divergence: singlepass against cranelift and llvm:",
                "E *call of 'f' of <WAT text>:",
                "E * singlepass  host call env.log(*)",
                "E * cranelift   host call env.log(2.5)",
            ],
        ),
        (
            FLOAT_RESULT,
            GIVE_A_FLOAT,
            [
                "E *Divergence: singlepass against cranelift and llvm:",
                "E *call of 'f' of <WAT text>:",
                "E * cranelift   1.5 *",
                "E * llvm        1.5 *",
            ],
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
    pytester.makepyfile(with_module(wat, HEAD + test))
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(expected)
    result.stdout.fnmatch_lines(["test_turns_red.py:*: Divergence", "FAILED *::test_it - *Divergence*"])


@needs_wheels
def test_what_one_compiler_cannot_compile(pytester: pytest.Pytester) -> None:
    """Said of the test's own line."""
    pytester.makepyfile(with_module(NESTED_CALLS, "def test_it(wasm_all):\n    wasm_all(W)\n"))
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       wasm_all(W)",
            "E *CompileError: singlepass panicked while compiling <WAT text>: assertion failed: *",
            "test_what_one_compiler_cannot_compile.py:*: CompileError",
        ]
    )
