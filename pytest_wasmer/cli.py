"""The command `pytest-wasmer`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from pytest_wasmer import __version__
from pytest_wasmer.engines.registry import COMPILERS, Registry

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("pytest-wasmer", description="Tools beside the pytest plugin")
    parser.add_argument("--version", action="version", version=f"pytest-wasmer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    doctor_parser = commands.add_parser("doctor", help="say which Wasmer compilers work here, and why others do not")
    doctor_parser.set_defaults(command=doctor)
    return int(parser.parse_args(arguments).command())


def doctor() -> int:
    """A line per compiler. Exit status 0 if all work, 1 if some do, 2 if none does."""
    cache = Path(platformdirs.user_cache_dir("pytest-wasmer", appauthor=False))
    found = [Registry([], cache).availability(name) for name in COMPILERS]
    for item in found:
        if item.works:
            print(f"{item.spec.name:<10}  works  {item.detail}")
        else:
            print(f"{item.spec.name:<10}  does not work: {item.reason}\n{'':<10}  {item.remedy}")
    return (0 if all(item.works for item in found) else 1) if any(item.works for item in found) else 2


if __name__ == "__main__":
    sys.exit(main())
