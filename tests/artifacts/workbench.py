"""What the tests of this room share: parts and what they are called, system calls that fail, a user without rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Now, since `as_nobody` may import nothing.
import filelock  # noqa: F401

from pytest_wasmer.artifacts.key import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PARTS = Parts(
    "1", "ab" * 32, "my_engine:MyEngine", "1.0", "cd" * 32, "fast", "", "sse2", "x86_64-linux", "default", "{}"
)
HEAD = PARTS.head()
SEAL = bytes(range(32))
NOBODY = 65534


class System:
    """The module `os`, with other functions in the place of some."""

    def __init__(self, **others: Callable[..., Any]) -> None:
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def failing(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@contextmanager
def folder_of_nobody() -> Iterator[Path]:
    """A directory that `as_nobody` can reach, unlike those of `tmp_path`."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Whoever runs these tests, permission bits below that directory count: root would not be stopped by them."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def start_script(text: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python that runs this text and can import this project and its tests."""
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run_script(text: str, *arguments: object) -> list[str]:
    """The lines that it prints. Fails if it does."""
    process = start_script(text, *arguments)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output.splitlines()
