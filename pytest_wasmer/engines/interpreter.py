"""The Python that runs the wheels in engine processes: a CPython 3.10, whatever Python runs the tests.

Nothing native is loaded here. What an interpreter says of itself is remembered for its file, so that later runs start
no process for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from pytest_wasmer.engines.remembered import Memory, identity

COMPILERS = ("singlepass", "cranelift", "llvm")
WHEEL_VERSION = "1.1.0"
PACKAGES = ("wasmer", *[f"wasmer_compiler_{name}" for name in COMPILERS])
WANTED = "cpython 3.10"
SETUP = "pytest-wasmer setup"
TIMEOUT = 60.0

HERE = "this Python"
PROVISIONED = f"the environment of {SETUP}"


class Named(NamedTuple):
    """A Python that a setting names: a program on PATH, or a file (relative ones start from `base`).

    `place`: the setting, as messages say it: "wasm_python (from pytest.ini)".
    """

    file: str
    place: str
    base: Path


class Interpreter(NamedTuple):
    """A Python, and `origin`: where it is from, as messages say it.

    `kind` is "cpython 3.10", `path` its sys.path, `suffixes` are those of its extension modules. One that cannot run
    the wheels has a `reason`, and a `remedy`, the line to type.
    """

    executable: str
    origin: str
    kind: str = ""
    version: str = ""
    path: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    reason: str = ""
    remedy: str = ""

    def library(self, package: str) -> Path | None:
        """The native library of an installed package, without importing it."""
        spec = PathFinder.find_spec(package, self.path)
        for folder in (spec.submodule_search_locations if spec else None) or []:
            for suffix in self.suffixes:
                library = Path(folder) / f"{package}{suffix}"
                if library.is_file():
                    return library
        return None

    def install(self, *wheels: str) -> str:
        """The line to type that installs wheels, each with its version, where this Python finds them."""
        if self.origin == PROVISIONED:
            return SETUP
        wanted = " ".join(wheels)
        return f"pip install {wanted}" if self.origin == HERE else f"uv pip install --python {self.executable} {wanted}"

    def __str__(self) -> str:
        return f"{self.executable} ({self.origin})"


def find(named: Named | None, cache: Path, *, anew: bool = False) -> Interpreter:
    """What a setting names; else this Python if it has wheels; else that of `pytest-wasmer setup`, if there is one."""
    if named is not None:
        return _named(named, cache, anew)
    here = this()
    if not here.reason and any(here.library(package) for package in PACKAGES):
        return here
    python = python_in(environment())
    return described(str(python), PROVISIONED, SETUP, cache, anew=anew) if python.is_file() else here


def environment() -> Path:
    """Where `pytest-wasmer setup` makes its environment. One per version of the wheels."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pytest-wasmer", appauthor=False)) / f"wheels-{WHEEL_VERSION}"


def python_in(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def this() -> Interpreter:
    """The Python that runs this."""
    kind = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
    found = Interpreter(
        sys.executable, HERE, kind, ".".join(map(str, sys.version_info[:3])), tuple(sys.path), tuple(EXTENSION_SUFFIXES)
    )
    if kind != WANTED:
        reason = f"the wasmer wheels exist for CPython 3.10 only, this is {kind}"
        return found._replace(reason=reason, remedy=SETUP)
    return found


def _named(named: Named, cache: Path, anew: bool) -> Interpreter:
    file = os.path.expanduser(named.file)
    file = str(named.base / file) if os.path.dirname(file) else shutil.which(file) or file
    return described(file, named.place, f"{SETUP}, then remove {named.place}", cache, anew=anew)


def described(executable: str, origin: str, remedy: str, cache: Path, *, anew: bool = False) -> Interpreter:
    """What another Python says of itself, now or earlier (unless `anew`)."""
    found = Interpreter(executable, origin)
    try:
        config = Path(executable).parent.parent / "pyvenv.cfg"
        key = [identity(executable), identity(config) if config.is_file() else None]
    except OSError as error:
        return found._replace(reason=f"{origin}: {executable}: {error.strerror}", remedy=remedy)
    memory = Memory(cache / "pythons", "python", key)
    known = None if anew else memory.recall(*_SAID)
    said = known or _ask(executable)
    if isinstance(said, str):
        return found._replace(reason=f"{origin}: {executable} does not start: {said}", remedy=remedy)
    found = found._replace(
        kind=said["kind"], version=said["version"], path=tuple(said["path"]), suffixes=tuple(said["suffixes"])
    )
    if found.kind != WANTED:
        reason = f"the wasmer wheels exist for CPython 3.10 only, {executable} is {found.kind} ({origin})"
        return found._replace(reason=reason, remedy=remedy)
    if known is None and any(map(found.library, PACKAGES)) and _is_same(executable, said["executable"]):
        memory.keep(**said)
    return found


def _is_same(executable: str, itself: str) -> bool:
    """False for a script that picks an interpreter: it may pick another one next time."""
    try:
        return os.path.samefile(executable, itself)
    except OSError:
        return False


_SAID = ("kind", "version", "path", "suffixes", "executable")
# Of an engine process's path: -I, as there. Python 2 can run it, too, and is told what is wrong with it.
_DESCRIBE = """
import json, sys
try:
    from importlib.machinery import EXTENSION_SUFFIXES as suffixes
except ImportError:
    suffixes = []
name = sys.implementation.name if hasattr(sys, 'implementation') else 'cpython'
print(json.dumps({
    'kind': '%s %d.%d' % ((name,) + tuple(sys.version_info[:2])),
    'version': '%d.%d.%d' % tuple(sys.version_info[:3]),
    'path': sys.path, 'suffixes': list(suffixes), 'executable': sys.executable,
}))
"""


def _ask(executable: str) -> dict[str, Any] | str:
    """What it says, or why it says nothing."""
    try:
        done = subprocess.run(
            [executable, "-I", "-c", _DESCRIBE],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {TIMEOUT:g} s"
    except OSError as error:
        return str(error.strerror)
    with suppress(ValueError):
        said = json.loads(done.stdout)
        if done.returncode == 0 and isinstance(said, dict) and {*said} == {*_SAID}:
            return said
    return last_words(done)


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of what went wrong, or how the process ended."""
    return (done.stderr.strip().splitlines()[-1:] or [ending(done.returncode)])[0]


def ending(status: int) -> str:
    """How a process ended, from its return code: "exit status 3", "killed by SIGSEGV"."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"
