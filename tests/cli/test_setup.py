"""pytest-wasmer setup: once for real, and else with a uv that is a script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import cli
from pytest_wasmer.cli import setup as command
from pytest_wasmer.engines import interpreter, provision
from pytest_wasmer.engines.registry import COMPILERS, Registry
from tests.conftest import needs_wheels
from tests.engines.workbench import BASE, PACKAGES, add_fake, real_site, site_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "pytest-wasmer" / "wheels-1.1.0"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, stdout, stderr of `pytest-wasmer setup ...`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(["setup", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


# What `uv venv` and `uv pip install` do, in links. Environments and installations go wrong as the variables say.
UV = """\
#!/bin/sh
echo "$@" >> {log}
for last in "$@"; do :; done
case "$1" in
--version) test -z "$UV_BROKEN" || {{ echo "uv: not for this Python" >&2; exit 127; }}; echo uv 0.0.0;;
venv) test -z "$NO_PYTHON" || {{ echo "error: No interpreter found for CPython 3.10" >&2; exit 2; }}
  mkdir -p "$last/bin" "$last/lib/python3.10/site-packages"
  echo "home = {home}" > "$last/pyvenv.cfg"
  ln -s {base} "$last/bin/python"
  touch "$last/lib/python3.10/site-packages/_virtualenv.py" "$last/lib/python3.10/site-packages/_virtualenv.pth";;
pip) test -z "$OFFLINE" || {{ printf 'Resolving\\nerror: Failed to fetch wasmer\\n  dns error\\n' >&2; exit 1; }}
  test -z "$SLOW" || sleep "$SLOW"
  for wheel in {wheels}/wasmer*; do
    ln -s "$wheel" "$(dirname "$(dirname "$4")")/lib/python3.10/site-packages/"
  done;;
esac
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What uv, a script, is asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "uv.log"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for path in real_site().glob("wasmer*"):
        (wheels / path.name).symlink_to(path)
    (folder / "uv").write_text(UV.format(log=log, home=os.path.dirname(BASE), base=BASE, wheels=wheels))
    (folder / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return log


def asked(log: Path) -> list[str]:
    """The kinds of uv's work, without questions for its version."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.partition(" ")[0] for line in lines if not line.startswith("--version")]


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir() if path.suffix != ".lock")


def works(place: Path) -> bool:
    named = interpreter.Named(str(place / "bin" / "python"), "it", place)
    found = Registry([], place.parent.parent / "cache", named)
    return all(found.availability(name).works for name in COMPILERS)


# For real


def uv_that_runs() -> str | None:
    try:
        return provision._uv()
    except provision.Failed:
        return None


@needs_wheels
def test_for_real(run: Run, place: Path) -> None:
    """From PyPI, or from what uv keeps of it."""
    if uv_that_runs() is None:
        pytest.skip("there is no uv")
    status, out, err = run("--python", BASE)
    assert (status, err) == (0, "")
    assert out.startswith("singlepass, cranelift, llvm work on CPython 3.10.")
    assert out.endswith(f": {place}\n")
    names = {path.name.partition("-")[0] for path in site_of(place).iterdir()}
    assert names == {*PACKAGES, "wasmer_compiler_llvm.libs"}, "the wheels and nothing else"
    assert left(place) == [place.name]
    assert works(place)


# With a uv that is a script


@needs_wheels
def test_what_uv_is_asked_for(run: Run, place: Path, log: Path) -> None:
    assert run()[:2] == (0, f"singlepass, cranelift, llvm work on CPython {version()}: {place}\n")
    _, venv, pip = log.read_text().splitlines()
    assert venv.startswith(f"venv --relocatable --no-project --python cpython3.10 {place}.unfinished-")
    assert pip.startswith(f"pip install --python {place}.unfinished-")
    assert pip.endswith(
        "/bin/python --no-deps --only-binary :all: wasmer==1.1.0 wasmer-compiler-singlepass==1.1.0 "
        "wasmer-compiler-cranelift==1.1.0 wasmer-compiler-llvm==1.1.0"
    )
    assert not list(site_of(place).glob("_virtualenv*"))
    assert place.parent.stat().st_mode & 0o777 == 0o700, "the seal key is there, too"


def version() -> str:
    code = "import sys; print(*sys.version_info[:3], sep='.')"
    return subprocess.run([BASE, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@needs_wheels
def test_again_there_is_nothing_to_do(run: Run, place: Path, log: Path) -> None:
    run()
    before = place.stat().st_ino
    status, out, _ = run()
    assert (status, place.stat().st_ino) == (0, before)
    assert out == (
        f"nothing to do, singlepass, cranelift, llvm work on CPython {version()}: {place} "
        "(pytest-wasmer setup --upgrade makes it anew)\n"
    )
    assert asked(log) == ["venv", "pip"]


@needs_wheels
def test_upgrade_makes_it_anew(run: Run, place: Path, log: Path) -> None:
    run()
    before = place.stat().st_ino
    assert run("--upgrade")[0] == 0
    assert place.stat().st_ino != before
    assert asked(log) == ["venv", "pip"] * 2
    assert left(place) == [place.name]


def break_library(place: Path) -> None:
    library = next((site_of(place) / "wasmer_compiler_llvm").glob("*.so"))
    folder = library.parent
    folder.unlink()
    folder.mkdir()
    (folder / "__init__.py").write_text("import os; os.abort()")
    (folder / library.name).write_bytes(b"no library")


def lose_a_wheel(place: Path) -> None:
    (site_of(place) / "wasmer").unlink()


def lose_python(place: Path) -> None:
    (place / "bin" / "python").unlink()


def other_version(place: Path) -> None:
    for old in site_of(place).glob("wasmer_compiler_llvm*"):
        old.unlink()
    add_fake(place, "wasmer_compiler_llvm", "", "1.0.0")


def leave_nothing(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()


@needs_wheels
@pytest.mark.parametrize("damage", [break_library, lose_a_wheel, lose_python, other_version, leave_nothing])
def test_what_is_broken_is_made_anew(run: Run, place: Path, log: Path, damage: Callable[[Path], None]) -> None:
    run()
    damage(place)
    status, out, _ = run()
    assert (status, asked(log)) == (0, ["venv", "pip"] * 2)
    assert not out.startswith("nothing to do")
    assert works(place)
    assert left(place) == [place.name]


@needs_wheels
def test_remove(run: Run, place: Path, log: Path) -> None:
    run()
    (place.parent / "seal.key").touch()
    assert run("--remove") == (0, f"removed {place}\n", "")
    assert left(place) == ["seal.key"]
    assert run("--remove") == (0, f"nothing to remove: {place} does not exist\n", "")


def test_remove_where_nothing_ever_was(run: Run, place: Path, tmp_path: Path) -> None:
    assert run("--remove") == (0, f"nothing to remove: {place} does not exist\n", "")
    assert not (tmp_path / "data").exists()


# What goes wrong


def fails(run: Run, *arguments: object) -> list[str]:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    return err.splitlines()


@needs_wheels
def test_no_python(run: Run, place: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PYTHON", "1")
    lines = fails(run)
    assert lines[0] == "pytest-wasmer: uv found no CPython 3.10, and could not download one. It was asked:"
    assert lines[1].startswith(f"    {shutil.which('uv')} venv --relocatable")
    assert lines[2:] == [
        "and said:",
        "    error: No interpreter found for CPython 3.10",
        "If there is a CPython 3.10, name it: pytest-wasmer setup --python PATH",
    ]
    assert left(place) == []


@needs_wheels
def test_offline(run: Run, place: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE", "1")
    lines = fails(run)
    assert lines[0] == "pytest-wasmer: uv could not install the wheels. It was asked:"
    assert lines[1].endswith("wasmer-compiler-llvm==1.1.0")
    assert lines[2:] == ["and said:", "    Resolving", "    error: Failed to fetch wasmer", "      dns error"]
    assert left(place) == []


@needs_wheels
def test_a_failed_upgrade_leaves_what_works(run: Run, place: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setenv("OFFLINE", "1")
    fails(run, "--upgrade")
    assert left(place) == [place.name]
    assert works(place)


@needs_wheels
def test_another_python(run: Run, place: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = interpreter._DESCRIBE
    monkeypatch.setattr(interpreter, "_DESCRIBE", f"import sys; sys.version_info = (3, 12, 1)\n{describe}")
    lines = fails(run, "--python", "/some/python3.12")
    assert "the wasmer wheels exist for CPython 3.10 only" in lines[0]
    assert lines[0].endswith("is cpython 3.12 (made of /some/python3.12)")
    assert lines[1:] == ["Without --python uv looks for one: pytest-wasmer setup"]
    assert left(place) == []


@needs_wheels
def test_no_compiler_works(run: Run, place: Path, log: Path, tmp_path: Path) -> None:
    for package in ("wasmer_compiler_singlepass", "wasmer_compiler_cranelift", "wasmer_compiler_llvm"):
        folder = tmp_path / "wheels" / package
        library = next(folder.glob("*.so")).name
        folder.unlink()
        folder.mkdir()
        (folder / "__init__.py").write_text("raise ImportError('no such libc')")
        (folder / library).touch()
    assert fails(run) == [
        "pytest-wasmer: the wheels were installed, and no compiler works",
        *[f"    {name}: ImportError: no such libc" for name in COMPILERS],
    ]
    assert left(place) == []


@needs_wheels
def test_one_compiler_that_does_not_work_is_said(run: Run, place: Path, log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wheels" / "wasmer_compiler_llvm"
    library = next(folder.glob("*.so")).name
    folder.unlink()
    folder.mkdir()
    (folder / "__init__.py").write_text("import os; os.abort()")
    (folder / library).touch()
    status, out, _ = run()
    assert (status, out) == (
        0,
        f"singlepass, cranelift work on CPython {version()}: {place}\nllvm does not work: killed by SIGABRT\n",
    )


def test_no_uv(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "uv", None)
    assert fails(run) == [
        "pytest-wasmer: uv is not on PATH",
        "And there is no package uv:",
        "pip install 'pytest-wasmer[setup]'",
    ]
    assert left(place) == []


class UvPackage:
    """Stands in for the package of the extra."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def find_uv_bin(self) -> str:
        if not self._program.exists():
            raise FileNotFoundError(self._program)
        return str(self._program)


@needs_wheels
@pytest.mark.parametrize("broken", [False, True], ids=["none", "broken"])
def test_uv_of_the_package(
    run: Run, place: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """Also where what is on PATH does not run: a shim of another Python's."""
    program = tmp_path / "package" / "uv"
    program.parent.mkdir()
    shutil.copy(tmp_path / "bin" / "uv", program)
    if broken:
        monkeypatch.setenv("UV_BROKEN", "1")
    else:
        (tmp_path / "bin" / "uv").unlink()
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setitem(sys.modules, "uv", UvPackage(program))
    assert run()[0] == 0
    assert asked(log) == ["venv", "pip"]


def test_neither_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\necho 'uv: not for this Python' >&2; exit 127\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setitem(sys.modules, "uv", UvPackage(tmp_path / "missing"))
    assert fails(run) == [
        "pytest-wasmer: uv on PATH does not run. It was asked:",
        f"    {tmp_path}/uv --version",
        "and said:",
        "    uv: not for this Python",
        "And the package uv has no program:",
        "pip install 'pytest-wasmer[setup]'",
    ]


def test_no_write_access(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert fails(run) == [f"pytest-wasmer: {tmp_path}/file/pytest-wasmer: Not a directory"]


# More than one, and killed ones


SETUP = "import sys; from pytest_wasmer.cli import main; sys.exit(main(['setup']))"


@needs_wheels
def test_two_at_once_do_no_harm(place: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "0.5")
    both = [subprocess.Popen([sys.executable, "-c", SETUP], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(text.startswith("nothing to do") for text in said) == [False, True]
    assert asked(log) == ["venv", "pip"]
    assert left(place) == [place.name]
    assert works(place)


@needs_wheels
def test_what_a_killed_one_left_goes(run: Run, place: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "30")
    process = subprocess.Popen([sys.executable, "-c", SETUP])
    try:
        while not log.exists() or "pip" not in asked(log):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert len(left(place)) == 1
    assert place.name not in left(place)
    monkeypatch.delenv("SLOW")
    assert run()[0] == 0
    assert left(place) == [place.name]


# What is shown meanwhile


class Terminal:
    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.written += text

    def flush(self) -> None:
        pass


@needs_wheels
def test_progress_on_a_terminal(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(command.sys, "stderr", terminal)
    cli.main(["setup"])
    monkeypatch.undo()
    assert terminal.written.split(command.LINE) == [
        "",
        "making an environment for CPython 3.10...",
        f"installing {', '.join(provision.PINNED)}"[:100] + "...",
        "trying what is there...",
        "",
    ]


# During a test run


@needs_wheels
def test_a_run_downloads_nothing(
    pytester: pytest.Pytester, place: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without wheels it says what to type; what was set up is found then."""
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_wasmer.plugin,hiding")
    pytester.makepyfile(
        hiding="""
        import sys
        from pytest_wasmer.engines import interpreter

        this = interpreter.this()._replace(reason="this one cannot", remedy="pytest-wasmer setup")
        interpreter.this = lambda: this
        """,
        test_it="""
        def test_it(wasm_instance):
            assert wasm_instance('(module (func (export "f") (result i32) i32.const 42))').exports.f() == 42
        """,
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "    llvm: this one cannot" in result.stderr.lines
    assert "        pytest-wasmer setup" in result.stderr.lines
    assert asked(log) == []
    assert cli.main(["setup"]) == 0
    pytester.runpytest_subprocess("--wasm-backends=all").assert_outcomes(passed=3)
