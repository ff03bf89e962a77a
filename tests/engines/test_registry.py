"""Which backends work here, and what is said of those that do not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_wasmer.engines import registry
from pytest_wasmer.engines.registry import COMPILERS, DYLIBS, Availability, BackendSpec, Registry, command_of, probe
from tests.conftest import FAKES, HERE, WHEELS, needs_wheels

if TYPE_CHECKING:
    from pathlib import Path


class Version(NamedTuple):
    major: int
    minor: int
    micro: int = 0


class Probes:
    """Stands in for the child process: counts, and answers as told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = (True, "wasmer 1.1.0")

    def __call__(self, spec: BackendSpec) -> tuple[bool, str]:
        self.asked.append(spec.name)
        return self.answer


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Probes:
    found = Probes()
    monkeypatch.setattr(registry, "probe", found)
    return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python 3.10 whose wheels are files of no content."""
    folder = tmp_path / "site"
    for package in ("wasmer", *[f"wasmer_compiler_{name}" for name in COMPILERS]):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
        (folder / package / f"{package}{EXTENSION_SUFFIXES[0]}").write_bytes(b"library")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(sys, "version_info", Version(3, 10))
    monkeypatch.setattr(registry.sys.implementation, "name", "cpython")
    return folder


def library(site: Path, package: str) -> Path:
    return site / package / f"{package}{EXTENSION_SUFFIXES[0]}"


# Names and order


def test_the_compilers_come_first_in_their_fixed_order(tmp_path: Path) -> None:
    assert Registry([], tmp_path).names == [*COMPILERS, *DYLIBS]
    assert COMPILERS == ("singlepass", "cranelift", "llvm")
    assert DYLIBS == ("singlepass-dylib", "cranelift-dylib", "llvm-dylib")
    assert Registry(FAKES, tmp_path).names == [*COMPILERS, *DYLIBS, "fake-a", "fake-b", "fake-c"]


def test_specs_of_the_compilers(site: Path, tmp_path: Path) -> None:
    assert Registry([], tmp_path).spec("llvm") == BackendSpec(
        "llvm", "pytest_wasmer.engines.wheels:WheelsEngine", "llvm", sys.executable, None, folders=(str(site),)
    )


def test_wheels_in_two_places_and_in_none(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (site / "wasmer").rename(other / "wasmer")
    sys.path.append(str(other))
    assert Registry([], tmp_path).spec("llvm").folders == (str(site), str(other))
    shutil.rmtree(site / "wasmer_compiler_llvm")
    assert Registry([], tmp_path).spec("llvm").folders == (str(other),)
    shutil.rmtree(other / "wasmer")
    assert Registry([], tmp_path).spec("llvm").folders == ()


def test_only_an_engine_that_is_found_does_without_site_packages() -> None:
    assert command_of(BackendSpec("a", "a:A", python="python")) == ["python", "-I"]
    assert command_of(BackendSpec("a", "a:A", python="python", folders=("b",))) == ["python", "-I", "-S"]


def test_specs_of_the_dylib_backends(site: Path, tmp_path: Path) -> None:
    for name in DYLIBS:
        assert Registry([], tmp_path).spec(name) == BackendSpec(
            name, registry.WHEELS, name, scratch=True, folders=(str(site),)
        )
    assert not any(Registry([], tmp_path).spec(name).scratch for name in COMPILERS)


def test_a_registered_backend_may_replace_a_compiler_in_its_place(tmp_path: Path, probes: Probes) -> None:
    mine = BackendSpec("cranelift", "mine:Engine")
    found = Registry([mine], tmp_path)
    assert found.names == [*COMPILERS, *DYLIBS]
    assert found.spec("cranelift") is mine


def test_what_plugins_register_is_taken_at_its_word(tmp_path: Path, probes: Probes) -> None:
    assert Registry(FAKES, tmp_path).availability("fake-a") == Availability(FAKES[0], True, library=FAKES[0].identity)
    assert probes.asked == []


# The right Python, the wheels


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize(
    ("implementation", "version", "this"),
    [("cpython", (3, 12), "cpython 3.12"), ("cpython", (3, 11), "cpython 3.11"), ("pypy", (3, 10), "pypy 3.10")],
    ids=["3.12", "3.11", "pypy"],
)
def test_another_python(
    site: Path,
    tmp_path: Path,
    probes: Probes,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    implementation: str,
    version: tuple[int, int],
    this: str,
) -> None:
    monkeypatch.setattr(sys, "version_info", Version(*version))
    monkeypatch.setattr(registry.sys.implementation, "name", implementation)
    found = Registry([], tmp_path).availability(name)
    assert not found.works
    assert found.reason == f"the wasmer wheels exist for CPython 3.10 only, this is {this}"
    assert found.remedy == "pytest-wasmer setup"
    assert probes.asked == []


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="the wheels exist for this Python")
def test_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    found = Registry([], tmp_path)
    assert [found.availability(name).works for name in COMPILERS] == [False, False, False]


def test_a_missing_compiler_wheel(site: Path, tmp_path: Path, probes: Probes) -> None:
    library(site, "wasmer_compiler_llvm").unlink()
    found = Registry([], tmp_path)
    assert found.availability("llvm")[1:5] == (
        False,
        "",
        "the wasmer-compiler-llvm wheel is not installed",
        "pip install wasmer-compiler-llvm==1.1.0",
    )
    assert found.availability("cranelift").works
    assert probes.asked == ["cranelift"]


def test_without_the_wasmer_wheel_none_works(site: Path, tmp_path: Path, probes: Probes) -> None:
    library(site, "wasmer").unlink()
    found = Registry([], tmp_path)
    for name in COMPILERS:
        assert found.availability(name)[1:5] == (
            False,
            "",
            "the wasmer wheel is not installed",
            "pip install wasmer==1.1.0",
        )
    assert probes.asked == []


def test_no_package_at_all(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nothing")])
    assert Registry([], tmp_path).availability("singlepass").reason == (
        "the wasmer-compiler-singlepass wheel is not installed"
    )


# The Dylib engine


@pytest.fixture
def gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only program on PATH."""
    program = tmp_path / "bin" / "gcc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


@pytest.mark.parametrize("name", DYLIBS)
def test_without_gcc_no_dylib_works(site: Path, gcc: Path, tmp_path: Path, probes: Probes, name: str) -> None:
    Registry([], tmp_path).availability(name)
    gcc.unlink()
    found = Registry([], tmp_path)
    assert found.availability(name) == Availability(
        found.spec(name),
        False,
        reason="the Dylib engine links with gcc, which is not on PATH",
        remedy="apt install gcc libc6-dev (or your system's way)",
    )
    assert found.availability(name.removesuffix("-dylib")).works
    assert probes.asked == [name, name.removesuffix("-dylib")], "nor is it asked for"


def test_a_gcc_that_cannot_link(site: Path, gcc: Path, tmp_path: Path, probes: Probes) -> None:
    probes.answer = (False, "Refused: ('compile', 'Compilation error: Shared object file generator failed with: ...')")
    found = Registry([], tmp_path).availability("llvm-dylib")
    assert (found.works, found.reason, found.remedy) == (
        False,
        f"the Dylib engine links with gcc, and {gcc} cannot link",
        "apt install gcc libc6-dev (or your system's way)",
    )


def test_a_dylib_backend_has_the_remedies_of_its_compiler(
    site: Path, gcc: Path, tmp_path: Path, probes: Probes
) -> None:
    probes.answer = (False, "killed by SIGSEGV")
    broken = Registry([], tmp_path).availability("llvm-dylib")
    assert broken.reason == f"{library(site, 'wasmer_compiler_llvm').name} does not load: killed by SIGSEGV"
    assert broken.remedy == "pip install --force-reinstall wasmer-compiler-llvm==1.1.0"
    library(site, "wasmer_compiler_llvm").unlink()
    assert Registry([], tmp_path).availability("llvm-dylib").remedy == "pip install wasmer-compiler-llvm==1.1.0"


def test_another_gcc_is_probed_again(
    site: Path, gcc: Path, tmp_path: Path, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("llvm-dylib", "llvm")
    first = [Registry([], tmp_path).availability(name) for name in names]
    (tmp_path / "other").mkdir()
    gcc.rename(tmp_path / "other" / "gcc")
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    second = [Registry([], tmp_path).availability(name) for name in names]
    assert first == second
    assert probes.asked == ["llvm-dylib", "llvm", "llvm-dylib"]
    assert first[0].library == first[1].library == digest_of(site)


@needs_wheels
@pytest.mark.parametrize("name", DYLIBS)
def test_a_real_gcc_that_cannot_link(gcc: Path, tmp_path: Path, name: str) -> None:
    gcc.write_text("#!/bin/sh\necho 'ld: cannot find -lc' >&2\nexit 1\n")
    found = Registry([], tmp_path).availability(name)
    assert found.reason == f"the Dylib engine links with gcc, and {gcc} cannot link"


# The digest of the library files


def test_the_digest_is_that_of_the_contents(site: Path, tmp_path: Path, probes: Probes) -> None:
    """However they are called and whenever they were written."""
    first = Registry([], tmp_path).availability("llvm").library
    assert first == digest_of(site)
    newer(library(site, "wasmer"))
    assert Registry([], tmp_path).availability("llvm").library == first
    for package in ("wasmer", "wasmer_compiler_llvm"):
        before = Registry([], tmp_path).availability("llvm").library
        larger(library(site, package))
        assert Registry([], tmp_path).availability("llvm").library == digest_of(site) != before


def test_nothing_is_hashed_twice(site: Path, tmp_path: Path, probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Registry([], tmp_path).availability("llvm")
    monkeypatch.setattr(registry, "_digest", lambda _: pytest.fail("hashed on a warm run"))
    assert Registry([], tmp_path).availability("llvm") == known


def test_a_registered_backend_says_what_its_artifacts_depend_on(tmp_path: Path) -> None:
    specs = [BackendSpec("named", "mine:Engine", identity="mine 7"), BackendSpec("nameless", "mine:Engine")]
    found = Registry(specs, tmp_path)
    assert [found.availability(spec.name).library for spec in specs] == ["mine 7", ""]


# What a probe found


def digest_of(site: Path) -> str:
    """Of the files that this test put there."""
    contents = [library(site, package).read_bytes() for package in ("wasmer_compiler_llvm", "wasmer")]
    return hashlib.sha256(b"".join(len(text).to_bytes(8, "little") + text for text in contents)).hexdigest()


def test_a_probe_file_of_an_older_version_counts_as_none(site: Path, tmp_path: Path, probes: Probes) -> None:
    Registry([], tmp_path).availability("llvm")
    (file,) = (tmp_path / "probes").iterdir()
    file.write_text(json.dumps({"key": "", "detail": "wasmer 1.1.0"}))
    assert Registry([], tmp_path).availability("llvm").library == digest_of(site)
    assert probes.asked == ["llvm", "llvm"]


def test_a_working_library_is_probed_once_and_remembered(site: Path, tmp_path: Path, probes: Probes) -> None:
    cache = tmp_path / "cache"
    first = Registry([], cache)
    spec = first.spec("llvm")
    known = Availability(spec, True, "wasmer 1.1.0", library=digest_of(site))
    assert [first.availability("llvm") for _ in range(2)] == [known] * 2
    assert probes.asked == ["llvm"]
    assert Registry([], cache).availability("llvm") == known
    assert probes.asked == ["llvm"]
    Registry([], tmp_path / "other cache").availability("llvm")
    assert probes.asked == ["llvm", "llvm"]


def test_each_compiler_has_its_own_probe(site: Path, tmp_path: Path, probes: Probes) -> None:
    found = Registry([], tmp_path)
    assert [found.availability(name).works for name in COMPILERS] == [True, True, True]
    assert probes.asked == list(COMPILERS)


def newer(file: Path) -> None:
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def larger(file: Path) -> None:
    status = file.stat()
    file.write_bytes(file.read_bytes() + b"more")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [newer, larger])
@pytest.mark.parametrize("package", ["wasmer", "wasmer_compiler_llvm"])
def test_a_changed_library_is_probed_again(
    site: Path, tmp_path: Path, probes: Probes, change: Any, package: str
) -> None:
    Registry([], tmp_path).availability("llvm")
    change(library(site, package))
    Registry([], tmp_path).availability("llvm")
    Registry([], tmp_path).availability("llvm")
    assert probes.asked == ["llvm", "llvm"]


def test_a_library_elsewhere_is_probed_again(
    site: Path, tmp_path: Path, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registry([], tmp_path).availability("llvm")
    site.rename(tmp_path / "moved")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "moved")])
    Registry([], tmp_path).availability("llvm")
    assert probes.asked == ["llvm", "llvm"]


def test_another_interpreter_is_probed_again(site: Path, tmp_path: Path, probes: Probes) -> None:
    Registry([], tmp_path).availability("llvm")
    wheels = Registry([], tmp_path)
    wheels.interpreter = wheels.interpreter._replace(executable="/another/python3.10")
    assert wheels.spec("llvm").python == "/another/python3.10"
    wheels.availability("llvm")
    assert probes.asked == ["llvm", "llvm"]


def test_a_failing_probe_gives_reason_and_remedy_and_is_not_remembered(
    site: Path, tmp_path: Path, probes: Probes
) -> None:
    probes.answer = (False, "Inconsistency detected by ld.so")
    failed = Registry([], tmp_path).availability("llvm")
    name = library(site, "wasmer_compiler_llvm").name
    assert failed[1:5] == (
        False,
        "",
        f"{name} does not load: Inconsistency detected by ld.so",
        "pip install --force-reinstall wasmer-compiler-llvm==1.1.0",
    )
    probes.answer = (True, "wasmer 1.1.0")
    assert Registry([], tmp_path).availability("llvm").works, "what was wrong may have been mended"
    assert probes.asked == ["llvm", "llvm"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", '"text"', '{"details": 1}', "\0" * 100, b"\xff\xfe"], ids=repr
)
def test_a_damaged_memory_is_only_a_probe_more(
    site: Path, tmp_path: Path, probes: Probes, content: str | bytes
) -> None:
    Registry([], tmp_path).availability("llvm")
    (file,) = (tmp_path / "probes").iterdir()
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    assert Registry([], tmp_path).availability("llvm").detail == "wasmer 1.1.0"
    assert probes.asked == ["llvm", "llvm"]
    assert Registry([], tmp_path).availability("llvm").works
    assert probes.asked == ["llvm", "llvm"], "mended"


def test_a_cache_that_cannot_be_written_works(site: Path, tmp_path: Path, probes: Probes) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for _ in range(2):
        assert Registry([], blocked / "cache").availability("llvm").works
    assert probes.asked == ["llvm", "llvm"]


def test_nothing_is_left_of_a_write_that_fails(
    site: Path, tmp_path: Path, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    assert Registry([], tmp_path).availability("llvm").works
    assert list((tmp_path / "probes").iterdir()) == []


def test_what_is_remembered_says_of_what(site: Path, tmp_path: Path, probes: Probes) -> None:
    Registry([], tmp_path).availability("llvm")
    (file,) = (tmp_path / "probes").iterdir()
    assert file.name.startswith("llvm-")
    content = json.loads(file.read_text())
    assert content["detail"] == "wasmer 1.1.0"
    assert str(library(site, "wasmer_compiler_llvm")) in content["key"]


# The probe itself


def test_a_probe_runs_the_engine() -> None:
    spec = BackendSpec("working", "pytest_wasmer.engines.api:Engine")
    works, said = probe(spec)
    assert not works
    assert said.startswith(("TypeError", "NotImplementedError"))


@needs_wheels
@pytest.mark.parametrize("name", COMPILERS)
def test_a_probe_of_each_compiler(name: str, tmp_path: Path) -> None:
    assert probe(Registry([], tmp_path).spec(name)) == (True, "wasmer 1.1.0")


@needs_wheels
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the Dylib engine links with gcc")
@pytest.mark.parametrize("name", DYLIBS)
def test_a_probe_leaves_no_file(name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its process is killed, which leaves a dylib engine's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spec = Registry([], cache).spec(name)
    assert probe(spec) == (True, "wasmer 1.1.0")
    monkeypatch.setattr(registry, "_PROBE", f"{registry._PROBE}import os; os.kill(os.getpid(), 9)")
    assert probe(spec) == (False, "killed by SIGKILL")
    assert list(tmp_path.iterdir()) == []


@needs_wheels
def test_a_probe_is_not_disturbed_by_the_user_s_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wasmer.py", "struct.py", "json.py", "wasmer_compiler_singlepass.py"):
        (tmp_path / name).write_text("raise SystemExit('the user module was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert probe(Registry([], tmp_path).spec("singlepass")) == (True, "wasmer 1.1.0")


def test_a_probe_of_another_python_leaves_no_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the modules of this package, which are of the Python that runs the tests."""
    shutil.copytree(HERE.parent / "pytest_wasmer", tmp_path / "pytest_wasmer", ignore=lambda *_: ["__pycache__"])
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "pytest_wasmer" / "engines" / "registry.py"))
    assert probe(BackendSpec("working", "pytest_wasmer.engines.api:Engine"))[0] is False
    assert list(tmp_path.rglob("__pycache__")) == []


def test_a_probe_tells_the_last_line_of_what_went_wrong() -> None:
    assert probe(BackendSpec("broken", "no_such_module:Engine")) == (
        False,
        "ModuleNotFoundError: No module named 'no_such_module'",
    )
    works, said = probe(BackendSpec("nowhere", "os:getpid", python="/nowhere/python"))
    assert (works, said) == (False, "/nowhere/python: No such file or directory")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.abort()", "killed by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("raise SystemExit(3)", "exit status 3"),
        ("print('something else')", "exit status 0"),
    ],
    ids=["abort", "segfault", "exit", "silent"],
)
def test_a_probe_that_dies(monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    monkeypatch.setattr(registry, "_PROBE", script)
    assert probe(BackendSpec("dead", "unused")) == (False, said)


def test_a_probe_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PROBE", "while True: pass")
    monkeypatch.setattr(registry, "PROBE_TIMEOUT", 0.1)
    assert probe(BackendSpec("slow", "unused")) == (False, "no answer in 0.1 s")


# Nothing native in this process


LOOK = """
import sys
from pathlib import Path
from pytest_wasmer.engines.registry import COMPILERS, Registry
registry = Registry([], Path(sys.argv[1]))
works = [registry.availability(name).works for name in COMPILERS]
print(works)
print(sorted(name for name in sys.modules if name.startswith("wasmer")))
maps = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
print("wasmer" in maps.replace("pytest_wasmer", "").replace("pytest-wasmer", ""), "libtinfo" in maps)
"""


@pytest.mark.parametrize("remembered", [False, True])
def test_asking_loads_nothing_native(tmp_path: Path, remembered: bool) -> None:
    for _ in range(2 if remembered else 1):
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            cwd=tmp_path,
        )
    expected = [WHEELS] * 3
    assert done.stdout.splitlines() == [str(expected), "[]", "False False"]


def test_folders_come_in_the_order_of_the_path(site: Path, tmp_path: Path) -> None:
    """Else what the second one has of the same name would hide what was found in the first."""
    own = tmp_path / "own"
    (own / "wasmer").mkdir(parents=True)
    (own / "wasmer" / "__init__.py").touch()
    library(own, "wasmer").write_bytes(b"another library")
    sys.path.insert(0, f"{own}{os.sep}")
    assert Registry([], tmp_path).spec("llvm").folders == (str(own), str(site))
    sys.path[:] = [str(site), str(own)]
    assert Registry([], tmp_path).spec("llvm").folders == (str(site),)
