"""What a terminal shows while a test waits for a compile."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.report.waiting import Board, Waiting

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")

SLOW = """
    from fake_engine import module

    SLOW = module(seconds={seconds})

    def test_slow(wasm_module):
        wasm_module(SLOW)
"""


@pytest.fixture
def slow(fakes: pytest.Pytester) -> pytest.Pytester:
    """A compile that takes long, for a plugin without patience."""
    with (fakes.path / "conftest.py").open("a") as file:
        file.write("\nfrom pytest_wasmer.report import waiting\nwaiting.PATIENCE = 0.1\n")
    fakes.makepyfile(SLOW.format(seconds=0.8))
    return fakes


def run(folder: Path, *arguments: str) -> str:
    """What a terminal gets to see of a run of pytest."""
    import pty

    command = [sys.executable, "-m", "pytest", "-p", "pytest_wasmer.plugin", *arguments]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execv(sys.executable, command)
    parts = []
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    os.waitpid(process, 0)
    return b"".join(parts).decode()


@posix
def test_names_module_and_compiler(slow: pytest.Pytester) -> None:
    shown = run(slow.path, "--wasm-backends=fake-a", "--wasm-cache=off")
    assert "1 passed" in shown
    assert "[fake-a compiles <bytes>: 0 s]" in shown
    # It is taken away again.
    assert shown.rindex("\033[K") > shown.rindex("compiles <bytes>")


@posix
def test_counts_from_two_seconds_also_for_a_worker(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SLOW.format(seconds=3.5))
    shown = run(fakes.path, "--wasm-backends=fake-a", "--wasm-cache=off", "-p", "xdist.plugin", "-n1")
    assert "1 passed" in shown
    assert re.findall(r"\[fake-a compiles <bytes>: (\d) s\]", shown)[:1] in (["2"], ["3"])
    assert shown.rindex("\033[K") > shown.rindex("compiles <bytes>")


@posix
def test_not_on_ci(slow: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    shown = run(slow.path, "--wasm-backends=fake-a", "--wasm-cache=off")
    assert "1 passed" in shown
    assert "compiles" not in shown


def test_not_without_a_terminal(slow: pytest.Pytester) -> None:
    result = slow.runpytest_subprocess("--wasm-backends=fake-a", "--wasm-cache=off")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*compiles*")


def test_what_is_quick_is_not_shown() -> None:
    shown: list[str] = []
    with Waiting(shown.append)("llvm compiles it"):
        pass
    assert shown == []


def test_it_is_taken_away_also_when_the_compile_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_wasmer.report.waiting.PATIENCE", 0.01)
    shown: list[str] = []

    def fail() -> None:
        while not shown:
            pass
        raise RuntimeError

    with pytest.raises(RuntimeError), Waiting(shown.append)("llvm compiles it"):
        fail()
    assert shown[0] == "[llvm compiles it: 0 s]"
    assert shown[-1] == ""


def test_no_board_without_a_terminal(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    board = Board(pytestconfig)
    assert board.folder is None
    board.close()
