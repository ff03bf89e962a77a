"""A lost engine process is one failed test; the next ones run."""

from __future__ import annotations

import pytest

from tests.conftest import needs_wheels
from tests.integration.test_markers import outcomes

pytestmark = pytest.mark.processes

TWO = "--wasm-backends=fake-a,fake-b"
MODULE = """
    import pytest
    from fake_engine import module, function, memory

    WASM = module(exports={
        "add": function("i32 i32 -> i32", ["sum"]),
        "die": function("i32 ->", {"fake-b": [["print", "last words\\n", 2], ["signal", "SIGABRT"]], "*": []}),
        "memory": memory(1),
    })
"""


def test_only_the_crashing_test_fails_and_says_all(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    def test_before(wasm_instance):
        assert wasm_instance(WASM).exports.add(1, 2) == 3

    def test_dies(wasm_instance):
        wasm_instance(WASM).exports.die(7)

    def test_after(wasm_instance):
        assert wasm_instance(WASM).exports.add(1, 2) == 3
    """
    )
    result = fakes.runpytest(TWO)
    result.assert_outcomes(passed=5, failed=1)
    lines = [line[4:] for line in result.stdout.lines if line.startswith("E   ")]
    assert lines[0].strip() == (
        "pytest_wasmer.runtime.errors.EngineLost: the fake-b engine process was lost: killed by SIGABRT"
    )
    assert "    It was serving: call of 'die' of <bytes> with (7)" in lines
    assert "        last words" in lines
    assert "        Fatal Python error: Aborted" in lines
    assert lines[-1] == ("    The next test gets a new process. This backend alone: pytest --wasm-backends=fake-b")


def test_a_death_after_the_last_call_is_that_test_s(fakes: pytest.Pytester) -> None:
    """Whatever killed it, and although the test asked for nothing more."""
    fakes.makepyfile(
        test_it=MODULE
        + """
    import os
    import time

    def test_dies(wasm_instance, request):
        from pytest_wasmer import plugin

        session = request.config.stash[plugin.WASM].session
        assert wasm_instance(WASM).exports.add(1, 2) == 3
        pid = session.connection("fake-a").pid
        os.kill(pid, 9)
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.01)

    def test_after(wasm_instance):
        assert wasm_instance(WASM).exports.add(1, 2) == 3
    """
    )
    result = fakes.runpytest("--wasm-backends=fake-a", "-v")
    assert outcomes(result) == {"test_dies[fake-a]": "FAILED", "test_after[fake-a]": "PASSED"}
    result.assert_outcomes(passed=1, failed=1)


def test_fixtures_of_wider_scope_are_made_anew(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.fixture(scope="module")
    def instance(wasm_instance):
        made = wasm_instance(WASM)
        made.memory.write(0, b"fresh")
        return made

    @pytest.fixture(scope="session")
    def wrapper(wasm_module):
        return [wasm_module(WASM).instantiate()]

    @pytest.fixture(scope="class")
    def on_top(instance, wrapper):
        return instance, wrapper[0]

    class TestIt:
        def test_1(self, on_top):
            assert on_top[0].exports.add(1, 2) == 3

        def test_2(self, on_top):
            on_top[1].exports.die(0)

        def test_3(self, on_top):
            assert on_top[0].memory.read(0, 5) == b"fresh"
            assert on_top[1].exports.add(1, 2) == 3

    def test_4(instance):
        assert instance.exports.add(1, 2) == 3
    """
    )
    result = fakes.runpytest(TWO, "-v")
    found = outcomes(result)
    assert found.pop("TestIt::test_2[fake-b]") == "FAILED"
    assert set(found.values()) == {"PASSED"}
    assert len(found) == 7


def test_a_loss_in_module_scoped_setup_costs_one_test(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    DEATHS = []

    @pytest.fixture(scope="module")
    def instance(wasm_instance, wasm_backend):
        made = wasm_instance(WASM)
        if not DEATHS and wasm_backend == "fake-b":
            DEATHS.append(1)
            made.exports.die(0)
        return made

    def test_1(instance): pass
    def test_2(instance): assert instance.exports.add(1, 1) == 2
    """
    )
    fakes.runpytest(TWO).assert_outcomes(passed=3, errors=1)


def test_a_test_that_catches_everything_fails_all_the_same(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    def test_swallows(wasm_instance):
        with pytest.raises(Exception):
            wasm_instance(WASM).exports.die(0)
        if wasm_instance(WASM).exports.add(1, 2) != 3:
            pytest.skip("no")

    def test_skips(wasm_instance):
        try:
            wasm_instance(WASM).exports.die(0)
        except Exception:
            pytest.skip("cannot run")
    """
    )
    result = fakes.runpytest("--wasm-backends=fake-b")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["EngineLost: the fake-b engine process was lost: killed by SIGABRT"])
    result.stdout.fnmatch_lines(["The test went on without noticing."])


def test_native_output_is_a_section_of_the_failing_test(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        from fake_engine import module, function

        WASM = module(exports={"speak": function("->", [["print", "to stdout\\n", 1], ["print", "to stderr\\n", 2]])})

        def test_quiet(wasm_instance):
            wasm_instance(WASM).exports.speak()

        def test_loud(wasm_instance):
            wasm_instance(WASM).exports.speak()
            assert False
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Captured fake-a engine output call*", "to stdout", "to stderr"], consecutive=True)
    assert result.stdout.str().count("to stdout") == 1


DYING = (
    MODULE
    + """
    @pytest.mark.parametrize("number", range(6))
    def test_it(wasm_instance, number):
        instance = wasm_instance(WASM)
        if number == 2:
            instance.exports.die(number)
        assert instance.exports.add(number, 1) == number + 1
    """
)


def test_under_xdist(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_it=DYING)
    result = fakes.runpytest(TWO, "-p", "xdist", "-n", "2")
    result.assert_outcomes(passed=11, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_it[[]fake-b-2[]]*"])


def test_with_x_and_junit(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_it=DYING)
    result = fakes.runpytest(TWO, "-x", "--junit-xml=out.xml")
    result.assert_outcomes(passed=8, failed=1)
    report = (fakes.path / "out.xml").read_text()
    assert report.count("<failure") == 1
    assert "the fake-b engine process was lost: killed by SIGABRT" in report


def test_use_of_a_dead_instance_says_so(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    HELD = []

    def test_1(wasm_instance):
        HELD.append(wasm_instance(WASM))
        HELD[0].exports.die(0)

    def test_2(wasm_backend):
        HELD[0].exports.add(1, 2)
    """
    )
    result = fakes.runpytest("--wasm-backends=fake-b")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E *InstanceLost: call of 'add' of <bytes> is gone: its fake-b engine process was lost earlier "
            "(killed by SIGABRT)",
            "E *Make it in the test, or in a fixture that uses wasm_instance, wasm_module or wasm_all: "
            "those are made anew.",
        ]
    )


@needs_wheels
@pytest.mark.parametrize("method", ["signal", "thread"])
def test_pytest_timeout_stops_a_looping_call(pytester: pytest.Pytester, method: str) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.timeout(1)
        def test_loops(wasm_instance):
            wasm_instance("(module (func (export \\"f\\") (loop br 0)))").exports.f()

        def test_after(wasm_instance):
            wasm_instance("(module)")
        """
    )
    result = pytester.runpytest_subprocess(
        "--wasm-backends=all", "-p", "timeout", f"--timeout-method={method}", "-v", timeout=60
    )
    if method == "thread":  # ends the whole run, by design of pytest-timeout
        assert result.ret == 1
        assert "+ Timeout +" in result.stdout.str() + result.stderr.str()
        return
    result.assert_outcomes(failed=3, passed=3)
    result.stdout.fnmatch_lines(["E *Failed: Timeout*"])


HANGING = """
    import signal
    import pytest
    from fake_engine import module, function

    HANG = module(exports={"hang": function("->", ["hang"])})

    @pytest.mark.wasm_xfail(**{"fake-a": "#1"})
    def test_hangs(wasm_instance):
        hang = wasm_instance(HANG).exports.hang
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        hang()

    def test_after(wasm_instance):
        wasm_instance(HANG)
"""


def test_an_expected_failure_hides_no_timeout_that_cost_the_process(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=HANGING
        + """
    @pytest.fixture(autouse=True)
    def _as_pytest_timeout_does():
        before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("Timeout (>0.3s) from pytest-timeout."))
        yield
        signal.signal(signal.SIGALRM, before)
    """
    )
    result = fakes.runpytest("--wasm-backends=fake-a")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *Failed: Timeout*", "FAILED test_it.py::test_hangs[[]fake-a[]] - Failed: Timeout*"])


def test_an_interrupt_ends_the_session_all_the_same(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=HANGING
        + """
    @pytest.fixture(autouse=True)
    def _as_ctrl_c_does():
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        yield
        signal.signal(signal.SIGALRM, before)
    """
    )
    result = fakes.runpytest_subprocess("--wasm-backends=fake-a")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])


def test_three_times_in_a_row(fakes: pytest.Pytester) -> None:
    """The backend is not restarted endlessly; other modules are, and one that works in between begins a new row."""
    fakes.makepyfile(
        test_it=MODULE
        + """
    OTHER = module(exports={"add": function("i32 i32 -> i32", ["sum"])})
    BAD_START = module(start={"fake-b": [["exit", 3]]})

    @pytest.mark.parametrize("number", range(2))
    def test_twice(wasm_instance, number):
        wasm_instance(WASM).exports.die(number)

    def test_works(wasm_instance):
        wasm_instance(WASM).exports.add(1, 2)

    @pytest.mark.parametrize("number", range(4))
    def test_again(wasm_instance, number):
        wasm_instance(OTHER).exports.add(1, 2)
        wasm_instance(WASM).exports.die(number)

    @pytest.mark.wasm_xfail(**{"fake-b": "hides nothing"})
    def test_hidden(wasm_module):
        wasm_module(WASM).instantiate()

    def test_at_once(wasm_all):
        wasm_all(WASM)

    @pytest.mark.parametrize("number", range(4))
    def test_start(wasm_instance, number):
        wasm_instance(BAD_START)

    def test_other(wasm_instance):
        wasm_instance(OTHER)
    """
    )
    result = fakes.runpytest("--wasm-backends=fake-a,fake-b", "-v")
    found = {name: outcome for name, outcome in outcomes(result).items() if "fake-a" not in name}
    passed = [name for name, outcome in found.items() if outcome == "PASSED"]
    assert passed == ["test_works[fake-b]", "test_other[fake-b]"]
    said = [line.partition(": ")[2] for line in result.stdout.lines if line.startswith("E ") and "GivenUp" in line]
    given_up = "is not tried on fake-b again: it has cost 3 engine processes in a row"
    assert said == [f"<bytes> {given_up}"] * 4
    assert result.stdout.str().count("was lost: killed by SIGABRT") == 2 + 3 + 3
    result.stdout.fnmatch_lines(
        [
            "E *In test_it.py::test_again[[]fake-b-0[]] the fake-b engine process was lost: killed by SIGABRT",
            "E *It was serving: call of 'die' of <bytes> with (0)",
            "E *last words",
            "E *That test alone: pytest 'test_it.py::test_again[[]fake-b-0[]]'",
        ]
    )
    assert all(outcome in ("PASSED", "XFAIL") for name, outcome in outcomes(result).items() if "fake-a" in name)


def test_time_outs_in_a_row_are_no_crashes(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest
        from fake_engine import module, function

        HANG = module(exports={"hang": function("->", ["hang"])})

        @pytest.mark.parametrize("number", range(4))
        def test_it(wasm_instance, number):
            wasm_instance(HANG).exports.hang()
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a", "--wasm-timeout=0.05")
    result.assert_outcomes(failed=4)
    assert "GivenUp" not in result.stdout.str()


KILLER = """
import os, signal, time
from pathlib import Path
import pytest
from pytest_wasmer.plugin import WASM

class Killer:
    def __init__(self, session): self.pool = session.pool
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self, nodeid):
        if "before" in nodeid:
            pid = self.pool._connections["fake-a"].pid
            os.kill(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
                time.sleep(0.001)

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    manager = item.config.pluginmanager
    if not manager.has_plugin("killer-of-engines"):
        manager.register(Killer(item.config.stash[WASM].session), "killer-of-engines")
"""


def test_a_death_between_two_tests_is_one_failure(fakes: pytest.Pytester) -> None:
    """Of the next test, whose set-up says it: nobody else can have noticed."""
    fakes.makeconftest(fakes.path.joinpath("conftest.py").read_text() + KILLER)
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.fixture(scope="module")
    def kept(wasm_instance):
        return wasm_instance(WASM)

    def test_before(kept):
        assert kept.exports.add(1, 2) == 3

    def test_next(kept):
        assert kept.exports.add(1, 2) == 3

    def test_after(kept):
        assert kept.exports.add(1, 2) == 3
    """,
    )
    result = fakes.runpytest("--wasm-backends=fake-a")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*killed by SIGKILL*", "ERROR test_it.py::test_next*"])
