"""PYTEST_WASMER_PYTHON, wasm_python; --wasm-isolation=none where it names another Python."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import NOT_HERE, PYTHON_WITH_WHEELS, WHEELS_HERE, needs_wheels
from tests.engines.workbench import add_real, bare_environment

if TYPE_CHECKING:
    from pathlib import Path

ANSWER = """
    def test_it(wasm_instance):
        wat = '(module (import "env" "f" (func $f (result i32))) (func (export "f") (result i32) (call $f)))'
        assert wasm_instance(wat, {"env": {"f": lambda: 42}}).exports.f() == 42
"""
WHERE = """
    import os

    def test_where(wasm_instance, wasm_backend, request):
        wasm_instance("(module)")
        from pytest_wasmer import plugin

        session = request.config.stash[plugin.WASM].session
        pid = session.pool.connection(session.registry.spec(wasm_backend)).pid
        with open(f"/proc/{pid}/cmdline") as file:
            print("\\nengine of", file.read().split("\\0")[0])
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Another Python with the wheels."""
    python = bare_environment(tmp_path / "mine")
    add_real(tmp_path / "mine")
    return python


@needs_wheels
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_precedence_is_environment_ini(pytester: pytest.Pytester, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(WHERE)
    pytester.makeini(f"[pytest]\nwasm_python = {mine}")
    run = ("--wasm-backends=singlepass", "-s")
    pytester.runpytest(*run).stdout.fnmatch_lines([f"engine of {mine}"])
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", PYTHON_WITH_WHEELS.executable)
    pytester.runpytest(*run).stdout.fnmatch_lines([f"engine of {PYTHON_WITH_WHEELS.executable}"])
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", "")
    pytester.runpytest(*run).stdout.fnmatch_lines([f"engine of {mine}"])


@needs_wheels
def test_a_relative_path_starts_from_rootdir(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_environment(pytester.path / "python")
    add_real(pytester.path / "python")
    pytester.makepyfile(ANSWER)
    pytester.makeini("[pytest]\nwasm_python = python/bin/python")
    monkeypatch.chdir(pytester.mkdir("below"))
    pytester.runpytest("--wasm-backends=singlepass", pytester.path).assert_outcomes(passed=1)


@pytest.mark.parametrize("source", ["environment", "ini"])
def test_a_wrong_one_is_said_with_its_source(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    pytester.makepyfile(ANSWER)
    place = "PYTEST_WASMER_PYTHON"
    if source == "environment":
        monkeypatch.setenv(place, "/nowhere/python")
    else:
        pytester.makeini("[pytest]\nwasm_python = /nowhere/python")
        place = "wasm_python (from tox.ini)"
    reason = f"{place}: /nowhere/python: No such file or directory"
    result = pytester.runpytest("--wasm-backends=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[:3] == [
        "ERROR: --wasm-backends=all needs what does not work here.",
        f"    singlepass: {reason}",
        f"        pytest-wasmer setup, then remove {place}",
    ]
    result = pytester.runpytest()
    assert "no Wasm backend works here:" in result.stdout.str()
    assert f"    llvm: {reason}" in result.stdout.str()


def test_a_suite_without_wasm_starts_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it names; it may be set for all runs of a user."""
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", "/nowhere/python")
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("wasm:*")


# In the test process


def refusal(result: pytest.RunResult, place: str, backends: str, python: object, origin: str) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[:2] == [
        f"ERROR: {place}=none runs native code in this Python, {sys.executable}, "
        f"and {backends} need {python}: {origin}.",
        "    Use --wasm-isolation=process, or run the tests with that Python.",
    ]


@needs_wheels
@pytest.mark.parametrize("source", ["option", "environment", "ini"])
def test_isolation_none_with_another_python(
    pytester: pytest.Pytester, mine: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    pytester.makepyfile(ANSWER)
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", str(mine))
    place, option = "--wasm-isolation", ["--wasm-isolation=none"]
    if source == "environment":
        place, option = "PYTEST_WASMER_ISOLATION", []
        monkeypatch.setenv(place, "none")
    elif source == "ini":
        place, option = "wasm_isolation (from tox.ini)", []
        pytester.makeini("[pytest]\nwasm_isolation = none")
    result = pytester.runpytest("--wasm-backends=all", *option)
    refusal(result, place, "singlepass, cranelift, llvm", mine, "PYTEST_WASMER_PYTHON")
    result = pytester.runpytest("--wasm-backends=llvm", "--wasm-isolation=process")
    result.assert_outcomes(passed=1)


@needs_wheels
def test_isolation_none_of_what_is_available(
    pytester: pytest.Pytester, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(ANSWER)
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", str(mine))
    result = pytester.runpytest("--wasm-isolation=none")
    refusal(result, "--wasm-isolation", "singlepass, cranelift, llvm", mine, "PYTEST_WASMER_PYTHON")


@needs_wheels
@pytest.mark.skipif(WHEELS_HERE, reason="this Python has wheels")
def test_isolation_none_on_another_python_than_that_of_the_wheels(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ANSWER)
    result = pytester.runpytest("--wasm-isolation=none", "--wasm-backends=llvm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0].endswith(": the environment of pytest-wasmer setup.")


@pytest.mark.skipif(not WHEELS_HERE, reason=NOT_HERE)
def test_isolation_none_where_this_python_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(ANSWER)
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", sys.executable)
    pytester.runpytest_subprocess("--wasm-isolation=none", "--wasm-backends=all").assert_outcomes(passed=3)


def test_fake_backends_run_in_any_python(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", "/nowhere/python")
    fakes.makepyfile(
        """
        from fake_engine import module, function

        def test_add(wasm_instance):
            assert wasm_instance(module(exports={"f": function("-> i32", [["return", 2]])})).exports.f() == 2
        """
    )
    fakes.runpytest("--wasm-isolation=none", "--wasm-backends=fake-a").assert_outcomes(passed=1)
