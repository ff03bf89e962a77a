"""What the tests of faults share: a run of pytest in a process of its own, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tests.conftest import HERE
from tests.runtime.workbench import eventually

if TYPE_CHECKING:
    import pytest

ROOT = HERE.parent
BACKENDS = f"""
import sys
from pytest_wasmer import BackendSpec

HERE = {str(HERE)!r}
sys.path.insert(0, HERE)
ARGUMENTS = {{"fake-a": "fake-a", "fake-b": "fake-b", "fake-c": "fake-c", "fake-dead": "suicidal"}}

def pytest_wasmer_backends(config):
    return [
        BackendSpec(name, "fake_engine:FakeEngine", argument, import_path=HERE, identity="fake 1")
        for name, argument in ARGUMENTS.items()
    ]
"""


class Run:
    """A run of pytest in `folder`: in a process group and with temporary files of its own."""

    def __init__(self, folder: Path, *arguments: str, conftest: str = "") -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        (folder / "conftest.py").write_text(BACKENDS + conftest)
        self._mark = f"PYTEST_WASMER_RUN={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        own = ("-p", "no:cacheprovider", f"--basetemp={folder / 'base'}", f"--wasm-cache-dir={folder / 'store'}")
        environment = {
            **os.environ,
            name: value,
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(ROOT),
            # Other plugins take their time, too.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "pytest_wasmer.plugin",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *own, "--junit-xml=junit.xml", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, timeout: float = 100) -> list[str]:
        """The lines that it prints until its end."""
        output, _ = self.process.communicate(timeout=timeout)
        return output.splitlines()

    def kill(self) -> None:
        """With what it may have left, in spite of all."""
        self.process.kill()
        for pid in self.engines():
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def engines(self) -> list[int]:
        """Its engine processes that live."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_engine(pid)]

    def _is_engine(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            return self._mark.encode() in environment and b"runtime.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def is_clean(self, within: float = 2.0) -> bool:
        """Whether no engine process and no temporary file is left in time."""
        return eventually(lambda: not self.engines() and not [*self.temporary.iterdir()], within)

    def failures(self) -> dict[str, str]:
        """What JUnit's file says, by the name of the test; "" of those that did not fail."""
        cases = ElementTree.parse(self.folder / "junit.xml").iter("testcase")
        return {case.attrib["name"]: "".join(map(_said, case)) for case in cases}


def _said(part: ElementTree.Element) -> str:
    return part.text or "" if part.tag in ("failure", "error") else ""


def start(pytester: pytest.Pytester, *arguments: str, conftest: str = "") -> Run:
    return Run(pytester.path, *arguments, conftest=conftest)
