"""pytest-wasmer fuzz."""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import cli
from pytest_wasmer.cli import engines
from pytest_wasmer.engines.registry import Registry
from tests.agreement.miscompiles import LOAD_SUNK
from tests.conftest import FAKES, needs_wheels
from tests.fake_engine import function, module

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_wheels
CALC = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
SIMD = '(module (func (export "splat") (param i32) (result v128) (i32x4.splat (local.get 0))))'
TABLE = '(module (import "env" "table" (table 1 funcref)) (func (export "f")))'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, wat in {"calc": CALC, "sink": LOAD_SUNK, "simd": SIMD, "table": TABLE, "bad": "(module"}.items():
        (tmp_path / f"{name}.wat").write_text(wat)
    (tmp_path / "empty.wat").write_text('(module (memory (export "memory") 1))')


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Exit status, lines on stdout, and stderr."""
    status = cli.main(["fuzz", *arguments])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err


def test_nothing_found(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, errors = run(capsys, "calc.wat", "--seconds=0.5")
    assert status == 0
    assert re.fullmatch(r"calc\.wat on singlepass, cranelift and llvm, seed 0: \d{3,} calls on each", lines[0])
    assert lines[1:] == ["No disagreement was found."]
    assert errors == ""


SHOWN = """
llvm against singlepass and cranelift:
call pick(65533, 1) (event 3):
    llvm        5                          0x00000005  0b00000000000000000000000000000101
    singlepass  trap MEMORY_OUT_OF_BOUNDS
    cranelift   trap MEMORY_OUT_OF_BOUNDS
Repro: pytest-wasmer repro .wasm-repro/sink-wat-fuzz-*

As a test (pytest --wasm-backends=singlepass,cranelift,llvm test_fuzz.py):

def test_sink(wasm_instance):
    instance = wasm_instance('sink.wat')
    instance.exports.pick.map([(65533, 1)])
"""


def test_the_lost_trap_is_found_unguided(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, _ = run(capsys, "sink.wat", "--seed=2")
    assert status == 1
    assert fnmatchcase("\n".join(lines[1:]) + "\n", SHOWN.replace("[", "[[]"))


def test_what_is_found_is_replayed_from_its_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, "sink.wat")
    (bundle,) = [path for path in (tmp_path / ".wasm-repro").iterdir() if path.is_dir()]
    (tmp_path / "sink.wat").unlink()
    limit = sys.getrecursionlimit()
    assert cli.main(["repro", str(bundle)]) == 1
    assert sys.getrecursionlimit() == limit
    assert "llvm against singlepass and cranelift:" in capsys.readouterr().out
    assert cli.main(["repro", str(bundle), "--backends=singlepass,cranelift"]) == 0


def test_a_crash_is_replayed_from_its_bundle(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the others returned; with what these saw of it."""
    monkeypatch.setattr(engines, "new_registry", lambda: Registry(FAKES, engines.cache_folder()))
    exports = {"die": function("i32 ->", {"fake-b": [["signal", "SIGSEGV"]], "*": []})}
    (tmp_path / "die.wasm").write_bytes(module(exports))
    status, lines, _ = run(capsys, "die.wasm", "--backends=fake-a,fake-b,fake-c")
    (bundle,) = [path for path in (tmp_path / ".wasm-repro").iterdir() if path.is_dir()]
    assert status == 1
    assert lines[2:5] == [
        "fake-b's engine process was lost (killed by SIGSEGV) where fake-a and fake-c returned:",
        "    Call(name='die', arguments=(0,))",
        f"Repro: pytest-wasmer repro .wasm-repro/{bundle.name}",
    ]
    assert cli.main(["repro", str(bundle), "--minimize"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "    fake-a: it ended"
    assert said[2].startswith("    fake-b: it was lost: killed by SIGSEGV (call of 'die' of module ")
    assert json.loads((bundle / "observed.json").read_text())["outcomes"]["fake-b"] == ["end", "killed by SIGSEGV"]
    assert cli.main(["repro", str(bundle), "--backends=fake-a,fake-c"]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_with_other_seeds(capsys: pytest.CaptureFixture[str], seed: int) -> None:
    status, lines, _ = run(capsys, "sink.wat", f"--seed={seed}")
    assert status == 1
    assert lines[2] == "llvm against singlepass and cranelift:"


def test_the_pasted_test_turns_red(capsys: pytest.CaptureFixture[str], pytester: pytest.Pytester) -> None:
    pytester.makefile(".wat", sink=LOAD_SUNK)
    _, lines, _ = run(capsys, "sink.wat")
    pytester.makepyfile(test_fuzz="\n".join(lines[lines.index("def test_sink(wasm_instance):") :]))
    result = pytester.runpytest_subprocess("--wasm-backends=singlepass,cranelift,llvm")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["llvm against singlepass and cranelift:"])


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, _ = run(capsys, "sink.wat", "--seed=2", "--json")
    content = json.loads("\n".join(lines))
    assert status == 1
    assert content["finding"]["text"].startswith("llvm against singlepass and cranelift:\ncall pick(65533, 1)")
    assert content["finding"]["test"].startswith("def test_sink(")
    del content["finding"], content["calls"]
    assert content == {
        "file": "sink.wat",
        "backends": ["singlepass", "cranelift", "llvm"],
        "refused": {},
        "seed": 2,
        "left_alone": {},
        "unconfirmed": 0,
    }
    status, lines, _ = run(capsys, "calc.wat", "--seconds=0.2", "--json")
    assert (status, json.loads("\n".join(lines))["finding"]) == (0, None)


def test_a_backend_that_refuses_the_module_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, _ = run(capsys, "simd.wat", "--seconds=0.2")
    assert status == 0
    assert lines[0].startswith("simd.wat on cranelift and llvm, ")
    assert lines[1].startswith("singlepass cannot compile simd.wat: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simd.wat", "--backends=singlepass,llvm"), "fuzzing compares two backends at least, only llvm takes it\n"),
        (("simd.wat", "--backends=singlepass"), "fuzzing compares two backends at least, no backend takes it\n"),
        (("calc.wat", "--backends=llvm"), "fuzzing compares two backends at least, only llvm takes it\nName two or"),
        (("table.wat",), "table.wat imports a table, which Python cannot make"),
        (("empty.wat",), "empty.wat exports no function that Python can call"),
        (("missing.wat",), "module 'missing.wat' not found"),
        (("bad.wat",), "bad.wat"),
        (("calc.wat", "--backends=cranlift"), "--backends: backend 'cranlift' is unknown. Did you mean 'cranelift'?"),
    ],
)
def test_what_cannot_run(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    status, lines, errors = run(capsys, *arguments)
    assert status == 2
    assert lines == []
    assert message in errors
