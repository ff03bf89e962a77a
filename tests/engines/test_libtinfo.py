"""The repair that makes the LLVM wheel loadable, which touches no installed file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.engines import libtinfo
from tests.conftest import needs_wheels_here

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = b"libtinfo-91270aa7.so.5"
LIBRARY = b"\x7fELF\0libc.so.6\0" + NAME + b"\0_nc_init\0libtinfo.so.5.9\0"


def test_only_the_soname_changes() -> None:
    changed = libtinfo.renamed(LIBRARY, NAME)
    assert changed == b"\x7fELF\0libc.so.6\0libtinfo.so.5" + bytes(len(NAME) - 13) + b"\0_nc_init\0libtinfo.so.5.9\0"
    assert len(changed) == len(LIBRARY)


def test_a_name_of_the_same_length_fits() -> None:
    assert libtinfo.renamed(b"libtinfo-1.so\0rest", b"libtinfo-1.so") == b"libtinfo.so.5\0rest"


@pytest.mark.parametrize(
    ("library", "name"),
    [
        (LIBRARY, b"libtinfo-other.so.5"),
        (LIBRARY + NAME + b"\0", NAME),
        (NAME, NAME),
        (b"\0short.so\0", b"short.so"),
        (b"", NAME),
    ],
    ids=["absent", "twice", "not-terminated", "too-short", "empty"],
)
def test_what_does_not_fit_is_left_alone(library: bytes, name: bytes) -> None:
    assert libtinfo.renamed(library, name) is None


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[str]]:
    """Records what would be loaded; `works`: whether the system has the library, and loading succeeds."""

    def record(works: bool) -> list[str]:
        loaded: list[str] = []

        def load(path: str) -> bool:
            loaded.append(path)
            return works

        monkeypatch.setattr(libtinfo, "_load", load)
        return loaded

    return record


def test_a_library_of_the_system_is_enough(loads: Callable[[bool], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    loaded = loads(True)
    libtinfo.provide()
    assert loaded == ["libtinfo.so.5"]


def test_nothing_is_done_on_other_systems(loads: Callable[[bool], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    loaded = loads(False)
    libtinfo.provide()
    assert loaded == []


def test_nothing_is_done_without_the_wheel_s_own(
    loads: Callable[[bool], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "nowhere")])
    loaded = loads(False)
    libtinfo.provide()
    assert loaded == ["libtinfo.so.5"]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memfd_create is of Linux")
def test_the_copy_is_loaded_then_the_name(
    loads: Callable[[bool], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = tmp_path / "wasmer_compiler_llvm.libs" / NAME.decode()
    shipped.parent.mkdir()
    shipped.write_bytes(LIBRARY)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    seen: list[bytes] = []
    loads(False)

    def load(path: str) -> bool:
        if path.startswith("/proc/"):
            seen.append(Path(path).read_bytes())
            return True
        seen.append(path.encode())
        return len(seen) > 1

    monkeypatch.setattr(libtinfo, "_load", load)
    before = len(os.listdir("/proc/self/fd"))
    libtinfo.provide()
    assert seen == [b"libtinfo.so.5", libtinfo.renamed(LIBRARY, NAME), b"libtinfo.so.5"]
    assert len(os.listdir("/proc/self/fd")) == before
    assert shipped.read_bytes() == LIBRARY


def test_a_library_that_is_not_there() -> None:
    assert not libtinfo._load("/nowhere/libnothing.so")


def installed_files() -> dict[str, str]:
    """Hashes of all that the LLVM wheel installed."""
    import importlib.util

    spec = importlib.util.find_spec("wasmer_compiler_llvm")
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).parent.parent
    files = [
        file for name in ("wasmer_compiler_llvm", "wasmer_compiler_llvm.libs") for file in (site / name).rglob("*")
    ]
    found = [file for file in files if file.is_file() and file.suffix != ".pyc"]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


@needs_wheels_here
def test_llvm_loads_in_a_child_and_no_installed_file_changes() -> None:
    before = installed_files()
    assert any(NAME.decode().split("-")[0] in name for name in before)
    text = """
from pytest_wasmer.engines.wheels import WheelsEngine
engine = WheelsEngine("llvm")
module = engine.compile(bytes.fromhex("0061736d0100000001050160 00017f 03020100 07050101660000 0a06010400412a0b"))
_, (function,) = engine.instantiate(module, [])
print(engine.version, engine.caller(function, (), ("i32",))(()))
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("wasmer 1.1.0 (42,)\n", "", 0)
    assert installed_files() == before


@needs_wheels_here
def test_without_the_repair_it_would_not_load() -> None:
    """Says when the repair has become unnecessary: with another wheel, or another glibc."""
    done = subprocess.run([sys.executable, "-c", "import wasmer_compiler_llvm"], capture_output=True, timeout=60)
    if done.returncode == 0:
        pytest.skip("this system has a libtinfo.so.5")
    assert b"_dl_check_map_versions" in done.stderr or b"libtinfo" in done.stderr
