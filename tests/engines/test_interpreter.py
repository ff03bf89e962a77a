"""Which Python runs the wheels, and what is said of one that cannot."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from pytest_wasmer.engines import interpreter
from pytest_wasmer.engines.interpreter import Interpreter, Named, find
from pytest_wasmer.engines.registry import COMPILERS, Registry
from tests.conftest import PYTHON_WITH_WHEELS, WHEELS_HERE, needs_wheels
from tests.engines.workbench import PACKAGES, add_real, bare_environment, real_site, site_of

PLACE = "wasm_python (from pytest.ini)"
REMEDY = f"pytest-wasmer setup, then remove {PLACE}"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `pytest-wasmer setup` would have made its environment."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "pytest-wasmer"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def named(python: object, base: Path = Path("/nowhere")) -> Named:
    return Named(str(python), PLACE, base)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# In which order


@needs_wheels
def test_what_a_setting_names_comes_first(tmp_path: Path, cache: Path) -> None:
    python = bare_environment(tmp_path / "mine")
    add_real(tmp_path / "mine")
    found = find(named(python), cache)
    assert found == Interpreter(
        str(python), PLACE, "cpython 3.10", PYTHON_WITH_WHEELS.version, found.path, PYTHON_WITH_WHEELS.suffixes
    )
    assert str(site_of(tmp_path / "mine")) in found.path
    library = found.library("wasmer_compiler_llvm")
    assert library is not None
    assert library.parent.parent == site_of(tmp_path / "mine")


@pytest.mark.skipif(not WHEELS_HERE, reason="this Python has no wheels")
def test_then_this_one(cache: Path, data: Path) -> None:
    bare_environment(data / "wheels-1.1.0")
    found = find(None, cache)
    assert (found.executable, found.origin, found.reason) == (sys.executable, "this Python", "")
    assert not cache.exists(), "nobody was asked"


@needs_wheels
def test_then_that_of_setup(cache: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    python = bare_environment(data / "wheels-1.1.0")
    add_real(data / "wheels-1.1.0")
    found = find(None, cache)
    assert (found.executable, found.origin, found.reason) == (
        str(python), "the environment of pytest-wasmer setup", "",
    )  # fmt: skip
    assert [Registry([], cache).spec(name).python for name in COMPILERS] == [str(python)] * 3


def test_without_any_it_is_this_one_and_why_not(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    found = find(None, cache)
    assert found.executable == sys.executable
    if sys.version_info[:2] != (3, 10):
        this = f"cpython {sys.version_info[0]}.{sys.version_info[1]}"
        assert found.reason == f"the wasmer wheels exist for CPython 3.10 only, this is {this}"
        assert found.remedy == "pytest-wasmer setup"


# What a setting may name


@needs_wheels
def test_a_relative_path_starts_from_the_base(tmp_path: Path, cache: Path) -> None:
    python = bare_environment(tmp_path / "mine")
    assert find(named("mine/bin/python", tmp_path), cache).executable == str(python)


@needs_wheels
def test_a_name_is_looked_up_on_path(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = bare_environment(tmp_path / "mine")
    monkeypatch.setenv("PATH", str(python.parent))
    assert find(named("python"), cache).executable == str(python)


@needs_wheels
def test_a_tilde_is_the_home_directory(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = bare_environment(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find(named("~/mine/bin/python"), cache).executable == str(python)


@pytest.mark.parametrize("backend", COMPILERS)
def test_a_missing_file(cache: Path, backend: str) -> None:
    found = Registry([], cache, named("/nowhere/python")).availability(backend)
    assert not found.works
    assert found.reason == f"{PLACE}: /nowhere/python: No such file or directory"
    assert found.remedy == REMEDY


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kill -ABRT $$", "killed by SIGABRT"),
        ("exit 3", "exit status 3"),
        ("echo no interpreter >&2; exit 1", "no interpreter"),
        ("echo something else", "exit status 0"),
        ("echo '{}'", "exit status 0"),
        ("echo '[1]'", "exit status 0"),
    ],
)
def test_one_that_does_not_start(tmp_path: Path, cache: Path, text: str, said: str) -> None:
    file = script(tmp_path / "python", text)
    found = find(named(file), cache)
    assert found.reason == f"{PLACE}: {file} does not start: {said}"
    assert found.remedy == REMEDY
    assert not cache.exists(), "failures are not remembered"


def test_one_that_does_not_answer(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "TIMEOUT", 0.1)
    file = script(tmp_path / "python", "exec sleep 9")
    assert find(named(file), cache).reason == f"{PLACE}: {file} does not start: no answer in 0.1 s"


def test_no_program(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "python").write_text("text")
    assert find(named(tmp_path / "python"), cache).reason == (
        f"{PLACE}: {tmp_path}/python does not start: Permission denied"
    )


@pytest.mark.parametrize(("name", "version"), [("cpython", "3, 12"), ("cpython", "3, 9"), ("pypy", "3, 10")])
def test_another_python(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    disguise = f"import sys; sys.version_info = ({version}, 1); sys.implementation.name = '{name}'\n"
    monkeypatch.setattr(interpreter, "_DESCRIBE", disguise + interpreter._DESCRIBE)
    found = find(named(sys.executable), cache)
    kind = f"{name} {version.replace(', ', '.')}"
    assert found.reason == f"the wasmer wheels exist for CPython 3.10 only, {sys.executable} is {kind} ({PLACE})"
    assert found.remedy == REMEDY


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="wheels may exist for this Python")
def test_this_very_python(cache: Path) -> None:
    assert find(named(sys.executable), cache).reason.startswith("the wasmer wheels exist for CPython 3.10 only")


@needs_wheels
@pytest.mark.parametrize(
    ("packages", "wheel", "install"),
    [
        ((), "wasmer-compiler-llvm", "wasmer-compiler-llvm==1.1.0 wasmer==1.1.0"),
        (("wasmer",), "wasmer-compiler-llvm", "wasmer-compiler-llvm==1.1.0"),
        (PACKAGES[1:], "wasmer", "wasmer==1.1.0"),
    ],
    ids=["none", "one", "all-but-one"],
)
def test_one_without_wheels(tmp_path: Path, cache: Path, packages: tuple[str, ...], wheel: str, install: str) -> None:
    python = bare_environment(tmp_path / "mine")
    add_real(tmp_path / "mine", packages)
    found = Registry([], cache, named(python)).availability("llvm")
    assert found.reason == f"the {wheel} wheel is not installed in {python} ({PLACE})"
    assert found.remedy == f"uv pip install --python {python} {install}"


@needs_wheels
def test_setup_mends_what_it_made(cache: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    python = bare_environment(data / "wheels-1.1.0")
    found = Registry([], cache).availability("llvm")
    assert found.reason == (
        f"the wasmer-compiler-llvm wheel is not installed in {python} (the environment of pytest-wasmer setup)"
    )
    assert found.remedy == "pytest-wasmer setup"


# What is remembered


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Pythons for which a process was started."""
    found: list[str] = []
    ask = interpreter._ask

    def note(executable: str) -> object:
        found.append(executable)
        return ask(executable)

    monkeypatch.setattr(interpreter, "_ask", note)
    return found


@needs_wheels
def test_later_runs_start_no_process_for_it(tmp_path: Path, cache: Path, asked: list[str]) -> None:
    python = bare_environment(tmp_path / "mine")
    add_real(tmp_path / "mine")
    first = find(named(python), cache)
    assert find(named(python), cache) == first
    assert asked == [str(python)]


@needs_wheels
def test_doctor_asks_again(tmp_path: Path, cache: Path, asked: list[str]) -> None:
    python = bare_environment(tmp_path / "mine")
    add_real(tmp_path / "mine")
    for anew in (False, True, False):
        assert Registry([], cache, named(python), anew=anew).interpreter.reason == ""
    assert len(asked) == 2


@needs_wheels
def test_an_environment_made_anew_is_asked_again(tmp_path: Path, cache: Path, asked: list[str]) -> None:
    for _ in range(2):
        python = bare_environment(tmp_path / "mine")
        add_real(tmp_path / "mine")
        config = tmp_path / "mine" / "pyvenv.cfg"
        os.utime(config, ns=(0, len(asked)))
        find(named(python), cache)
        shutil.rmtree(tmp_path / "mine")
    assert len(asked) == 2


@needs_wheels
def test_one_without_wheels_is_asked_again(tmp_path: Path, cache: Path, asked: list[str]) -> None:
    """They may come with a .pth file, say."""
    python = bare_environment(tmp_path / "mine")
    assert find(named(python), cache).library("wasmer") is None
    (site_of(tmp_path / "mine") / "more.pth").write_text(f"{real_site()}\n")
    assert find(named(python), cache).library("wasmer") is not None
    assert len(asked) == 2


@needs_wheels
def test_a_script_that_picks_one_is_asked_again(tmp_path: Path, cache: Path, asked: list[str]) -> None:
    for name in ("one", "two"):
        bare_environment(tmp_path / name)
        add_real(tmp_path / name)
    file = script(tmp_path / "python", f'exec "{tmp_path}/$WHICH/bin/python" "$@"')
    with pytest.MonkeyPatch.context() as patch:
        for name in ("one", "two"):
            patch.setenv("WHICH", name)
            found = find(named(file), cache)
            assert found.executable == str(file)
            assert str(site_of(tmp_path / name)) in found.path
    assert len(asked) == 2


@needs_wheels
def test_a_cache_that_cannot_be_written_is_only_a_process_more(tmp_path: Path, asked: list[str]) -> None:
    python = bare_environment(tmp_path / "mine")
    add_real(tmp_path / "mine")
    (tmp_path / "file").touch()
    for _ in range(2):
        assert find(named(python), tmp_path / "file" / "cache").reason == ""
    assert len(asked) == 2


@needs_wheels
def test_neither_the_user_s_directory_nor_variables_take_part(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the user module was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    found = find(named(bare_environment(tmp_path / "mine")), cache)
    assert found.reason == ""
    assert str(tmp_path) not in found.path


# Artifacts


@needs_wheels
def test_digests_do_not_depend_on_where_the_wheels_are(tmp_path: Path, cache: Path) -> None:
    python = bare_environment(tmp_path / "mine")
    add_real(tmp_path / "mine", ("wasmer", "wasmer_compiler_singlepass"))
    elsewhere = Registry([], cache, named(python)).availability("singlepass")
    usual = Registry([], cache, named(PYTHON_WITH_WHEELS.executable)).availability("singlepass")
    assert elsewhere.works
    assert elsewhere.spec.python != usual.spec.python
    assert (elsewhere.detail, elsewhere.library) == (usual.detail, usual.library)
