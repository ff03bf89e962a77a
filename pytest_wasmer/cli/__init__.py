"""The command `pytest-wasmer`: one module per group of commands."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import __version__
from pytest_wasmer.cli import artifacts, cache, check, compare, doctor, fuzz, repro, setup
from pytest_wasmer.runtime.errors import EngineLost, WasmError
from pytest_wasmer.wasm.errors import MissingExport

if TYPE_CHECKING:
    from collections.abc import Sequence

# What cannot be done, as argparse says it; and what shells make of SIGINT and SIGPIPE.
WRONG = 2
INTERRUPTED = 130
UNREAD = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status; 2 for what cannot be done, with the reason on stderr.

    130 for Ctrl-C; 141 where nobody reads to the end (`| head`).
    """
    parser = argparse.ArgumentParser("pytest-wasmer", description="Tools beside the pytest plugin")
    parser.add_argument("--version", action="version", version=f"pytest-wasmer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (doctor, setup, check, fuzz, repro, compare, artifacts, cache):
        group.add(commands)
    options = parser.parse_args(arguments)
    try:
        status = int(options.command(options))
        sys.stdout.flush()  # at exit a closed pipe would be a traceback
        return status
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except EngineLost as loss:
        print(f"pytest-wasmer: {loss.account}", file=sys.stderr)
    except (WasmError, MissingExport, OverflowError, pytest.UsageError) as error:
        print(f"pytest-wasmer: {error}", file=sys.stderr)
    except OSError as error:
        print(f"pytest-wasmer: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
