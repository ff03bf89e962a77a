"""The command `pytest-wasmer`: one module per group of commands."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import __version__
from pytest_wasmer.cli import artifacts, cache, check, doctor, setup
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm.errors import MissingExport

if TYPE_CHECKING:
    from collections.abc import Sequence

# What cannot be done, as argparse says it.
WRONG = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status; 2 for what cannot be done, with the reason on stderr."""
    parser = argparse.ArgumentParser("pytest-wasmer", description="Tools beside the pytest plugin")
    parser.add_argument("--version", action="version", version=f"pytest-wasmer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (doctor, setup, check, artifacts, cache):
        group.add(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.command(options))
    except (WasmError, MissingExport, OverflowError, pytest.UsageError) as error:
        print(f"pytest-wasmer: {error}", file=sys.stderr)
    except OSError as error:
        print(f"pytest-wasmer: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
