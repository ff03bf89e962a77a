"""Which backends there are, which of them work here, and for each that does not, why and the line to type.

Nothing native is loaded in this process: a probe in a child process loads a library, and what it found is
remembered for that library file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
# Wasmer's engine whose artifacts are shared objects; not in `all`.
DYLIBS = tuple(f"{compiler}-dylib" for compiler in COMPILERS)
WHEELS = "pytest_wasmer.engines.wheels:WheelsEngine"
WHEEL_VERSION = "1.1.0"
PROBE_TIMEOUT = 60.0
# gcc alone cannot link (Debian has the C library's part in libc6-dev), and then Dylib's compiles say `NO_LINK`.
INSTALL_GCC = "apt install gcc libc6-dev (or your system's way)"
NO_LINK = "Shared object file generator failed"


class BackendSpec(NamedTuple):
    """One way to turn Wasm into running code.

    `engine`: "module:factory", the adapter (`engines.api.Engine`), made as factory(argument) in the process that
    runs it. `python`: the interpreter of that process. `import_path`: a directory to import the adapter from.
    `identity`: what changes whenever artifacts of an older version cannot be loaded any more: version and digest, say.
    Without it artifacts are not stored. `scratch`: whether the engine leaves temporary files behind when it is killed;
    then its process has a TMPDIR of its own, which is removed with it.
    """

    name: str
    engine: str
    argument: str = ""
    python: str = sys.executable
    import_path: str | None = None
    identity: str = ""
    scratch: bool = False


class Availability(NamedTuple):
    """Whether a backend works here. Where it does not: `reason`, and `remedy`, the line to type.

    `library`: what tells apart the engine's library files, for keys of artifacts: SHA-256 of their contents.
    """

    spec: BackendSpec
    works: bool
    detail: str = ""
    reason: str = ""
    remedy: str = ""
    library: str = ""


class Registry:
    """The three Wasmer compilers of the wheels with each engine, and what plugins register, in a fixed order."""

    def __init__(self, registered: Sequence[BackendSpec], cache: Path) -> None:
        wheels = [BackendSpec(name, WHEELS, name) for name in COMPILERS]
        wheels += [BackendSpec(name, WHEELS, name, scratch=True) for name in DYLIBS]
        self._specs = {spec.name: spec for spec in [*wheels, *registered]}
        #: Compilers in whose place plugins have put something else.
        self.replaced = [spec for spec in registered if spec.name in {wheel.name for wheel in wheels}]
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
            ours = spec.engine.startswith("pytest_wasmer.")
            self._known[name] = self._wheel(spec) if ours else Availability(spec, True, library=spec.identity)
        return self._known[name]

    def _wheel(self, spec: BackendSpec) -> Availability:
        if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 10):
            this = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
            reason = f"the wasmer wheels exist for CPython 3.10 only, this is {this}"
            return Availability(spec, False, reason=reason, remedy="uv run --python 3.10 pytest")
        compiler, _, dylib = spec.argument.partition("-")
        package = f"wasmer_compiler_{compiler}"
        libraries = [_library(package), _library("wasmer")]
        if None in libraries:
            missing = package if libraries[0] is None else "wasmer"
            wheel = missing.replace("_", "-")
            reason = f"the {wheel} wheel is not installed"
            return Availability(spec, False, reason=reason, remedy=f"pip install {wheel}=={WHEEL_VERSION}")
        gcc = shutil.which("gcc") if dylib else ""
        if gcc is None:
            reason = "the Dylib engine links with gcc, which is not on PATH"
            return Availability(spec, False, reason=reason, remedy=INSTALL_GCC)
        return self._probed(spec, [library for library in libraries if library is not None], gcc)

    def _probed(self, spec: BackendSpec, libraries: list[Path], gcc: str) -> Availability:
        """What a probe of these files found, now or earlier. Only success is remembered: a remedy may touch no file."""
        key = json.dumps([spec.python, gcc, *[_identity(library) for library in libraries]])
        file = self._cache / "probes" / f"{spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(file.read_text())
            return Availability(spec, True, detail=str(found["detail"]), library=str(found["library"]))
        works, said = probe(spec)
        if NO_LINK in said:
            reason = f"the Dylib engine links with gcc, and {gcc} cannot link"
            return Availability(spec, False, reason=reason, remedy=INSTALL_GCC)
        if not works:
            remedy = f"pip install --force-reinstall wasmer-compiler-{spec.argument.partition('-')[0]}=={WHEEL_VERSION}"
            return Availability(spec, False, reason=f"{libraries[0].name} does not load: {said}", remedy=remedy)
        digest = _digest(libraries)
        with suppress(OSError):
            _write(file, json.dumps({"key": key, "detail": said, "library": digest}))
        return Availability(spec, True, detail=said, library=digest)


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
        with tempfile.TemporaryDirectory(prefix="pytest-wasmer-") as scratch:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=PROBE_TIMEOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": scratch},
            )
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


def _digest(libraries: Sequence[Path]) -> str:
    """SHA-256 of the contents, one after the other, each after its length (8 bytes, little-endian)."""
    digest = hashlib.sha256()
    for library in libraries:
        content = library.read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


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
