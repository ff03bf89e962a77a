"""--wasm-report, PYTEST_WASMER_REPORT, wasm_report; and one session over several interpreters."""

from __future__ import annotations

import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_wasmer import __version__, cli
from pytest_wasmer.agreement import runs
from tests.conftest import needs_wheels

ALL = "--wasm-backends=fake-a,fake-b,fake-c"
SUITE = """
    import pytest
    from fake_engine import module, function, memory

    WASM = module(exports={
        "m": memory(1),
        "even": function("i32 -> i32", [["return", 4]]),
        "odd": function("-> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]}),
    })

    def test_even(wasm_instance): wasm_instance(WASM).exports.even(1)
    def test_odd(wasm_instance): wasm_instance(WASM).exports.odd()
    def test_red(wasm_instance): wasm_instance(WASM).exports.odd(); assert False
    def test_skipped(wasm_instance): pytest.skip("not today")
    @pytest.mark.xfail
    def test_known(wasm_instance): assert False
    def test_plain(): pass
"""


@pytest.fixture
def project(fakes: pytest.Pytester) -> pytest.Pytester:
    fakes.makepyfile(test_it=SUITE)
    return fakes


def report(project: pytest.Pytester, name: str = "run.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.path / name).read_text())
    return found


@pytest.mark.parametrize("plugins", [(), ("-p", "xdist.plugin", "-n2")], ids=["alone", "xdist"])
def test_what_is_in_it(project: pytest.Pytester, plugins: tuple[str, ...]) -> None:
    result = project.runpytest(ALL, *plugins, "--wasm-report=run.json")
    result.stdout.fnmatch_lines([f"wasm: wrote {project.path / 'run.json'}"])
    content = report(project)
    assert content["pytest-wasmer run"] == 1
    outcomes = {test["test"]: test["outcome"] for test in content["tests"]}
    expected = {"even": "passed", "odd": "passed", "red": "failed", "skipped": "skipped", "known": "xfailed"}
    assert outcomes == {
        f"test_it.py::test_{name}[{variant}]": outcome
        for name, outcome in expected.items()
        for variant in ("fake-a", "fake-b", "fake-c")
    }
    even = next(test for test in content["tests"] if test["test"] == "test_it.py::test_even[fake-b]")
    assert even["group"] == "test_it.py::test_even[backends-agree]"
    assert even["variant"] == "fake-b"
    assert even["level"] == [False, True, True, True]
    assert set(even["seconds"]) == {"setup", "call", "teardown"}
    assert {item["variant"] for item in content["artifacts"]} == {"fake-a", "fake-b", "fake-c"}
    assert all(item["what"] in ("compiled", "loaded") and item["seconds"] > 0 for item in content["artifacts"])
    verdicts = {item["group"]: item["verdict"] for item in content["verdicts"]}
    assert verdicts["test_it.py::test_even[backends-agree]"] == "agreed"
    assert verdicts["test_it.py::test_odd[backends-agree]"] == "diverged"
    about = content["environment"]
    assert about["pytest_wasmer"] == __version__
    assert about["python"] == ".".join(map(str, sys.version_info[:3]))
    assert about["backends"] == {name: {"engine": "", "library": "fake 1"} for name in ("fake-a", "fake-b", "fake-c")}
    assert about["settings"]["backends"] == {"value": "fake-a,fake-b,fake-c", "source": "--wasm-backends"}
    read = runs.read(project.path / "run.json")
    seen = read.groups["test_it.py::test_even[backends-agree]"]["fake-b"].observed
    assert seen is not None
    assert [*seen.events[-1]] == ["result", "i32", 4]
    assert seen.journal == ""


@pytest.mark.parametrize("arguments", [("--wasm-backends=fake-a",), (ALL, "--wasm-agree=off"), (ALL, "-x")])
def test_observations_are_recorded_wherever_one_ran(project: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    project.runpytest(*arguments, "--wasm-report=run.json")
    tests = [test for test in report(project)["tests"] if test["test"].startswith("test_it.py::test_even")]
    assert tests
    assert all(test["observation"] for test in tests)


def test_nobody_and_no_private_place_is_named(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home" / "someone"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for folder, shown in ((home / "store", "~/store"), (tmp_path / "private" / "store", ".../store")):
        project.runpytest(ALL, f"--wasm-cache-dir={folder}", f"--wasm-report={project.path / 'run.json'}")
        text = (project.path / "run.json").read_text()
        assert json.loads(text)["environment"]["settings"]["cache_dir"]["value"] == shown
        assert json.loads(text)["environment"]["settings"]["report"]["value"] == "run.json"
        for private in ("someone", str(project.path), os.uname().nodename):
            assert private not in text
        assert getpass.getuser() == "root" or getpass.getuser() not in text


def test_the_run_goes_on_with_what_was_set(project: pytest.Pytester, tmp_path: Path) -> None:
    """Fixtures may end after the report was written."""
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + """
def pytest_unconfigure(config):
    from pytest_wasmer.plugin import WASM
    print("kept in", config.stash[WASM].settings.cache_dir.value)
"""
    )
    result = project.runpytest(ALL, f"--wasm-cache-dir={tmp_path / 'store'}", "--wasm-report=run.json", "-s")
    result.stdout.fnmatch_lines([f"kept in {tmp_path / 'store'}"])


def test_what_the_hook_normalizes(project: pytest.Pytester) -> None:
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\ndef pytest_wasmer_normalize(group, events):\n    return events[:1]\n")
    project.runpytest(ALL, "--wasm-report=run.json")
    seen = runs.read(project.path / "run.json").groups["test_it.py::test_even[backends-agree]"]["fake-b"].observed
    assert seen is not None
    assert [event[0] for event in seen.events] == ["new"]


def test_the_last_attempt_counts(fakes: pytest.Pytester) -> None:
    pytest.importorskip("pytest_rerunfailures")
    fakes.makepyfile(
        test_it=SUITE.partition("    def test_even")[0]
        + """
    TRIES = []

    @pytest.mark.flaky(reruns=1)
    def test_flaky(wasm_instance):
        TRIES.append(1)
        wasm_instance(WASM).exports.even(len(TRIES))
        assert len(TRIES) > 1
    """
    )
    fakes.runpytest("--wasm-backends=fake-a", "-p", "rerunfailures", "--wasm-report=run.json")
    (test,) = report(fakes)["tests"]
    assert test["outcome"] == "passed"
    (group,) = runs.read(fakes.path / "run.json").groups.values()
    assert group["fake-a"].observed is not None
    assert group["fake-a"].observed.events[2][-1] == 2


def test_a_run_without_wasm(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest("--wasm-report=run.json").assert_outcomes(passed=1)
    assert report(pytester)["tests"] == []
    (pytester.path / "run.json").unlink()
    pytester.runpytest("--wasm-report=run.json", "--collect-only")
    assert not (pytester.path / "run.json").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("run.html", "run.html must end in .json: so far there are no other reports."),
        ("run", "run must end in .json: so far there are no other reports."),
        ("nowhere/run.json", "there is no directory {}/nowhere"),
        ("folder.json", "folder.json is a directory."),
        ("locked/run.json", "{}/locked cannot be written."),
        ("locked.json", "{}/locked.json cannot be written."),
    ],
)
def test_what_cannot_be_written_is_said_at_once(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    (project.path / "folder.json").mkdir()
    (project.path / "locked").mkdir()
    (project.path / "locked.json").touch()
    access = os.access  # root may write everything
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in Path(path).name and access(path, mode))
    result = project.runpytest(ALL, f"--wasm-report={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == f"ERROR: --wasm-report: {said.format(project.path)}"


def test_what_fails_at_the_end_is_said(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        import os

        def test_it(wasm_backend):
            os.makedirs("run.json/x", exist_ok=True)
        """
    )
    result = project.runpytest("--wasm-backends=fake-a", "--wasm-report=run.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"wasm: {project.path / 'run.json'} could not be written: Is a directory"])


def test_precedence(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.makeini("[pytest]\nwasm_report = ini.json")
    (project.path / "sub").mkdir()
    monkeypatch.chdir(project.path / "sub")
    project.runpytest("..", "--wasm-backends=fake-a")
    assert report(project, "ini.json")["tests"]
    monkeypatch.setenv("PYTEST_WASMER_REPORT", "variable.json")
    project.runpytest("..", "--wasm-backends=fake-a")
    assert report(project, "sub/variable.json")["tests"]
    project.runpytest("..", "--wasm-backends=fake-a", "--wasm-report=option.json")
    assert report(project, "sub/option.json")["tests"]


def test_runs_are_compared(project: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    """Two machines, each with one backend."""
    for name in ("a", "b"):
        project.runpytest(f"--wasm-backends=fake-{name}", f"--wasm-report={name}.json", "-k", "even or odd")
    capsys.readouterr()
    assert cli.main(["compare", "a.json", "b.json"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "1 tests agreed, 1 diverged, 0 not compared" in lines
    assert "a fake-a against b fake-b: they disagree" in lines


def test_one_session_over_two_interpreters(project: pytest.Pytester) -> None:
    """As with `--tx popen//python=...` of another Python."""
    spec = f"2*popen//python={sys.executable}"
    result = project.runpytest(ALL, "-p", "xdist.plugin", "--dist=load", "--tx", spec, "-k", "even or odd")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 1 diverged, 0 not compared"])


@needs_wheels
def test_native(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    pytester.makepyfile(
        """
        WAT = '''(module (memory (export "memory") 1)
          (func (export "root") (param f64) (f64.store (i32.const 8) (f64.sqrt (local.get 0)))))'''

        def test_root(wasm_instance):
            wasm_instance(WAT).exports.root(-1.0)
        """
    )
    for backend in ("singlepass", "llvm"):
        pytester.runpytest_subprocess(f"--wasm-backends={backend}", f"--wasm-report={backend}.json")
    about = report(pytester, "llvm.json")["environment"]
    assert about["backends"]["llvm"]["engine"] == "wasmer 1.1.0"
    assert len(about["backends"]["llvm"]["library"]) == 64
    capsys.readouterr()
    assert cli.main(["compare", "singlepass.json", "llvm.json"]) == 0
    # The square root of -1 is a NaN with the sign that the processor gives it, or without.
    assert "1 tests agreed, 0 diverged, 0 not compared" in capsys.readouterr().out
