"""Faults that the three compilers can be made to have, in one run."""

from __future__ import annotations

import sys

import pytest

from pytest_wasmer.engines.registry import COMPILERS
from tests.conftest import needs_wheels
from tests.faults.workbench import start

pytestmark = [needs_wheels, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")]

SUITE = """
    import os
    import signal
    import pytest

    MODULE = '''(module
        (import "env" "host" (func $host (param i32)))
        (memory (export "memory") 1)
        (func (export "die") (param i32) (call $host (local.get 0)))
        (func $deep (export "deep") (param i32) (result i32)
            (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "loop") (loop $again (br $again)))
        (func (export "five") (result i32) i32.const 5))'''

    @pytest.fixture
    def made(wasm_instance, wasm_backend, request):
        from pytest_wasmer import plugin

        session = request.config.stash[plugin.WASM].session
        pid = session.connection(wasm_backend).pid
        return wasm_instance(MODULE, imports={"env": {"host": lambda number: os.kill(pid, number)}})

    @pytest.fixture(autouse=True)
    def _works_again(wasm_instance):
        yield
        assert wasm_instance(MODULE, imports={"env": {"host": print}}).exports.five() == 5

    def test_segv(made): made.exports.die(signal.SIGSEGV)
    def test_kill(made): made.exports.die(signal.SIGKILL)
    def test_deep(made): made.exports.deep(0)
    @pytest.mark.wasm_timeout(0.3)
    def test_loop(made): made.exports.loop()
    def test_4_gib(made):
        assert made.exports.grow(65534) == 1
        assert made.exports.grow(1) == -1
        made.memory.write_u32((65535 << 16) - 4, 7)
"""


def test_real_faults(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    run = start(pytester, "--wasm-backends=all", "--wasm-agree=off")
    run.finish()
    failures = run.failures()
    for name in COMPILERS:
        said = {test: failures.pop(f"test_{test}[{name}]") for test in ("segv", "kill", "deep", "loop", "4_gib")}
        assert f"the {name} engine process was lost: killed by SIGSEGV" in said["segv"]
        assert "Fatal Python error: Segmentation fault" in said["segv"]
        assert f"It was serving: call of 'die' of <WAT text> with ({11})" in said["segv"]
        assert f"the {name} engine process was lost: killed by SIGKILL" in said["kill"]
        assert "Trap: call stack exhausted" in said["deep"]
        assert len(said["deep"]) < 20_000
        assert f"the {name} engine process was lost: ended after 0.3 s, the limit of a call" in said["loop"]
        assert said["4_gib"] == ""
    assert failures == {}
    assert run.is_clean()
