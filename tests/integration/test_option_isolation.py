"""--wasm-isolation, PYTEST_WASMER_ISOLATION, wasm_isolation."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import WHEELS_HERE, needs_wheels, needs_wheels_here
from tests.integration.workbench import assert_warned_once

pytestmark = pytest.mark.processes

WHERE = """
    import os
    from fake_engine import module, function

    WASM = module(imports=[("env", "pid", ["func", [], ["i32"]])], exports={"f": function("-> i32", [["host"]])})

    def test_where(wasm_instance, request):
        from pytest_wasmer import plugin

        session = request.config.stash[plugin.WASM].session
        wasm_instance(WASM, imports={"env": {"pid": lambda: 1}}).exports.f()
        connection = session.pool.connection(session.registry.spec("fake-a"))
        print("\\nengine", "elsewhere" if getattr(connection, "pid", os.getpid()) != os.getpid() else "here")
"""


@pytest.mark.parametrize(("value", "place"), [("process", "elsewhere"), ("none", "here")])
def test_says_where_native_code_runs(fakes: pytest.Pytester, value: str, place: str) -> None:
    fakes.makepyfile(WHERE)
    result = fakes.runpytest("--wasm-backends=fake-a", f"--wasm-isolation={value}", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"wasm: *isolation {value} (from --wasm-isolation)*", f"engine {place}"])


def test_process_is_the_default(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(WHERE)
    result = fakes.runpytest("--wasm-backends=fake-a", "-s")
    result.stdout.fnmatch_lines(["wasm: *isolation process", "engine elsewhere"])


def test_precedence_is_command_line_environment_ini(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.makepyfile(WHERE)
    fakes.makeini("[pytest]\nwasm_backends = fake-a\nwasm_isolation = none")
    fakes.runpytest().stdout.fnmatch_lines(["wasm: *isolation none (from tox.ini)"])
    monkeypatch.setenv("PYTEST_WASMER_ISOLATION", "process")
    fakes.runpytest().stdout.fnmatch_lines(["wasm: *isolation process (from PYTEST_WASMER_ISOLATION)"])
    fakes.runpytest("--wasm-isolation=none").stdout.fnmatch_lines(["wasm: *isolation none (from --wasm-isolation)"])


@pytest.mark.parametrize("source", ["option", "environment", "ini"])
def test_another_value_is_a_usage_error(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    arguments = []
    place = {"option": "--wasm-isolation", "environment": "PYTEST_WASMER_ISOLATION"}.get(source)
    if source == "option":
        arguments = ["--wasm-isolation=proces"]
    elif source == "environment":
        monkeypatch.setenv("PYTEST_WASMER_ISOLATION", "proces")
    else:
        fakes.makeini("[pytest]\nwasm_isolation = proces")
        place = "wasm_isolation (from tox.ini)"
    result = fakes.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        f"ERROR: {place}: 'proces' is unknown. Did you mean 'process'? Known: process, none."
    )


LIMITED = """
    import pytest
    from fake_engine import module, function

    ADD = module(exports={"add": function("i32 i32 -> i32", ["sum"])})

    def test_0(): pass
    def test_1(wasm_instance): assert wasm_instance(ADD).exports.add(1, 2) == 3
    @pytest.mark.wasm_timeout(5)
    @pytest.mark.wasm_memory_limit("1 MiB")
    def test_2(wasm_instance): assert wasm_instance(ADD).exports.add(1, 2) == 3
"""


def test_a_timeout_beside_it_on_the_command_line_is_refused(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(LIMITED)
    result = fakes.runpytest("--wasm-backends=fake-a", "--wasm-isolation=none", "--wasm-timeout=5")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[:2] == [
        "ERROR: --wasm-timeout ends the process that runs native code, and with --wasm-isolation=none that is the "
        "test process.",
        "Leave one of them out; pytest-timeout limits whole tests.",
    ]
    arguments = ("--wasm-isolation=none", "--wasm-timeout=0", "-W", "default")
    assert_warned_once(fakes.runpytest("--wasm-backends=fake-a", *arguments), passed=3)


@pytest.mark.parametrize(
    ("ini", "arguments", "sources"),
    [
        ("", ["--wasm-isolation=none"], "marker wasm_timeout and marker wasm_memory_limit"),
        ("wasm_timeout = 5", ["--wasm-isolation=none"], "wasm_timeout (from tox.ini)"),
        ("wasm_isolation = none", ["--wasm-timeout=5"], "--wasm-timeout"),
        ("wasm_memory_limit = 1 GiB", ["--wasm-isolation=none"], "wasm_memory_limit (from tox.ini)"),
    ],
)
def test_limits_from_elsewhere_are_warned_of_once(
    fakes: pytest.Pytester, ini: str, arguments: list[str], sources: str
) -> None:
    fakes.makeini(f"[pytest]\n{ini}")
    fakes.makepyfile(LIMITED)
    result = fakes.runpytest("--wasm-backends=fake-a", "-W", "default", *arguments)
    assert_warned_once(result, passed=3)
    result.stdout.fnmatch_lines(
        [
            f"*PytestWarning: {sources}: without effect, since with --wasm-isolation=none native code runs in the test "
            "process, which can be neither ended nor bounded; pytest-timeout limits whole tests"
        ]
    )


@needs_wheels_here
def test_traps_survive_what_a_test_does_to_faulthandler(pytester: pytest.Pytester) -> None:
    """Wasmer's signal handlers are put back between tests; without that the second trap ends the process."""
    pytester.makepyfile(
        """
        import faulthandler, sys
        import pytest
        from pytest_wasmer import Trap

        @pytest.mark.parametrize("number", range(2))
        def test_trap(wasm_instance, number):
            with pytest.raises(Trap):
                wasm_instance('(module (func (export "f") unreachable))').exports.f()
            faulthandler.disable()
            faulthandler.enable(sys.__stderr__)
        """
    )
    result = pytester.runpytest_subprocess("--wasm-backends=all", "--wasm-isolation=none")
    result.assert_outcomes(passed=6)


NESTED = """
    import pytest
    from pytest_wasmer import Trap

    pytest_plugins = ["pytester"]
    TRAP = '(module (func (export "f") unreachable))'
    INNER = {
        "wasm": f"def test_it(wasm_instance):\\n    wasm_instance({TRAP!r})",
        "none": "def test_it(): pass",
    }

    def trap(wasm_instance):
        with pytest.raises(Trap):
            wasm_instance(TRAP).exports.f()

    def run(pytester, inner):
        pytester.makepyfile(INNER[inner])
        pytester.runpytest_inprocess("--wasm-backends=cranelift", "--wasm-isolation=none").assert_outcomes(passed=1)

    def test_the_inner_one_first(pytester):
        run(pytester, "wasm")

    @pytest.mark.parametrize("inner", INNER)
    def test_nested(wasm_instance, pytester, inner):
        trap(wasm_instance)
        run(pytester, inner)
        trap(wasm_instance)

    class AtTheEnd:
        def __init__(self, wasm_instance):
            self.wasm_instance = wasm_instance

        @pytest.hookimpl(trylast=True)
        def pytest_unconfigure(self):
            trap(self.wasm_instance)  # after pytest's faulthandler was disabled
            print("still a trap")

    def test_until_the_end(wasm_instance, request):
        request.config.pluginmanager.register(AtTheEnd(wasm_instance))
"""


@needs_wheels_here
@pytest.mark.parametrize("plugin", ["faulthandler", "no:faulthandler"])
def test_traps_survive_nested_runs_and_the_end(pytester: pytest.Pytester, plugin: str) -> None:
    """In one test, after a run within it; and when pytest's own handlers are gone."""
    pytester.makepyfile(NESTED)
    result = pytester.runpytest_subprocess("--wasm-backends=cranelift", "--wasm-isolation=none", "-p", plugin)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["still a trap"])


@needs_wheels_here
@pytest.mark.parametrize("plugin", ["faulthandler", "no:faulthandler"])
def test_a_crash_prints_its_traceback_and_ends(pytester: pytest.Pytester, plugin: str) -> None:
    """Not even after a trap has shown that the handlers are Wasmer's is it taken for one."""
    pytester.makepyfile(
        """
        import ctypes
        import pytest
        from pytest_wasmer import Trap

        def test_crash(wasm_instance):
            with pytest.raises(Trap):
                wasm_instance('(module (func (export "f") unreachable))').exports.f()
            ctypes.string_at(16)
        """
    )
    result = pytester.runpytest_subprocess("--wasm-backends=cranelift", "--wasm-isolation=none", "-p", plugin)
    assert result.ret == -signal.SIGSEGV
    if plugin == "faulthandler":
        result.stderr.fnmatch_lines(["Fatal Python error: Segmentation fault", "*, line 8 in test_crash"])


@needs_wheels
def test_no_wheel_enters_the_test_process(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(wasm_instance):
            wasm_instance("(module)")
            assert not [name for name in sys.modules if name.startswith("wasmer")]
            with open("/proc/self/maps") as maps:
                assert "wasmer" not in "".join(line for line in maps if ".so" in line)
        """
    )
    pytester.runpytest_subprocess("--wasm-backends=all").assert_outcomes(passed=3)
    if WHEELS_HERE:  # else it is refused
        pytester.runpytest_subprocess("--wasm-backends=all", "--wasm-isolation=none").assert_outcomes(failed=3)
