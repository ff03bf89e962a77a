"""--wasm-backends, PYTEST_WASMER_BACKENDS, wasm_backends."""

from __future__ import annotations

import pytest

from tests.conftest import KNOWN, WHEELS_HERE, needs_wheels

TEST = """
    from fake_engine import module, function

    WASM = module(exports={"add": function("i32 i32 -> i32", ["sum"])})

    def test_add(wasm_instance, wasm_backend):
        assert wasm_backend in ("fake-a", "fake-b", "fake-c")
        assert wasm_instance(WASM).exports.add(1, 2) == 3
"""
WITHOUT_LLVM = """
from pytest_wasmer.engines.interpreter import Interpreter

find = Interpreter.library
Interpreter.library = lambda self, package: None if package.endswith("llvm") else find(self, package)
"""
REMEDY = "pip install wasmer-compiler-llvm==1.1.0" if WHEELS_HERE else "pytest-wasmer setup"


def test_runs_once_per_backend_in_the_fixed_order(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(TEST)
    result = fakes.runpytest("--wasm-backends=fake-b,fake-a,fake-b", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.re_match_lines([r".*::test_add\[fake-a\] PASSED.*", r".*::test_add\[fake-b\] PASSED.*"])


def test_the_backend_is_in_the_id_also_if_it_is_the_only_one(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(TEST)
    result = fakes.runpytest("--wasm-backends", "fake-c", "-v")
    result.stdout.re_match_lines([r".*::test_add\[fake-c\] PASSED.*"])


@pytest.mark.processes
def test_precedence_is_command_line_environment_ini(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.makepyfile(TEST)
    fakes.makeini("[pytest]\nwasm_backends = fake-a fake-b")
    ini = fakes.runpytest()
    ini.stdout.fnmatch_lines(["wasm: backends fake-a, fake-b (from tox.ini), isolation process"])
    monkeypatch.setenv("PYTEST_WASMER_BACKENDS", "fake-b")
    environment = fakes.runpytest()
    environment.stdout.fnmatch_lines(["wasm: backends fake-b (from PYTEST_WASMER_BACKENDS), isolation process"])
    option = fakes.runpytest("--wasm-backends=fake-c")
    option.stdout.fnmatch_lines(["wasm: backends fake-c (from --wasm-backends), isolation process"])
    for result, count in ((ini, 2), (environment, 1), (option, 1)):
        result.assert_outcomes(passed=count)


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_an_unknown_name_is_a_usage_error(fakes: pytest.Pytester, workers: tuple[str, ...]) -> None:
    fakes.makepyfile(TEST)
    result = fakes.runpytest("--wasm-backends=lvm", *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        "ERROR: --wasm-backends: backend 'lvm' is unknown. Did you mean 'llvm'? "
        f"Known: {KNOWN}; special: all, available."
    )


def test_an_unknown_name_in_the_ini_file_names_that_file(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(TEST)
    fakes.makeini("[pytest]\nwasm_backends = nonsense")
    result = fakes.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: wasm_backends (from tox.ini): backend 'nonsense' is unknown. Known: *"])


def test_help_works_whatever_the_settings_say(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_WASMER_BACKENDS", "nonsense")
    monkeypatch.setenv("PYTEST_WASMER_ISOLATION", "nonsense")
    assert fakes.runpytest("--help").ret == 0
    assert fakes.runpytest("--version").ret == 0


@needs_wheels
def test_all_with_one_missing_is_a_usage_error_with_the_remedy(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WITHOUT_LLVM)
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --wasm-backends=all needs what does not work here.",
            "    llvm: the wasmer-compiler-llvm wheel is not installed*",
            f"        {REMEDY}",
            "Or run what works (singlepass, cranelift): --wasm-backends=available",
        ],
        consecutive=True,
    )


@needs_wheels
def test_available_runs_what_works_and_names_the_rest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WITHOUT_LLVM)
    pytester.makepyfile("def test_it(wasm_instance): wasm_instance('(module)')")
    result = pytester.runpytest_subprocess("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "wasm: backends singlepass, cranelift, isolation process, wasmer 1.1.0",
            f"wasm: llvm does not work here: the wasmer-compiler-llvm wheel is not installed* ({REMEDY})",
            "*::test_it[[]singlepass[]] PASSED*",
            "*::test_it[[]cranelift[]] PASSED*",
        ]
    )


@needs_wheels
def test_xdist_names_the_rest_in_the_summary(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WITHOUT_LLVM)
    pytester.makepyfile("def test_it(wasm_instance): wasm_instance('(module)')")
    result = pytester.runpytest_subprocess("-p", "xdist", "-n", "1")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*= wasm backends =*", "cranelift *", "wasm: llvm does not work here: *"])


def test_no_working_backend_is_an_error_never_a_green_run(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest_wasmer.engines.registry as registry

        missing = lambda self, spec: registry.Availability(spec, False, reason="it is broken", remedy="mend it")
        registry.Registry._wheel = missing
        """
    )
    pytester.makepyfile(
        """
        def test_it(wasm_instance): wasm_instance("(module)")

        def test_dynamic(request): request.getfixturevalue("wasm_instance")
        """
    )
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "no Wasm backend works here:",
            "    singlepass: it is broken",
            "        mend it",
            "    cranelift: it is broken",
        ]
    )


@pytest.mark.processes
def test_a_suite_without_wasm_shows_nothing(fakes: pytest.Pytester) -> None:
    fakes.makepyfile("def test_nothing(): pass")
    result = fakes.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*wasm:*")
    result.stdout.no_fnmatch_line("*wasm backends*")


def test_a_registered_backend_runs_where_it_is_named_only(fakes: pytest.Pytester) -> None:
    fakes.makepyfile("def test_it(wasm_backend): assert not wasm_backend.startswith('fake')")
    for value in ("available", "all"):
        result = fakes.runpytest(f"--wasm-backends={value}", "--co", "-q")
        result.stdout.no_fnmatch_line("*fake*")
