"""Which backends there are, which of them work here, and for each that does not, why and the line to type.

Nothing native is loaded in this process: a probe in a child process loads a library, and what it found is
remembered for that library file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.engines import interpreter
from pytest_wasmer.engines.interpreter import COMPILERS, WHEEL_VERSION, last_words
from pytest_wasmer.engines.remembered import Memory, identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_wasmer.engines.interpreter import Interpreter, Named

# Of `interpreter`, for those who ask for backends by name.
__all__ = ["COMPILERS", "WHEEL_VERSION"]

# Wasmer's engine whose artifacts are shared objects; not in `all`.
DYLIBS = tuple(f"{compiler}-dylib" for compiler in COMPILERS)
WHEELS = "pytest_wasmer.engines.wheels:WheelsEngine"
PACKAGE = Path(__file__).resolve().parent.parent
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
    then its process has a TMPDIR of its own, which is removed with it. `folders`: where all is that it imports, if
    that is known: then nothing else of that Python's site-packages is looked at, which takes a quarter of the start.
    """

    name: str
    engine: str
    argument: str = ""
    python: str = sys.executable
    import_path: str | None = None
    identity: str = ""
    scratch: bool = False
    folders: tuple[str, ...] = ()


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
    """The three Wasmer compilers of the wheels with each engine, and what plugins register, in a fixed order.

    `named`: the Python that a setting names for the wheels. `anew`: believe nothing that earlier runs found out.
    """

    def __init__(
        self, registered: Sequence[BackendSpec], cache: Path, named: Named | None = None, *, anew: bool = False
    ) -> None:
        wheels = [BackendSpec(name, WHEELS, name) for name in COMPILERS]
        wheels += [BackendSpec(name, WHEELS, name, scratch=True) for name in DYLIBS]
        self._specs = {spec.name: spec for spec in [*wheels, *registered]}
        #: Compilers in whose place plugins have put something else.
        self.replaced = [spec for spec in registered if spec.name in {wheel.name for wheel in wheels}]
        self._cache = cache
        self._named = named
        self._anew = anew
        self._known: dict[str, Availability] = {}
        self._found: dict[str, BackendSpec] = {}

    @property
    def names(self) -> list[str]:
        return list(self._specs)

    @cached_property
    def interpreter(self) -> Interpreter:
        """The Python that runs the wheels."""
        return interpreter.find(self._named, self._cache, anew=self._anew)

    def spec(self, name: str) -> BackendSpec:
        if name not in self._found:
            spec = self._specs[name]
            self._found[name] = self._of_wheels(spec) if _is_ours(spec) else spec
        return self._found[name]

    def _of_wheels(self, spec: BackendSpec) -> BackendSpec:
        python = self.interpreter
        folders = {str(library.parent.parent) for library in map(python.library, _packages(spec)) if library}
        # In the order of its path: the first one may have a package of the same name as what is wanted of the second.
        places = [str(Path(entry)) for entry in python.path]
        in_order = sorted(folders, key=lambda folder: places.index(folder) if folder in places else 0)
        return spec._replace(python=python.executable, folders=tuple(in_order))

    def availability(self, name: str) -> Availability:
        """Whether the backend works here; the first time a library is met, this runs a child process."""
        if name not in self._known:
            spec = self.spec(name)
            self._known[name] = self._wheel(spec) if _is_ours(spec) else Availability(spec, True, library=spec.identity)
        return self._known[name]

    def _wheel(self, spec: BackendSpec) -> Availability:
        python = self.interpreter
        if python.reason:
            return Availability(spec, False, reason=python.reason, remedy=python.remedy)
        found = {package: python.library(package) for package in _packages(spec)}
        libraries = [library for library in found.values() if library is not None]
        missing = [_pinned(package) for package, library in found.items() if library is None]
        if missing:
            where = "" if python.origin == interpreter.HERE else f" in {python}"
            reason = f"the {missing[0].partition('==')[0]} wheel is not installed{where}"
            return Availability(spec, False, reason=reason, remedy=python.install(*missing))
        gcc = shutil.which("gcc") if spec.argument.endswith("-dylib") else ""
        if gcc is None:
            reason = "the Dylib engine links with gcc, which is not on PATH"
            return Availability(spec, False, reason=reason, remedy=INSTALL_GCC)
        return self._probed(spec, libraries, gcc)

    def _probed(self, spec: BackendSpec, libraries: list[Path], gcc: str) -> Availability:
        """What a probe of these files found, now or earlier. Only success is remembered: a remedy may touch no file."""
        key = [spec.python, gcc, *map(identity, libraries)]
        memory = Memory(self._cache / "probes", spec.name, key)
        known = None if self._anew else memory.recall("detail", "library")
        if known is not None:
            return Availability(spec, True, detail=str(known["detail"]), library=str(known["library"]))
        mixed = self._mixed(spec, libraries)
        if mixed is not None:
            return mixed
        works, said = probe(spec)
        if works:
            digest = _digest(libraries)
            memory.keep(detail=said, library=digest)
            return Availability(spec, True, detail=said, library=digest)
        memory.forget()
        if NO_LINK in said:
            reason = f"the Dylib engine links with gcc, and {gcc} cannot link"
            return Availability(spec, False, reason=reason, remedy=INSTALL_GCC)
        remedy = self.interpreter.install("--force-reinstall", _pinned(libraries[0].parent.name))
        return Availability(spec, False, reason=f"{libraries[0].name} does not load: {said}", remedy=remedy)

    def _mixed(self, spec: BackendSpec, libraries: list[Path]) -> Availability | None:
        """What is wrong with wheels of different versions: one that loads may still misread what the other hands it."""
        versions = {library.parent.name: version_of(library) for library in libraries}
        if len({*versions.values()} - {""}) < 2:
            return None
        wheels = " and ".join(f"{package.replace('_', '-')} {version}" for package, version in versions.items())
        remedy = self.interpreter.install(*map(_pinned, versions))
        return Availability(spec, False, reason=f"{wheels} do not belong together", remedy=remedy)


def _is_ours(spec: BackendSpec) -> bool:
    return spec.engine.startswith("pytest_wasmer.")


def _packages(spec: BackendSpec) -> tuple[str, str]:
    return f"wasmer_compiler_{spec.argument.partition('-')[0]}", "wasmer"


def _pinned(package: str) -> str:
    return f"{package.replace('_', '-')}=={WHEEL_VERSION}"


def version_of(library: Path) -> str:
    """Of the wheel that a library is of; "" where that cannot be told."""
    found = [folder.name for folder in library.parent.parent.glob(f"{library.parent.name}-*.dist-info")]
    return found[0].removesuffix(".dist-info").rpartition("-")[2] if len(found) == 1 else ""


def command_of(spec: BackendSpec) -> list[str]:
    """Its Python, which lets nothing of the user's environment or directory take part."""
    return [spec.python, "-I", *(["-S"] if spec.folders else [])]


def probe(spec: BackendSpec) -> tuple[bool, str]:
    """Load the engine in a child process and run a function. Its version, or why not."""
    # -B: another Python leaves no bytecode here.
    command = [*command_of(spec), "-B", "-c", _PROBE, str(PACKAGE), spec.engine, spec.argument, *spec.folders]
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
        return False, ": ".join(filter(None, [error.filename, error.strerror]))
    if done.returncode == 0 and done.stdout.startswith("ok "):
        return True, done.stdout[3:].strip()
    return False, last_words(done)


# The module is (func (export "answer") (result i32) i32.const 42).
_PROBE = """
import sys
package = type(sys)('pytest_wasmer'); package.__path__ = [sys.argv[1]]; sys.modules['pytest_wasmer'] = package
from pytest_wasmer.runtime.executor import Executor, make_engine
sys.path += sys.argv[4:]
engine = make_engine(sys.argv[2], sys.argv[3])
executor = Executor(engine, None)
wasm = bytes.fromhex('0061736d010000000105016000017f03020100070a0106616e7377657200000a06010400412a0b')
module, _ = executor.compile(wasm)
assert executor.call(executor.instantiate(module, []) + 1, ()) == (42,)
print('ok', engine.version)
sys.stdout.flush()
"""


def _digest(libraries: Sequence[Path]) -> str:
    """SHA-256 of the contents, one after the other, each after its length (8 bytes, little-endian)."""
    digest = hashlib.sha256()
    for library in libraries:
        content = library.read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
