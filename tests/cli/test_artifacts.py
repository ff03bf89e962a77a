"""pytest-wasmer compile and run."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import cli
from pytest_wasmer.cli import artifacts
from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = needs_wheels
CALC = """(module
  (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "long") (param i64) (result i64) (i64.sub (local.get 0) (i64.const 1)))
  (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5)))
  (func (export "single") (param f32) (result f32) (local.get 0))
  (func (export "swap") (param i32 f64) (result f64 i32) (local.get 1) (local.get 0))
  (func (export "wide") (param v128) (result v128) (local.get 0))
  (func (export "none")))"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The artifact file of a module, compiled once; not to be changed."""
    made: dict[tuple[str, str], Path] = {}

    def get(backend: str = "llvm", wat: str = CALC) -> Path:
        if (backend, wat) not in made:
            folder = tmp_path_factory.mktemp("artifacts")
            (folder / "calc.wat").write_text(wat)
            out = folder / "calc.art"
            assert cli.main(["compile", str(folder / "calc.wat"), "--backend", backend, "-o", str(out)]) == 0
            made[backend, wat] = out
        return made[backend, wat]

    return get


@pytest.fixture
def calc(compiled: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with its sidecar, to be changed, in the current directory."""
    source = compiled()
    for path in (source, source.with_name("calc.art.json")):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("calc.art")


class Run:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        self._capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        said = self._capsys.readouterr()
        return status, said.out, said.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


# compile


def test_compile_writes_the_artifact_and_its_sidecar(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calc.wat").write_text(CALC)
    status, out, err = run("compile", "calc.wat", "--backend", "cranelift", "-o", "calc.art")
    size = Path("calc.art").stat().st_size
    assert (status, out, err) == (0, f"calc.art: {size} bytes for cranelift, and calc.art.json\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calc.art", "calc.art.json", "calc.wat"]
    about = json.loads(Path("calc.art.json").read_text())
    assert about["pytest-wasmer artifact"] == 1
    parts = about["parts"]
    assert (parts["compiler"], parts["kind"], parts["version"]) == ("cranelift", "universal", "wasmer 1.1.0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.wat", "--backend=llvm"], "missing.wat"),
        (["bad.wat", "--backend=llvm"], "bad.wat"),
        (["calc.wat", "--backend=lvm"], "backend 'lvm' is unknown. Did you mean 'llvm'?"),
        (["calc.wat", "--backend=llvm,cranelift"], "--backend=llvm,cranelift names 2 backends: name one"),
        (["calc.wat", "--backend=all"], "--backend=all names 3 backends: name one"),
    ],
)
def test_what_cannot_be_compiled(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calc.wat").write_text(CALC)
    Path("bad.wat").write_text("(module")
    status, out, err = run("compile", *arguments, "-o", "out")
    assert (status, out) == (2, "")
    assert err.startswith("pytest-wasmer: ")
    assert said in err
    assert "Traceback" not in err
    assert not Path("out").exists()


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "calc.wat").write_text(CALC)
    out = tmp_path / "missing" / "calc.art"
    status, _, err = run("compile", tmp_path / "calc.wat", "--backend=cranelift", "-o", out)
    assert (status, err) == (2, f"pytest-wasmer: {out}: No such file or directory\n")


def test_a_module_is_not_replaced_by_its_artifact(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calc.wat").write_text(CALC)
    Path("link.wat").symlink_to("calc.wat")
    for out in ("calc.wat", "link.wat", tmp_path / "calc.wat"):
        assert run("compile", "calc.wat", "--backend=cranelift", "-o", out) == (
            2,
            "",
            f"pytest-wasmer: {out} is the module itself, which its artifact would replace: name another file\n",
        )
    assert Path("calc.wat").read_text() == CALC


# run


@pytest.mark.parametrize("backend", ["cranelift", "llvm", "llvm-dylib", "cranelift-dylib"])
def test_what_was_compiled_runs(compiled: Callable[..., Path], run: Run, backend: str) -> None:
    assert run("run", compiled(backend), "add", 40, 2) == (0, "42\n", "")


@pytest.mark.parametrize(
    ("call", "printed"),
    [
        (["add", "-40", "-2"], "-42\n"),
        (["add", "0xff", "0b1"], "256\n"),
        (["long", "-9223372036854775807"], "-9223372036854775808\n"),
        (["half", "-3"], "-1.5\n"),
        (["half", "1e300"], "5e+299\n"),
        (["half", "inf"], "inf\n"),
        (["half", "nan"], "nan\n"),
        (["single", "1.5"], "1.5\n"),
        (["swap", "7", "-0.5"], "-0.5\n7\n"),
        (["wide", "0x000102030405060708090a0b0c0d0e0f"], f"{0x000102030405060708090A0B0C0D0E0F}\n"),
        (["none"], ""),
        (["half", "-inf"], "-inf\n"),
        (["half", "-Infinity"], "-inf\n"),
        (["half", "-nan"], "nan\n"),
        (["half", "-1e3"], "-500.0\n"),
        (["half", "-.5"], "-0.25\n"),
        (["add", "-0x10", "-0b1"], "-17\n"),
        (["--", "half", "-inf"], "-inf\n"),
        (["--", "half", "-1e3"], "-500.0\n"),
    ],
)
def test_numbers_of_all_types(compiled: Callable[..., Path], run: Run, call: list[str], printed: str) -> None:
    options, call = (call[:1], call[1:]) if call[0] == "--" else ([], call)
    assert run("run", *options, compiled(), *call) == (0, printed, "")


@pytest.mark.parametrize("backend", ["llvm", "llvm-dylib"])
def test_a_trap_is_exit_status_1(compiled: Callable[..., Path], run: Run, backend: str) -> None:
    status, out, err = run("run", compiled(backend), "div", 1, 0)
    assert (status, err) == (1, "")
    assert out.startswith("trap: integer divide by zero\n    at ")


def test_a_trap_in_the_start_is_one_too(compiled: Callable[..., Path], run: Run) -> None:
    wat = '(module (func $f unreachable) (start $f) (func (export "f")))'
    status, out, err = run("run", compiled("cranelift", wat), "f")
    assert (status, err) == (1, "")
    assert out.startswith("trap: unreachable\n")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["add", "1"], "add(i32, i32) -> (i32) takes 2 arguments, 1 were given"),
        (["none", "1"], "none() -> () takes 0 arguments, 1 were given"),
        (["add", "1", "1.5"], "'1.5' is not a number of type i32, for add(i32, i32) -> (i32)"),
        (["half", "much"], "'much' is not a number of type f64, for half(f64) -> (f64)"),
        (["add", "1", str(2**40)], str(2**40)),
        (["ad", "1", "2"], "ad"),
        (["memory"], "memory of calc.art is not a function that can be called"),
    ],
)
def test_what_cannot_be_called(calc: Path, run: Run, call: list[str], said: str) -> None:
    status, out, err = run("run", calc, *call)
    assert (status, out) == (2, "")
    assert err.startswith("pytest-wasmer: ")
    assert said in err
    assert "Traceback" not in err


def test_a_missing_function_lists_what_there_is(calc: Path, run: Run) -> None:
    _, _, err = run("run", calc, "ad", 1, 2)
    assert "'add'" in err
    assert "half" in err


def test_imports_cannot_be_given(compiled: Callable[..., Path], run: Run) -> None:
    wat = '(module (import "env" "log" (func)) (func (export "f")))'
    status, _, err = run("run", compiled("cranelift", wat), "f")
    assert status == 2
    assert "imports what it is not given:\n    env.log: " in err


def test_no_compiler_is_loaded(compiled: Callable[..., Path], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = []
    module_of = artifacts.module_of

    def spying(content: bytes, parts: Any, connect: Any, path: str) -> Any:
        module = module_of(content, parts, connect, path)
        assert module.instantiate().exports.add(1, 2) == 3
        maps.append(Path(f"/proc/{connect().pid}/maps").read_text())
        return module

    monkeypatch.setattr(artifacts, "module_of", spying)
    for backend in ("llvm", "llvm-dylib"):
        assert run("run", compiled(backend), "add", 1, 2)[0] == 0
    for text in maps:
        assert "/wasmer/wasmer.cpython-310" in text
        assert "wasmer_compiler" not in text
    assert len(maps) == 2


@pytest.mark.parametrize("backend", ["llvm", "llvm-dylib"])
def test_no_temporary_file_is_left(
    compiled: Callable[..., Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    artifact = compiled(backend)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run("run", artifact, "add", 1, 2)[0] == 0
    assert run("compile", artifact.with_name("calc.wat"), "--backend", backend, "-o", artifact.with_name("x"))[0] == 0
    assert list(tmp_path.iterdir()) == []


# What a file is


def test_without_a_sidecar_it_takes_trust(calc: Path, run: Run) -> None:
    Path("calc.art.json").unlink()
    assert run("run", calc, "add", 1, 2) == (
        2,
        "",
        "pytest-wasmer: calc.art has no calc.art.json that says what it is: nobody can tell whether it may run here\n"
        "If you know where it comes from: --trust\n",
    )
    assert run("run", calc, "--trust", "add", 1, 2) == (0, "3\n", "")


def test_trust_does_not_help_what_is_known_to_be_wrong(calc: Path, run: Run) -> None:
    with calc.open("ab") as file:
        file.write(b"more")
    for options in ([], ["--trust"]):
        assert run("run", *options, calc, "add", 1, 2) == (
            2,
            "",
            "pytest-wasmer: calc.art is not the file that calc.art.json describes: it was changed or cut off\n"
            "Save it again.\n",
        )


def test_what_dies_of_a_trusted_file_is_not_told_of_tests(calc: Path, run: Run) -> None:
    Path("calc.art.json").unlink()
    calc.write_bytes(calc.read_bytes()[:400])
    status, out, err = run("run", "--trust", calc, "add", 1, 2)
    assert (status, out) == (2, "")
    assert err.startswith("pytest-wasmer: ")
    assert "headless" in err
    assert "--wasm-backends" not in err


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("target", "aarch64-linux", "calc.art is for aarch64-linux, here is "),
        ("version", "wasmer 2.3.0", " wasmer 2.3.0, here is pytest_wasmer.engines.wheels:WheelsEngine wasmer 1.1.0"),
        ("features", "sse2 avx1024", "calc.art is for a processor with avx1024, here is one without"),
    ],
)
def test_an_artifact_of_another_machine(calc: Path, run: Run, part: str, value: str, said: str) -> None:
    sidecar = Path("calc.art.json")
    about = json.loads(sidecar.read_text())
    about["parts"][part] = value
    sidecar.write_text(json.dumps(about))
    status, _, err = run("run", calc, "add", 1, 2)
    assert status == 2
    assert said in err
    assert err.endswith("\nCompile its module here: pytest-wasmer compile\n")


def test_one_that_needs_less_of_the_processor_runs(calc: Path, run: Run) -> None:
    sidecar = Path("calc.art.json")
    about = json.loads(sidecar.read_text())
    about["parts"]["features"] = "sse2"
    sidecar.write_text(json.dumps(about))
    assert run("run", calc, "add", 1, 2)[0] == 0


def test_the_name_of_a_file_says_nothing(calc: Path, run: Run) -> None:
    calc.rename("calc.so")
    Path("calc.art.json").rename("calc.so.json")
    assert run("run", "calc.so", "add", 1, 2) == (0, "3\n", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"\0asm\1\0\0\0",
            "x is no artifact but a Wasm module\nCompile it: pytest-wasmer compile x --backend llvm -o OUT",
        ),
        (b"", "x is no artifact: it is empty"),
        (b"(module)", "x is no artifact: it begins with 28 6d 6f 64 75 6c 65 29"),
        (None, "artifact x cannot be read: No such file or directory"),
    ],
)
def test_other_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("x").write_bytes(content)
    for options in ([], ["--trust"]):
        assert run("run", *options, "x", "f") == (2, "", f"pytest-wasmer: {said}\n")
