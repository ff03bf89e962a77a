"""What these tests share: a suite, a store of its own, the summary as numbers, what was warned of."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import HERE, provide_wheels

if TYPE_CHECKING:
    import pytest

XDIST = ("-p", "xdist", "-n", "2")

# Two modules, one of which two tests use.
SUITE = """
    from fake_engine import module, function

    ONE = module(exports={"add": function("i32 i32 -> i32", ["sum"])}, name="one")
    TWO = module(exports={"f": function("-> i32", [["return", 2]])}, name="two")

    def test_add(wasm_instance):
        assert wasm_instance(ONE).exports.add(1, 2) == 3

    def test_again(wasm_instance):
        assert wasm_instance(ONE).exports.add(1, 3) == 4

    def test_two(wasm_instance):
        assert wasm_instance(TWO).exports.f() == 2
"""

# A backend "marking" whose modules say by their name whether they were deserialized.
MARKING = """
from fake_engine import FakeEngine

class Marking(FakeEngine):
    def deserialize(self, artifact, *more):
        found = super().deserialize(artifact, *more)
        found.content["name"] = "reloaded"
        return found
"""

BACKEND_CONFTEST = """
import sys
from pathlib import Path
from pytest_wasmer import BackendSpec

HERE = str(Path(__file__).parent)
sys.path[:0] = [HERE, {tests!r}]

def pytest_wasmer_backends(config):
    return [BackendSpec({name!r}, {engine!r}, "fake-a", import_path=HERE, identity={identity!r})]
"""


def own_directories(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No other test's store or seal key takes part; what only saves time does."""
    own, shared = (path / "pytest-wasmer" for path in (folder / "cache-home", Path(os.environ["XDG_CACHE_HOME"])))
    for name in ("probes", "pycache", "pythons"):
        (shared / name).mkdir(parents=True, exist_ok=True)
        own.mkdir(parents=True, exist_ok=True)
        (own / name).symlink_to(shared / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache-home"))
    provide_wheels(folder / "data-home")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data-home"))
    for name in ("ARTIFACTS", "CACHE", "CACHE_DIR", "CACHE_MAX_SIZE", "CACHE_MAX_AGE"):
        monkeypatch.delenv(f"PYTEST_WASMER_{name}", raising=False)


def register(pytester: pytest.Pytester, name: str, code: str, factory: str, identity: str = "1") -> None:
    """A project with one more backend, whose adapter is `factory` in the given code."""
    stem = name.replace("-", "_")
    pytester.path.joinpath(f"{stem}.py").write_text(f"import sys\nsys.path.append({str(HERE)!r})\n{code}")
    pytester.makeconftest(
        BACKEND_CONFTEST.format(tests=str(HERE), name=name, engine=f"{stem}:{factory}", identity=identity)
    )


def rows(result: pytest.RunResult) -> dict[str, dict[str, str]]:
    """The summary's table: by backend and title."""
    start = next(index for index, line in enumerate(result.stdout.lines) if "= wasm backends =" in line)
    lines = [re.split(r"\s{2,}", line) for line in result.stdout.lines[start + 1 :]]
    titles = lines[0]
    cells = [line for line in lines[1:] if len(line) == len(titles)]
    return {line[0]: dict(zip(titles[1:], line[1:], strict=True)) for line in cells}


def counts(result: pytest.RunResult, backend: str = "fake-a") -> tuple[int, int, int]:
    """Modules compiled, loaded from the store, and refused."""
    row = rows(result)[backend]
    return int(row["compiled"]), int(row["loaded"]), int(row.get("refused", 0))


def remarks(result: pytest.RunResult) -> list[str]:
    """What the summary says below its table, but for what was compared."""
    start = next(index for index, line in enumerate(result.stdout.lines) if "= wasm backends =" in line)
    lines = [line for line in result.stdout.lines[start:] if line.startswith("wasm: ")]
    return [line for line in lines if "compared" not in line]


def stored(folder: Path) -> list[Path]:
    """The artifact files below a directory."""
    return sorted(folder.rglob("*.artifact"))


def assert_warned_once(result: pytest.RunResult, *, passed: int) -> None:
    """Older pytests have warnings of their own."""
    assert result.parseoutcomes()["passed"] == passed
    assert result.stdout.str().count("PytestWarning: ") == 1
