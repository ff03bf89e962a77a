"""Which backends there are, which of them work here, and for each that does not, why and the line to type.

Nothing native is loaded in this process: a probe in a child process loads a library, and what it found is
remembered for that library file.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPILERS = ("singlepass", "cranelift", "llvm")
WHEEL_VERSION = "1.1.0"
PROBE_TIMEOUT = 60.0


class BackendSpec(NamedTuple):
    """One way to turn Wasm into running code.

    `engine`: "module:factory", the adapter (`engines.api.Engine`), made as factory(argument) in the process that
    runs it. `python`: the interpreter of that process. `import_path`: a directory to import the adapter from.
    """

    name: str
    engine: str
    argument: str = ""
    python: str = sys.executable
    import_path: str | None = None


class Availability(NamedTuple):
    """Whether a backend works here. Where it does not: `reason`, and `remedy`, the line to type."""

    spec: BackendSpec
    works: bool
    detail: str = ""
    reason: str = ""
    remedy: str = ""


class Registry:
    """The three Wasmer compilers of the wheels, and what plugins register, in a fixed order."""

    def __init__(self, registered: Sequence[BackendSpec], cache: Path) -> None:
        wheels = [BackendSpec(name, "pytest_wasmer.engines.wheels:WheelsEngine", name) for name in COMPILERS]
        self._specs = {spec.name: spec for spec in [*wheels, *registered]}
        self._cache = cache
        self._known: dict[str, Availability] = {}

    @property
    def names(self) -> list[str]:
        return list(self._specs)

    def spec(self, name: str) -> BackendSpec:
        return self._specs[name]

    def availability(self, name: str) -> Availability:
        """Whether the backend works here; the first time a library is met, this runs a child process."""
        if name not in self._known:
            spec = self._specs[name]
            self._known[name] = (
                self._wheel(spec) if spec.engine.startswith("pytest_wasmer.") else Availability(spec, True)
            )
        return self._known[name]

    def _wheel(self, spec: BackendSpec) -> Availability:
        if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 10):
            this = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
            reason = f"the wasmer wheels exist for CPython 3.10 only, this is {this}"
            return Availability(spec, False, reason=reason, remedy="uv run --python 3.10 pytest")
        package = f"wasmer_compiler_{spec.name}"
        libraries = [_library(package), _library("wasmer")]
        if None in libraries:
            missing = package if libraries[0] is None else "wasmer"
            wheel = missing.replace("_", "-")
            reason = f"the {wheel} wheel is not installed"
            return Availability(spec, False, reason=reason, remedy=f"pip install {wheel}=={WHEEL_VERSION}")
        return self._probed(spec, [library for library in libraries if library is not None])

    def _probed(self, spec: BackendSpec, libraries: list[Path]) -> Availability:
        """What a probe of these files found, now or earlier. Only success is remembered: a remedy may touch no file."""
        key = json.dumps([spec.python, *[_identity(library) for library in libraries]])
        file = self._cache / "probes" / f"{spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            return Availability(spec, True, detail=str(json.loads(file.read_text())["detail"]))
        works, said = probe(spec)
        if not works:
            remedy = f"pip install --force-reinstall wasmer-compiler-{spec.name}=={WHEEL_VERSION}"
            return Availability(spec, False, reason=f"{libraries[0].name} does not load: {said}", remedy=remedy)
        with suppress(OSError):
            _write(file, json.dumps({"key": key, "detail": said}))
        return Availability(spec, True, detail=said)


def probe(spec: BackendSpec) -> tuple[bool, str]:
    """Load the engine in a child process and run a function. Its version, or why not."""
    # -I: nothing of the user's environment or directory may take part.
    command = [
        spec.python,
        "-I",
        "-c",
        _PROBE,
        str(Path(__file__).resolve().parent.parent),
        spec.engine,
        spec.argument,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return False, f"no answer in {PROBE_TIMEOUT:g} s"
    except OSError as error:
        return False, f"{spec.python}: {error.strerror}"
    if done.returncode == 0 and done.stdout.startswith("ok "):
        return True, done.stdout[3:].strip()
    last = done.stderr.strip().splitlines()[-1:] or [ending(done.returncode)]
    return False, last[0]


def ending(status: int) -> str:
    """How a process ended, from its return code: "exit status 3", "killed by SIGSEGV"."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


# The module is (func (export "answer") (result i32) i32.const 42).
_PROBE = """
import sys
package = type(sys)('pytest_wasmer'); package.__path__ = [sys.argv[1]]; sys.modules['pytest_wasmer'] = package
from pytest_wasmer.runtime.executor import Executor, make_engine
engine = make_engine(sys.argv[2], sys.argv[3])
executor = Executor(engine, None)
wasm = bytes.fromhex('0061736d010000000105016000017f03020100070a0106616e7377657200000a06010400412a0b')
module, _ = executor.compile(wasm)
assert executor.call(executor.instantiate(module, []) + 1, ()) == (42,)
print('ok', engine.version)
sys.stdout.flush()
"""


def _library(package: str) -> Path | None:
    """The native library of an installed package, without importing it."""
    spec = PathFinder.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        for suffix in EXTENSION_SUFFIXES:
            library = Path(folder) / f"{package}{suffix}"
            if library.is_file():
                return library
    return None


def _identity(library: Path) -> tuple[str, int, int]:
    status = library.stat()
    return str(library), status.st_size, status.st_mtime_ns


def _write(file: Path, text: str) -> None:
    """All of it or nothing, whoever else writes or reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.replace(temporary, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
