"""Whether memory grows with the number of tests."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

from figures.engines import backends
from figures.figure import Figure, at_most
from figures.runs import WITHOUT_PLUGIN, copied, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TESTS = 1000
# Tests run by file, then by backend: after 50 tests of files with 16 tests, three engine processes run.
TESTS_OF_A_FILE = 16
IDLE = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_idle(number):
    pass
"""


class Growth(NamedTuple):
    """Resident KiB of the test process and of all engine processes together, after 50 and after 1,000 tests."""

    test: int
    engines: int
    test_later: int
    engines_later: int

    @property
    def before(self) -> int:
        return self.test + self.engines

    @property
    def after(self) -> int:
        return self.test_later + self.engines_later

    def __str__(self) -> str:
        test, engines, test_later, engines_later = [kib / 1024 for kib in self]
        return f"test process {test:.1f} -> {test_later:.1f} MiB, engines {engines:.1f} -> {engines_later:.1f} MiB"


def memory() -> Iterator[Figure]:
    """Resident memory of the test process and the engine processes after 1,000 tests, against that after 50."""
    names = [spec.name for spec in backends()]
    growth = _run(_many_files(len(names)), [f"--wasm-backends={','.join(names)}"], TESTS_OF_A_FILE)
    note = f"{', '.join(names)}; {growth}"
    yield at_most(1.05, "memory (together)", growth.after / growth.before, "x after 50", note)

    idle = _run(_idle_suite(), WITHOUT_PLUGIN, TESTS)
    pytest_itself = idle.after - idle.before
    suite = copied("memory")
    for name in names:
        growth = _run(suite, [f"--wasm-backends={name}"], TESTS)
        value = (growth.after - pytest_itself) / growth.before
        own = (
            f"pytest's own {pytest_itself / 1024:.1f} MiB do not count ({growth.after / growth.before:.2f} x with them)"
        )
        yield at_most(1.05, f"memory-own {name}", value, "x after 50", f"{growth}; {own}")


def _many_files(backend_count: int) -> Path:
    directory = copied("memory", "memory-many")
    (directory / "test_memory.py").unlink(missing_ok=True)
    for number in range(1 + TESTS // (TESTS_OF_A_FILE * backend_count)):
        shutil.copy(copied("memory") / "test_memory.py", directory / f"test_memory_{number}.py")
    return directory


def _idle_suite() -> Path:
    directory = copied("memory", "memory-idle")
    (directory / "test_memory.py").write_text(IDLE)
    return directory


def _run(suite: Path, arguments: Sequence[str], tests: int) -> Growth:
    report = suite / "memory.json"
    run(["-m", "pytest"], suite, arguments, REPORT=str(report), TESTS=str(tests))
    (test, engines), (test_later, engines_later) = json.loads(report.read_text())
    return Growth(test, engines, test_later, engines_later)
