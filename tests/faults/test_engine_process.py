"""Whatever an engine process does is one failed test with a reason; the fake engine does all of it."""

from __future__ import annotations

import json
import sys

import pytest

from tests.faults.matrix import FAULTS
from tests.faults.workbench import Run, start

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")

SUITE = """
    import json
    import pytest
    from fake_engine import module, function

    FAULTS = json.loads({faults!r})

    def wasm(name):
        steps = [["print", "last words of " + name + "\\n", 2], *FAULTS[name]]
        exports = {{"f": function("i32 ->", {{"fake-b": steps, "*": []}}), "add": function("i32 i32 -> i32", ["sum"])}}
        return module(name=name, exports=exports)

    def cases():
        for name in FAULTS:
            late = [pytest.mark.wasm_timeout(0.3)] if name == "an endless loop" else []
            yield pytest.param(name, True, id=name, marks=late)
            yield pytest.param(name, False, id="after " + name)

    @pytest.mark.wasm_backends("fake-a", "fake-b")
    @pytest.mark.parametrize("name, cause", cases())
    def test_it(wasm_instance, name, cause):
        made = wasm_instance(wasm(name))
        if cause:
            made.exports.f(7)
        assert made.exports.add(1, 2) == 3

    @pytest.mark.wasm_backends("fake-dead")
    def test_import(wasm_instance):
        wasm_instance(wasm("an abort"))
"""
ALL = "--wasm-backends=fake-a,fake-b,fake-dead"
DEAD = "test_import[fake-dead]"


def suite(pytester: pytest.Pytester) -> None:
    steps = {name: fault.steps for name, fault in FAULTS.items()}
    pytester.makepyfile(SUITE.format(faults=json.dumps(steps)))


def check(run: Run) -> None:
    """Each failure in JUnit's file says what happened, and nothing else failed."""
    said = {name: text for name, text in run.failures().items() if text}
    assert set(said) == {f"test_it[fake-b-{name}]" for name in FAULTS} | {DEAD}
    for name, fault in FAULTS.items():
        text = said[f"test_it[fake-b-{name}]"]
        lines = [line.removeprefix("E").strip() for line in text.splitlines()]
        assert any(line.endswith(fault.said) and "fake-b engine" in line for line in lines), text
        if not fault.survives:
            assert "It was serving: call of 'f' of <bytes> with (7)" in lines, text
            assert f"last words of {name}" in lines, text
        if fault.trace:
            assert "in _do_" in text, text
    assert "was lost: killed by SIGKILL" in said[DEAD]
    assert "It was serving: nothing yet: it was starting" in said[DEAD]


def test_each_fault_is_one_failed_test(pytester: pytest.Pytester) -> None:
    suite(pytester)
    run = start(pytester, ALL)
    lines = run.finish()
    assert run.process.returncode == 1
    check(run)
    assert run.is_clean()
    # Modules are compiled once, and come back from the store where a process was lost.
    losses = sum(not fault.survives for fault in FAULTS.values())
    (row,) = [line.split() for line in lines if line.startswith("fake-b ")]
    assert [int(cell) for cell in row[1:6]] == [len(FAULTS), len(FAULTS), 1, len(FAULTS), losses]
    assert f" {len(FAULTS) + 1} failed, {3 * len(FAULTS)} passed" in lines[-1]


def test_with_xdist_and_with_x(pytester: pytest.Pytester) -> None:
    suite(pytester)
    run = start(pytester, ALL, "-p", "xdist", "-n", "2")
    run.finish()
    check(run)
    assert run.is_clean()
    run = start(pytester, ALL, "-x")
    assert f" 1 failed, {2 * len(FAULTS)} passed" in run.finish()[-1]
    assert run.is_clean()
