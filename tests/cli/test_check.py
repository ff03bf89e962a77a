"""pytest-wasmer check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import cli
from pytest_wasmer.checks import LINKED, CheckFailed, Reproducibility, RoundTrip
from pytest_wasmer.cli import check
from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_wheels
CALC = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
LOOP = '(module (func (export "loop") (loop $again (br $again))) (func (export "f")))'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calc.wat").write_text(CALC)
    (tmp_path / "bad.wat").write_text("(module")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Exit status and lines on stdout."""
    status = cli.main(["check", *arguments])
    return status, capsys.readouterr().out.splitlines()


def test_a_line_per_module_and_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "calc.wat") == (
        0,
        [
            "file      backend     round trip      reproducible",
            "calc.wat  singlepass  same (8 calls)  same",
            "calc.wat  cranelift   same (8 calls)  same",
            "calc.wat  llvm        same (8 calls)  same",
        ],
    )


def test_backends_and_several_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "other.wat").write_text("(module (memory 1))")
    assert run(capsys, "other.wat", "calc.wat", "--backends=cranelift,singlepass") == (
        0,
        [
            "file       backend     round trip      reproducible",
            "other.wat  singlepass  same (0 calls)  same",
            "other.wat  cranelift   same (0 calls)  same",
            "calc.wat   singlepass  same (8 calls)  same",
            "calc.wat   cranelift   same (8 calls)  same",
        ],
    )


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(capsys, "calc.wat", "--backends=llvm", "--json")
    assert status == 0
    assert json.loads("\n".join(lines)) == [
        {
            "file": "calc.wat",
            "backend": "llvm",
            "calls": 8,
            "unobserved": [],
            "round_trip": "",
            "reproducible": True,
            "difference": "",
            "excuse": "",
            "error": "",
            "status": 0,
        }
    ]


def test_what_cannot_be_checked_is_said_and_the_others_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(capsys, "bad.wat", "missing.wasm", "calc.wat", "--backends=cranelift")
    assert status == 2
    assert lines[:5] == [
        "file          backend    round trip      reproducible",
        "bad.wat       cranelift  not checked     not checked",
        "missing.wasm  cranelift  not checked     not checked",
        "calc.wat      cranelift  same (8 calls)  same",
        "",
    ]
    assert "bad.wat" in lines[5]
    assert any("missing.wasm" in line for line in lines[6:])
    status, lines = run(capsys, "bad.wat", "calc.wat", "--backends=cranelift", "--json")
    results = json.loads("\n".join(lines))
    assert status == 2
    assert [(result["status"], bool(result["error"])) for result in results] == [(2, True), (0, False)]


def test_an_unknown_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "calc.wat", "--backends=cranlift"]) == 2
    assert capsys.readouterr().err == (
        "pytest-wasmer: --backends: backend 'cranlift' is unknown. Did you mean 'cranelift'? Known: singlepass, "
        "cranelift, llvm, singlepass-dylib, cranelift-dylib, llvm-dylib; special: all, available.\n"
    )


def test_another_program_is_found(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(module: Any, **_: object) -> None:
        raise CheckFailed("reloaded", f"{module.path} on {module.backend}, reloaded, is another program")

    monkeypatch.setattr(check, "check_round_trip", differ)
    assert run(capsys, "calc.wat", "--backends=cranelift") == (
        1,
        [
            "file      backend    round trip  reproducible",
            "calc.wat  cranelift  DIFFERS     same",
            "",
            "calc.wat on cranelift, reloaded, is another program",
        ],
    )
    status, lines = run(capsys, "calc.wat", "--backends=cranelift", "--json")
    (result,) = json.loads("\n".join(lines))
    assert (status, result["status"]) == (1, 1)
    assert result["round_trip"] == "calc.wat on cranelift, reloaded, is another program"


def test_other_bytes_are_found_or_excused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(module: Any, *, strict: bool) -> Reproducibility:
        if strict:
            raise CheckFailed("twice", f"{module.path} on {module.backend} is not reproducible, twice: .text")
        return Reproducibility(False, "twice: .text", LINKED)

    monkeypatch.setattr(check, "check_reproducible", differ)
    assert run(capsys, "calc.wat", "--backends=llvm") == (
        0,
        [
            "file      backend  round trip      reproducible",
            "calc.wat  llvm     same (8 calls)  differs, as it may",
            "",
            "calc.wat on llvm: the Dylib engine's shared objects vary: twice: .text",
        ],
    )
    assert run(capsys, "calc.wat", "--backends=llvm", "--strict") == (
        1,
        [
            "file      backend  round trip      reproducible",
            "calc.wat  llvm     same (8 calls)  DIFFERS",
            "",
            "calc.wat on llvm is not reproducible, twice: .text",
        ],
    )


def test_what_was_not_observed_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pytest_wasmer.checks.LIMIT", 0.2)
    (tmp_path / "loop.wat").write_text(LOOP)
    assert run(capsys, "loop.wat", "--backends=cranelift") == (
        0,
        [
            "file      backend    round trip      reproducible",
            "loop.wat  cranelift  same (2 calls)  same",
            "",
            "loop.wat on cranelift: not observed: loop: did not end within 0.2 s with arguments derived from its type",
        ],
    )


@pytest.mark.parametrize(
    ("wat", "reason"),
    [
        ("(func $f unreachable) (start $f)", "its calls: its start trapped (UNREACHABLE)"),
        (
            '(import "e" "t" (table 1 funcref))',
            "its calls: it imports e.t, a table of 1 or more elements of type funcref,",
        ),
        ('(func (export "loop") (loop $again (br $again)))', None),
    ],
)
def test_nothing_observed_is_not_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wat: str, reason: str | None
) -> None:
    monkeypatch.setattr("pytest_wasmer.checks.LIMIT", 0.2)
    function = '(func (export "f"))' if reason else ""
    (tmp_path / "silent.wat").write_text(f"(module {wat} {function})")
    status, lines = run(capsys, "silent.wat", "--backends=cranelift")
    assert status == 2
    assert lines[:3] == [
        "file        backend    round trip        reproducible",
        "silent.wat  cranelift  no call observed  same",
        "",
    ]
    assert lines[3].startswith(f"silent.wat on cranelift: not observed: {reason or 'loop: did not end within 0.2 s'}")
    status, lines = run(capsys, "silent.wat", "calc.wat", "--backends=cranelift", "--json")
    results = json.loads("\n".join(lines))
    assert (status, [(result["status"], result["calls"]) for result in results]) == (2, [(2, 0), (0, 8)])


def test_the_seed_changes_the_calls(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def note(_: object, *, seed: int) -> RoundTrip:
        seeds.append(seed)
        return RoundTrip(0, ())

    monkeypatch.setattr(check, "check_round_trip", note)
    run(capsys, "calc.wat", "--backends=singlepass", "--seed", "7")
    assert seeds == [7]


def test_nothing_is_stored(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_WASMER_CACHE_DIR", str(tmp_path / "store"))
    run(capsys, "calc.wat", "--backends=singlepass")
    assert not (tmp_path / "store").exists()
