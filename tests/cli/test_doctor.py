"""pytest-wasmer doctor."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import __version__, cli, settings
from pytest_wasmer.artifacts.seal import seal_file
from pytest_wasmer.cli import workflow
from pytest_wasmer.cli.engines import opened_store
from pytest_wasmer.engines import registry
from pytest_wasmer.engines.registry import COMPILERS, DYLIBS, Availability, Registry
from tests.conftest import PYTHON_WITH_WHEELS, needs_wheels
from tests.engines.workbench import PACKAGES, add_fake, add_real, bare_environment, site_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Doctor = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Exit status, and lines on stdout."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        status = cli.main(["doctor", *arguments])
        return status, capsys.readouterr().out.splitlines()

    return run


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pytest-wasmer {__version__}\n"


# What it says


def sha256(path: object) -> str:
    return hashlib.sha256(Path(str(path)).read_bytes()).hexdigest()


@needs_wheels
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the Dylib engine links with gcc")
def test_where_all_works(doctor: Doctor) -> None:
    status, lines = doctor()
    assert status == 0
    assert len(lines) <= 24, "one screen"
    assert [line.split() for line in lines[:6]] == [
        [name, "works:", "wasmer", "1.1.0"] for name in (*COMPILERS, *DYLIBS)
    ]
    rows = dict(line.split(None, 1) for line in lines[7:])
    assert rows["pytest-wasmer"] == (
        f"{__version__} on cpython {sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}: {sys.executable}"
    )
    assert rows["engines"].startswith(f"cpython {PYTHON_WITH_WHEELS.version}: ")
    for package in PACKAGES:
        version, digest, library = rows[package.replace("_", "-")].split()
        assert version == "1.1.0"
        assert sha256(library).startswith(digest)
        assert len(digest) == 12
    assert re.fullmatch(r"[a-z0-9_]+-[a-z0-9]+: .+", rows["processor"])
    assert re.fullmatch(rf"{opened_store(None).root}: \d+ artifacts?, [\d.]+ \w+", rows["store"])
    assert rows["seal"].split() == ["key", str(seal_file())]
    assert "setting" not in rows


@needs_wheels
def test_as_json(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "DYLIBS", ())
    monkeypatch.setenv("PYTEST_WASMER_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("PYTEST_WASMER_ISOLATION", "none")
    status, lines = doctor("--json")
    found: dict[str, Any] = json.loads("\n".join(lines))
    assert status == 0
    assert [*found] == [
        *("backends", "pytest_wasmer", "python", "engines", "wheels", "target", "features", "store", "seal"),
        "settings",
    ]
    assert [*found["backends"]] == [*COMPILERS]
    for name in COMPILERS:
        said = found["backends"][name]
        assert said == {"works": True, "version": "wasmer 1.1.0", "library": said["library"]}
        assert len(said["library"]) == 64
        wheel = found["wheels"][f"wasmer-compiler-{name}"]
        assert wheel["sha256"] == sha256(wheel["library"])
    assert found["store"] == {"directory": str(tmp_path / "store"), "artifacts": 0, "bytes": 0}
    assert found["settings"] == {
        "PYTEST_WASMER_CACHE_DIR": str(tmp_path / "store"),
        "PYTEST_WASMER_ISOLATION": "none",
    }


@pytest.mark.parametrize(("broken", "status"), [([], 0), (["llvm"], 1), ([*COMPILERS], 2), ([*DYLIBS], 0)])
def test_exit_status_and_remedies(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, broken: list[str], status: int
) -> None:
    def availability(self: Registry, name: str) -> Availability:
        if name in broken:
            return Availability(self.spec(name), False, reason="it is broken", remedy=f"mend {name}")
        return Availability(self.spec(name), True, detail="wasmer 1.1.0")

    monkeypatch.setattr(Registry, "availability", availability)
    code, lines = doctor()
    assert code == status
    for name in broken:
        index = next(index for index, line in enumerate(lines) if line.startswith(f"{name} "))
        assert lines[index].split(None, 1)[1] == "does not work: it is broken"
        assert lines[index + 1].strip() == f"mend {name}"


@needs_wheels
def test_nothing_is_taken_from_memory(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is run on each backend, and what is found replaces what was known."""
    monkeypatch.setattr(registry, "DYLIBS", ())
    assert doctor()[0] == 0
    monkeypatch.setattr(registry, "_PROBE", "import os; os.abort()")
    assert doctor()[0] == 2
    monkeypatch.undo()
    monkeypatch.setattr(registry, "DYLIBS", ())
    assert doctor()[0] == 0


@needs_wheels
def test_it_takes_less_than_three_seconds(doctor: Doctor) -> None:
    """Of this processor: others may be busy with other things."""
    doctor()
    before = time.process_time(), os.times().children_user + os.times().children_system
    doctor()
    spent = time.process_time() - before[0] + os.times().children_user + os.times().children_system - before[1]
    assert spent < 3


# Broken installations


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python of its own for the wheels."""
    python = bare_environment(tmp_path / "mine")
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", str(python))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "mine"


def no_wheel(environment: Path) -> None:
    pass


def one_wheel(environment: Path) -> None:
    add_real(environment, ["wasmer"])


def only_a_compiler(environment: Path) -> None:
    add_real(environment, ["wasmer_compiler_llvm"])


def other_version(environment: Path) -> None:
    add_real(environment, PACKAGES[1:])
    add_fake(environment, "wasmer", "", "1.0.0")


def aborting_import(environment: Path) -> None:
    add_real(environment, PACKAGES[:3])
    add_fake(environment, "wasmer_compiler_llvm", "import os; os.abort()")


def missing_library(environment: Path) -> None:
    """Of the system, to which the wheel's is linked."""
    add_real(environment, PACKAGES[:3])
    said = "libz.so.9: cannot open shared object file: No such file or directory"
    add_fake(environment, "wasmer_compiler_llvm", f"raise ImportError({said!r})")


def no_library(environment: Path) -> None:
    add_real(environment, PACKAGES[:3])
    add_fake(environment, "wasmer_compiler_llvm", "from .wasmer_compiler_llvm import *")


def hanging_import(environment: Path) -> None:
    add_real(environment, PACKAGES[:3])
    add_fake(environment, "wasmer_compiler_llvm", "import time; time.sleep(60)")


def other_package(environment: Path) -> None:
    """What pip installs where there is no wheel: a package that raises."""
    (site_of(environment) / "wasmer").mkdir()
    (site_of(environment) / "wasmer" / "__init__.py").write_text("raise ImportError('Wasmer is not available')")
    add_real(environment, PACKAGES[1:])


WHERE = r"in .*/mine/bin/python \(PYTEST_WASMER_PYTHON\)"
AGAIN = r"uv pip install --python .*/mine/bin/python --force-reinstall wasmer-compiler-llvm==1\.1\.0"
BROKEN = {
    no_wheel: (2, f"the wasmer-compiler-llvm wheel is not installed {WHERE}", ".* wasmer-compiler-llvm==.* wasmer==.*"),
    one_wheel: (2, f"the wasmer-compiler-llvm wheel is not installed {WHERE}", r"uv pip install .* wasmer-compiler-.*"),
    only_a_compiler: (2, f"the wasmer wheel is not installed {WHERE}", r"uv pip install .* wasmer==1\.1\.0"),
    other_version: (
        2,
        r"wasmer-compiler-llvm 1\.1\.0 and wasmer 1\.0\.0 do not belong together",
        r"uv pip install --python .* wasmer-compiler-llvm==1\.1\.0 wasmer==1\.1\.0",
    ),
    aborting_import: (1, r"wasmer_compiler_llvm\S*\.so does not load: killed by SIGABRT", AGAIN),
    missing_library: (1, r"\S*\.so does not load: ImportError: libz\.so\.9: cannot open shared object.*", AGAIN),
    no_library: (1, r"\S*\.so does not load: ImportError: .*(too short|invalid ELF header).*", AGAIN),
    hanging_import: (1, r"\S*\.so does not load: no answer in 3 s", AGAIN),
    other_package: (2, f"the wasmer wheel is not installed {WHERE}", r"uv pip install .* wasmer==1\.1\.0"),
}


@needs_wheels
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_broken_installations(
    doctor: Doctor, environment: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(registry, "DYLIBS", ())
    if broken is hanging_import:
        monkeypatch.setattr(registry, "PROBE_TIMEOUT", 3.0)
    broken(environment)
    status, reason, remedy = BROKEN[broken]
    code, lines = doctor()
    assert code == status
    (index,) = [index for index, line in enumerate(lines) if line.startswith("llvm ")]
    assert re.fullmatch(rf"llvm +does not work: {reason}", lines[index])
    assert re.fullmatch(rf" +{remedy}", lines[index + 1])


@needs_wheels
def test_without_gcc(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    status, lines = doctor()
    assert status == 0
    assert [line.split(None, 1)[1] for line in lines[3:9:2]] == [
        "does not work: the Dylib engine links with gcc, which is not on PATH"
    ] * 3


@needs_wheels
def test_no_write_access(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To anything but the directory of temporary files."""
    monkeypatch.setattr(registry, "DYLIBS", ())
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", PYTHON_WITH_WHEELS.executable)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    status, lines = doctor()
    assert status == 0
    (store,) = [line for line in lines if line.startswith("store ")]
    assert re.fullmatch(rf"store +.*{tmp_path}/file/.*Not a directory.*", store)


@needs_wheels
def test_no_temporary_files(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DYLIBS", ())
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    status, lines = doctor()
    assert status == 2
    assert "does not work: " in lines[0]
    assert "No such file or directory" in lines[0]


def test_no_python(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_WASMER_PYTHON", "/nowhere/python")
    status, lines = doctor()
    assert status == 2
    assert lines[0].split(None, 1)[1] == (
        "does not work: PYTEST_WASMER_PYTHON: /nowhere/python: No such file or directory"
    )
    assert lines[1].strip() == "pytest-wasmer setup, then remove PYTEST_WASMER_PYTHON"
    assert "setting                     PYTEST_WASMER_PYTHON=/nowhere/python" in lines


# The workflow


@pytest.fixture
def github(doctor: Doctor) -> list[str]:
    status, lines = doctor("--ci", "github")
    assert status == 0
    return lines


def test_the_workflow_runs_each_backend_on_each_python(github: list[str]) -> None:
    assert '        python: ["3.10", "3.12", "3.14"]' in github
    assert "        backend: [singlepass, cranelift, llvm]" in github
    assert f"      - run: uv pip install pytest-wasmer=={__version__}  # and what else the tests need" in github
    assert [line for line in github if re.match(r"  \w+:$", line)] == ["  test:", "  compare:"]


def test_the_workflow_is_of_the_form_that_yaml_has(github: list[str]) -> None:
    """No parser is at hand: keys and items, indented by two, without tabs; expressions in braces that match."""
    block = None
    depths = [0]
    for line in github:
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if not text or text.startswith("#") or (block is not None and depth > block):
            continue
        block = depth if text.endswith("|") else None
        assert "\t" not in line
        assert depth % 2 == 0
        assert depth <= depths[-1] + 2 or depth in depths
        depths = [*(other for other in depths if other < depth), depth + 2 * text.startswith("- ")]
        assert re.match(r"(- )?[\w-]+:( .+)?$", text), line
        assert line.count("${{") == line.count("}}")
        assert ": " not in re.sub(r"^(- )?[\w-]+: ", "", text).partition(" #")[0], "would have to be quoted"


def test_the_workflow_keeps_what_the_store_uses(
    github: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", settings.CACHE_DIR.variable):
        monkeypatch.delenv(name, raising=False)
    kept = [str(opened_store(None).root), str(seal_file())]
    assert kept == [path.replace("~", str(tmp_path)) for path in (workflow.ARTIFACTS, workflow.SEAL_KEY)]
    start = github.index("          path: |")
    assert [line.strip().replace("~", str(tmp_path)) for line in github[start + 1 : start + 3]] == kept


def test_the_workflow_names_what_exists(github: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(github)
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = set(re.findall(r"^    (\w+)  ", capsys.readouterr().out, re.MULTILINE))
    # Another change brings reports and what compares them.
    assert set(re.findall(r"pytest-wasmer (\w+)", text)) - {"compare"} <= commands
    assert {*re.findall(r"--wasm-\w+", text)} - {"--wasm-report"} <= {option.flag for option in settings.OPTIONS}


def test_another_service(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--ci", "jenkins"])
    assert ended.value.code == 2
    assert "github" in capsys.readouterr().err
