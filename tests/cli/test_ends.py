"""How commands end that are not let to: by Ctrl-C, and by who reads what they print."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_wasmer import cli
from tests.conftest import needs_wheels

LOOP = '(module (func (export "f") (loop $again (br $again))))'


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from pytest_wasmer import cli; sys.exit(cli.main())", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def children(process: subprocess.Popen[str]) -> list[str]:
    """Its engine processes."""
    return [pid for task in Path(f"/proc/{process.pid}/task").glob("*/children") for pid in task.read_text().split()]


@needs_wheels
@pytest.mark.parametrize("command", ["check", "run"])
def test_ctrl_c_is_no_traceback(tmp_path: Path, command: str) -> None:
    (tmp_path / "loop.wat").write_text(LOOP)
    if command == "run":
        loop = str(tmp_path / "loop.wat")
        assert cli.main(["compile", loop, "--backend=cranelift", "-o", str(tmp_path / "loop.art")]) == 0
    arguments = {"check": ["loop.wat", "--backends=cranelift"], "run": ["loop.art", "f"]}[command]
    with start(tmp_path, command, *arguments) as process:
        while not children(process):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (cli.INTERRUPTED, "", "\n")


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    for number in range(30):
        folder = tmp_path / "v1" / f"{number:016}"
        folder.mkdir(parents=True)
        (folder / "x.artifact").write_bytes(b"unreadable")
    with start(tmp_path, "cache", "--dir", ".", "ls") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == cli.UNREAD
