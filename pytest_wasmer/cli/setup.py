"""`pytest-wasmer setup`: the wheels, for Pythons that cannot have them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_wasmer.engines import provision
from pytest_wasmer.engines.interpreter import SETUP, environment
from pytest_wasmer.engines.provision import Failed
from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_wasmer.cli.engines import Commands

DESCRIPTION = """\
Makes a private environment of CPython 3.10 with the wasmer wheels and nothing else, in which tests under any Python
run native code. uv makes it (uv on PATH, or of pytest-wasmer[setup]), and downloads a CPython 3.10 where there is none.
Tests never download anything."""
EPILOG = "Exit status: 0 it is there and works, 2 it could not be made."

# Back to the start of the line, and clear it.
LINE = "\r\033[K"


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "setup", help="install the Wasmer compilers for Pythons other than 3.10", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("--python", metavar="PATH", help="the CPython 3.10 to use")
    parser.add_argument("--upgrade", action="store_true", help="make it anew, also if it works")
    parser.add_argument("--remove", action="store_true", help="delete it")
    parser.set_defaults(command=setup)


def setup(options: Namespace) -> int:
    """Raises `WasmError` for what could not be done."""
    try:
        return _remove() if options.remove else _provide(options)
    except Failed as failed:
        _progress("")
        raise WasmError(str(failed)) from None


def _remove() -> int:
    removed = provision.remove(_progress)
    _progress("")
    print(f"removed {removed}" if removed else f"nothing to remove: {environment()} does not exist")
    return 0


def _provide(options: Namespace) -> int:
    found = provision.provide(options.python, upgrade=options.upgrade, say=_progress)
    _progress("")
    works = f"{', '.join(found.working)} work on CPython {found.python.version}: {environment()}"
    print(works if found.made else f"nothing to do, {works} ({SETUP} --upgrade makes it anew)")
    for name, words in found.broken.items():
        print(f"{name} does not work: {words}")
    return 0


def _progress(text: str) -> None:
    """One line, on a terminal only; an empty one takes it away."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{LINE}{text[:100]}{'...' if text else ''}")
        sys.stderr.flush()
