"""--wasm-timeout, PYTEST_WASMER_TIMEOUT, wasm_timeout, and the marker: a call that does not end is a failed test."""

from __future__ import annotations

import sys

import pytest

from pytest_wasmer import limits
from pytest_wasmer.runtime.watchdog import Limit, Limits
from tests.conftest import needs_wheels
from tests.integration.test_markers import outcomes

pytestmark = pytest.mark.processes

ONE = "--wasm-backends=fake-a"
TWO = "--wasm-backends=fake-a,fake-b"
MODULE = """
    import time
    import pytest
    from fake_engine import module, function
    from pytest_wasmer import TimedOut, Trap

    HANG = module(exports={"hang": function("i32 ->", {"fake-b": ["hang"], "*": [["trap", "UNREACHABLE"]]})})
    HOST = module(
        imports=[("env", "h", ["func", ["i32"], ["i32"]])],
        exports={
            "f": function("i32 -> i32", ["host"]),
            "hang": function("i32 -> i32", {"fake-b": ["hang"], "*": ["sum"]}),
        },
    )
    START = module(start=["hang"])
    SLOW = module(seconds=60)
"""
HANGS = (
    MODULE
    + """
    def test_hangs(wasm_instance):
        wasm_instance(HANG).exports.hang(7)
"""
)


def test_the_whole_message(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(HANGS)
    result = fakes.runpytest("--wasm-backends=fake-b", "--wasm-timeout=0.1")
    result.assert_outcomes(failed=1)
    assert [line[4:].strip() for line in result.stdout.lines if line.startswith("E   ")] == [
        "pytest_wasmer.runtime.errors.TimedOut: the fake-b engine process was lost: ended after 0.1 s, the limit of a "
        "call (--wasm-timeout)",
        "It was serving: call of 'hang' of <bytes> with (7)",
        "The time in host functions does not count. If it needs longer: @pytest.mark.wasm_timeout(0.2), or "
        "--wasm-timeout=0.2",
        "The next test gets a new process. This backend alone: pytest --wasm-backends=fake-b",
    ]
    result.stdout.fnmatch_lines(["wasm: *, timeout 0.1 (from --wasm-timeout), *"])


def test_precedence_is_marker_command_line_environment_ini(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit(*arguments: str) -> str:
        lines = fakes.runpytest("--wasm-backends=fake-b", *arguments).stdout.lines
        (line,) = [line for line in lines if line.startswith("E ") and "the limit of" in line]
        return line.partition("ended after ")[2]

    fakes.makepyfile(HANGS)
    fakes.makeini("[pytest]\nwasm_timeout = 0.05 s")
    assert limit() == "0.05 s, the limit of a call (wasm_timeout (from tox.ini))"
    monkeypatch.setenv("PYTEST_WASMER_TIMEOUT", "0.06")
    assert limit() == "0.06 s, the limit of a call (PYTEST_WASMER_TIMEOUT)"
    assert limit("--wasm-timeout=0.07") == "0.07 s, the limit of a call (--wasm-timeout)"
    fakes.makepyfile(f"{HANGS}\n    pytestmark = [pytest.mark.wasm_timeout(0.08), pytest.mark.wasm_timeout(compile=9)]")
    assert limit("--wasm-timeout=60") == "0.08 s, the limit of a call (marker wasm_timeout)"


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "1 min"])
def test_what_is_no_number_is_a_usage_error(fakes: pytest.Pytester, value: str) -> None:
    result = fakes.runpytest(f"--wasm-timeout={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == f"ERROR: --wasm-timeout: {value!r} is not a number of seconds."


CASES = (
    MODULE
    + """
    pytestmark = pytest.mark.wasm_timeout(0.1)

    def nested(wasm_instance, host):
        made = wasm_instance(HOST, imports={"env": {"h": lambda value: host(made, value)}})
        return made.exports.f(1)

    def test_nested(wasm_instance):
        nested(wasm_instance, lambda made, value: made.exports.hang(value))

    def test_map(wasm_instance):
        wasm_instance(HANG).exports.hang.map([(1,), (2,)])

    @pytest.mark.wasm_backends("fake-b")
    def test_start(wasm_instance):
        wasm_instance(START)

    @pytest.mark.wasm_timeout(compile=0.2)
    @pytest.mark.wasm_backends("fake-b")
    def test_compile(wasm_module):
        wasm_module(SLOW)

    @pytest.mark.wasm_xfail(**{"fake-a": "traps", "fake-b": "hides no time-out"})
    def test_hidden(wasm_instance):
        wasm_instance(HANG).exports.hang(0)

    def test_swallowed(wasm_instance):
        with pytest.raises((Trap, TimedOut)):
            wasm_instance(HANG).exports.hang(0)

    @pytest.mark.wasm_backends("fake-b")
    def test_is_no_trap(wasm_instance):
        with pytest.raises(Trap):
            wasm_instance(HANG).exports.hang(0)

    def test_a_slow_host_function(wasm_instance):
        assert nested(wasm_instance, lambda made, value: time.sleep(0.4) or 5) == 5

    def test_a_busy_host_function(wasm_instance):
        def host(made, value):
            end = time.monotonic() + 0.004
            while time.monotonic() < end:
                pass
            return value
        made = wasm_instance(HOST, imports={"env": {"h": lambda value: host(made, value)}})
        for _ in range(3):
            made.exports.f.map([(number,) for number in range(60)])

    @pytest.mark.wasm_timeout(0)
    def test_any_time(wasm_instance):
        wasm_instance(module(exports={"f": function("->", [["wait", 0.3]])})).exports.f()

    def test_a_slow_compile_and_many_calls(wasm_instance):
        made = wasm_instance(module(exports={"f": function("->", [["wait", 0.01]])}, seconds=0.3))
        for _ in range(30):
            made.exports.f()
"""
)


def test_what_it_limits(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(CASES)
    result = fakes.runpytest(TWO, "-v")
    found = outcomes(result)
    late = ["nested", "map", "start", "compile", "hidden", "swallowed", "is_no_trap"]
    assert [name for name, outcome in found.items() if outcome == "FAILED"] == [f"test_{name}[fake-b]" for name in late]
    assert found["test_hidden[fake-a]"] == "XFAIL"
    said = [line for line in result.stdout.lines if "the limit of" in line and line.startswith(("E ", "TimedOut"))]
    assert len(said) == len(late)
    assert sum("0.2 s, the limit of a compile (marker wasm_timeout)" in line for line in said) == 1
    # A time-out is no disagreement.
    result.stdout.fnmatch_lines(["wasm: * tests agreed, 0 diverged, * not compared"])
    result.stdout.fnmatch_lines(["E *If it needs longer: @pytest.mark.wasm_timeout(compile=0.4)"])


def test_compiles_have_a_limit_by_default(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits(Limit(0), Limit(600), Limit(0)) == limits.DEFAULT
    monkeypatch.setattr(limits, "DEFAULT", Limits(compile=Limit(0.2)))
    fakes.makepyfile(f"{MODULE}\n    def test_slow(wasm_module):\n        wasm_module(SLOW)")
    result = fakes.runpytest(ONE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *TimedOut: *: ended after 0.2 s, the limit of a compile (default)", "E *It was serving: compile of <bytes>"]
    )


def test_all_at_once(fakes: pytest.Pytester) -> None:
    """One that hangs ends alone; those that hang together end together; who waits for another is not late."""
    fakes.makepyfile(
        MODULE
        + """
    pytestmark = pytest.mark.wasm_timeout(0.3)
    BOTH = module(exports={"hang": function("->", ["hang"])})

    def test_one(wasm_all):
        wasm_all(HANG).exports.hang(0)

    def test_both(wasm_all):
        began = time.monotonic()
        try:
            wasm_all(BOTH).exports.hang()
        finally:
            assert time.monotonic() - began < 0.55

    def test_a_slow_host_function(wasm_all):
        made = wasm_all(HOST, imports={"env": {"h": lambda value: time.sleep(0.5) or value}})
        assert made.exports.f(5) == 5

    def test_nested(wasm_all):
        made = wasm_all(HOST, imports={"env": {"h": lambda value: made.exports.hang(value)}})
        made.exports.f(1)
    """
    )
    result = fakes.runpytest(TWO, "-v")
    assert outcomes(result) == {
        "test_one": "FAILED",
        "test_both": "FAILED",
        "test_a_slow_host_function": "PASSED",
        "test_nested": "FAILED",
    }
    lost = [line for line in result.stdout.lines if line.startswith("E ") and "TimedOut: the fake" in line]
    assert [line.partition("the ")[2].partition(" engine")[0] for line in lost] == ["fake-b", "fake-a", "fake-b"]


def test_with_a_breakpoint_in_a_host_function(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        MODULE
        + """
    def test_it(wasm_instance):
        def host(value):
            breakpoint()
            return value
        assert wasm_instance(HOST, imports={"env": {"h": host}}).exports.f(5) == 5
    """
    )
    arguments = ("-s", "--wasm-backends=fake-a", "--wasm-timeout=0.1")
    result = fakes.run(sys.executable, "-m", "pytest", *arguments, stdin=b"time.sleep(0.5)\nc\n")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*(Pdb) *"])


@needs_wheels
def test_endless_loops_on_each_compiler(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_loops(wasm_instance):
            wasm_instance('(module (func (export "f") (loop br 0)))').exports.f()

        def test_start(wasm_instance):
            wasm_instance("(module (func $f (loop br 0)) (start $f))")

        def test_after(wasm_instance):
            assert wasm_instance('(module (func (export "f") (result i32) i32.const 5))').exports.f() == 5
        """
    )
    result = pytester.runpytest_subprocess("--wasm-backends=all", "--wasm-timeout=0.2", timeout=60)
    result.assert_outcomes(failed=6, passed=3)
    assert result.stdout.str().count("ended after 0.2 s, the limit of a call (--wasm-timeout)") >= 6
