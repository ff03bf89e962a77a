"""One store, and one session, of two Pythons: this one and the one that has the wheels.

Where tests run on that very one there is no second: `.ci/run` runs this on others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PYTHON_WITH_WHEELS, WHEELS_HERE, needs_wheels
from tests.integration.workbench import counts, own_directories

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """
    import platform
    import pytest
    from pytest_wasmer import Trap, TrapKind

    WAT = '''(module
      (memory (export "memory") 1)
      (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
      (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5))))'''

    @pytest.mark.parametrize("number", range(12))
    def test_div(wasm_instance, number, record_property):
        calc = wasm_instance(WAT).exports
        print("on Python", platform.python_version())
        assert calc.div(84, number + 1) == 84 // (number + 1)
        assert calc.half(number) == number / 2
        with pytest.raises(Trap) as trapped:
            calc.div(number, 0)
        assert trapped.value.kind is TrapKind.INTEGER_DIVIDE_BY_ZERO
"""
# xdist hands its workers the controller's sys.path, and with it another Python's standard library.
OWN_PATH = """
    import sys

    PATHS = {paths}
    sys.path[:] = PATHS[sys.version_info[1]]
"""
CAN_TEST = "import pytest, xdist, platformdirs, filelock, pytest_wasmer"


@pytest.fixture(scope="module")
def other() -> str:
    """Another Python than this that can run this suite."""
    if WHEELS_HERE:
        pytest.skip("this Python has the wheels: there is no second one")
    python = PYTHON_WITH_WHEELS.executable
    done = subprocess.run([python, "-c", CAN_TEST], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{python} has the wheels only: {done.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_directories(monkeypatch, tmp_path)


def run(pytester: pytest.Pytester, python: str, *arguments: str) -> pytest.RunResult:
    return pytester.run(python, "-m", "pytest", "-p", "no:cacheprovider", "--wasm-backends=all", *arguments)


@needs_wheels
@pytest.mark.parametrize("reverse", [False, True], ids=["there-then-here", "here-then-there"])
def test_what_one_compiled_the_other_loads(pytester: pytest.Pytester, other: str, reverse: bool) -> None:
    pytester.makepyfile(test_calc=SUITE)
    pythons = [sys.executable, other] if reverse else [other, sys.executable]
    first, second = (run(pytester, python) for python in pythons)
    for result in (first, second):
        result.assert_outcomes(passed=36)
        result.stdout.fnmatch_lines(["wasm: 12 tests agreed, 0 diverged, 0 not compared"])
    for backend in ("singlepass", "cranelift", "llvm"):
        assert counts(first, backend) == (1, 0, 0)
        assert counts(second, backend) == (0, 1, 0)


def path_of(python: str) -> tuple[int, list[str]]:
    """Minor version, sys.path."""
    code = "import sys, json; print(json.dumps([sys.version_info[1], sys.path]))"
    minor, path = json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)
    return minor, path


@needs_wheels
def test_one_session_of_both(pytester: pytest.Pytester, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one test, backends may have run on either Python."""
    paths = dict(path_of(python) for python in (sys.executable, other))
    pytester.makepyfile(test_calc=SUITE, own_path=OWN_PATH.format(paths=paths))
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    monkeypatch.setenv("PYTEST_PLUGINS", "own_path,pytest_wasmer.plugin")
    workers = [f"--tx=popen//python={python}" for python in (sys.executable, other)]
    result = run(pytester, sys.executable, "-p", "xdist", *workers, "--dist=load", "-rP")
    result.assert_outcomes(passed=36)
    result.stdout.fnmatch_lines(["wasm: 12 tests agreed, 0 diverged, 0 not compared"])
    assert len({line for line in result.stdout.lines if line.startswith("on Python ")}) == 2
