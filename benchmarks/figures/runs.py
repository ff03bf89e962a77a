"""Runs of pytest in a child process: this plugin alone, or none at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from figures.engines import cache_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITES = Path(__file__).resolve().parent.parent / "suites"

# Other installed plugins take no part.
OTHERS = sorted({entry.name for entry in entry_points(group="pytest11")} - {"wasmer"})
ALIKE = ["-q", "-p", "no:cacheprovider", *[f"-pno:{name}" for name in OTHERS]]
WITH_PLUGIN: list[str] = []
WITHOUT_PLUGIN = ["-p", "no:wasmer"]


def copied(suite: str, name: str = "") -> Path:
    """A suite away from this repository's configuration."""
    return Path(shutil.copytree(SUITES / suite, cache_directory() / (name or suite), dirs_exist_ok=True))


def run(command: Sequence[str], directory: Path, arguments: Sequence[str], **variables: str) -> float:
    """Seconds of one run, with `command` in the place of pytest. Raises RuntimeError where a test fails."""
    unwanted = ("PYTEST_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment |= {
        "XDG_CACHE_HOME": str(cache_directory()),
        "XDG_DATA_HOME": str(cache_directory()),
        "PYTHONPYCACHEPREFIX": str(cache_directory() / "bytecode"),
        **variables,
    }
    began = perf_counter()
    done = subprocess.run(
        [sys.executable, *command, *ALIKE, *arguments, "."],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    duration = perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"pytest failed in {directory.name}:\n{done.stdout}{done.stderr}")
    return duration
