"""pytest-wasmer compare."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import cli
from pytest_wasmer.agreement.observe import Observation

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {
    "python": "3.10.13",
    "system": "Linux 6.1",
    "machine": "x86_64",
    "backends": {"llvm": {"engine": "wasmer 1.1.0", "library": "ab"}},
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: Path, results: dict[str, int], **about: Any) -> None:
    """A run of llvm: what each test's only call returned; -1 for a test that failed."""
    path.parent.mkdir(exist_ok=True)
    tests = [
        {
            "test": f"test_it.py::{name}[llvm]",
            "group": f"test_it.py::{name}[backends-agree]",
            "variant": "llvm",
            "outcome": "failed" if bits < 0 else "passed",
            "level": [False, True, True, True],
            "observation": base64.b64encode(observed(bits).packed()).decode(),
        }
        for name, bits in results.items()
    ]
    content = {"pytest-wasmer run": 1, "environment": {**ABOUT, **about}, "tests": tests, "canonical": {}}
    path.write_text(json.dumps(content))


def observed(bits: int) -> Observation:
    events = [("new", 0, "d1", []), ("made",), ("call", 0, "f", "i32", 7), ("result", "i32", bits)]
    return Observation("llvm", events, len(events), [], [], "")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Exit status and lines on stdout."""
    status = cli.main(["compare", *arguments])
    return status, capsys.readouterr().out.splitlines()


def test_runs_that_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "x86.json", {"test_a": 1, "test_b": 2})
    write(tmp_path / "arm.json", {"test_a": 1, "test_b": 2}, machine="aarch64", python="3.13.1")
    assert run(capsys, "x86.json", "arm.json") == (
        0,
        [
            "run  tests  Python   system             backends",
            "x86  2      3.10.13  Linux 6.1 x86_64   llvm (wasmer 1.1.0)",
            "arm  2      3.13.1   Linux 6.1 aarch64  llvm (wasmer 1.1.0)",
            "",
            "2 tests agreed, 0 diverged, 0 not compared",
        ],
    )


def test_all_that_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "x86.json", {"test_a": 1, "test_b": 2, "test_c": -1, "test_d": 0})
    write(tmp_path / "arm.json", {"test_a": 1, "test_b": 3, "test_c": 1, "test_e": 0})
    status, lines = run(capsys, "x86.json", "arm.json")
    assert status == 1
    assert lines[4:] == [
        "1 tests agreed, 1 diverged, 1 not compared",
        "    1: did not pass: x86 llvm (failed)",
        "1 only in x86",
        "    test_it.py::test_d",
        "1 only in arm",
        "    test_it.py::test_e",
        "",
        "test_it.py::test_b",
        "x86 llvm against arm llvm: they disagree",
        "call f(7) (event 3):",
        "    x86 llvm  2  0x00000002  0b00000000000000000000000000000010",
        "    arm llvm  3  0x00000003  0b00000000000000000000000000000011",
        "Again: pytest 'test_it.py::test_b[llvm]'",
    ]


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "x86.json", {"test_a": 1, "test_b": 2, "test_c": -1, "test_d": 0})
    write(tmp_path / "arm.json", {"test_a": 1, "test_b": 3, "test_c": 1})
    status, lines = run(capsys, "x86.json", "arm.json", "--json")
    found = json.loads("\n".join(lines))
    assert status == 1
    assert found.pop("diverged")["test_it.py::test_b"].startswith("x86 llvm against arm llvm")
    assert found == {
        "runs": {"x86": ABOUT, "arm": ABOUT},
        "agreed": ["test_it.py::test_a"],
        "not_compared": {"test_it.py::test_c": "did not pass: x86 llvm (failed)"},
        "only_in_one": {"test_it.py::test_d": "x86"},
        "notes": [],
    }


@pytest.mark.parametrize("other", [{"test_x": 1}, {"test_a": -1}, {}])
def test_nothing_to_compare_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, int]
) -> None:
    write(tmp_path / "x86.json", {"test_a": 1})
    write(tmp_path / "arm.json", other)
    status, lines = run(capsys, "x86.json", "arm.json")
    assert status == 2
    assert lines[4].startswith("nothing was compared (0 tests agreed, 0 diverged, ")


def test_labels_tell_runs_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("x86", "arm"):
        write(tmp_path / folder / "run.json", {"test_a": 1})
    _, lines = run(capsys, "x86/run.json", "arm/run.json")
    assert [line.split()[0] for line in lines[1:3]] == ["x86/run", "arm/run"]
    status, lines = run(capsys, "x86/run.json", "x86/run.json")
    assert [line.split()[0] for line in lines[1:3]] == ["run#1", "run#2"]
    assert status == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["run.json"], "compare takes two files or more: pytest-wasmer compare A.json B.json"),
        (["run.json", "nope.json"], "nope.json cannot be read: No such file or directory"),
        (
            ["run.json", "text.json"],
            "text.json is no run report: it is not JSON; pytest --wasm-report=RUN.json writes one",
        ),
        (
            ["run.json", "newer.json"],
            "newer.json is of a newer version (9, this pytest-wasmer reads 1)\n"
            "To read it: pip install --upgrade pytest-wasmer",
        ),
    ],
)
def test_what_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: list[str], said: str
) -> None:
    write(tmp_path / "run.json", {"test_a": 1})
    (tmp_path / "text.json").write_text("text")
    (tmp_path / "newer.json").write_text('{"pytest-wasmer run": 9}')
    assert cli.main(["compare", *files]) == cli.WRONG
    assert capsys.readouterr().err == f"pytest-wasmer: {said}\n"


def test_what_others_write_into_the_environment_is_no_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, backends in (("a", None), ("b", {"llvm": 3})):
        write(tmp_path / f"{name}.json", {"test_a": 1}, backends=backends)
    assert run(capsys, "a.json", "b.json")[0] == 0
