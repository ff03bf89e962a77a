"""What a whole run costs, against the same tests written by hand."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

from figures.engines import backends
from figures.figure import Figure, at_most, in_turns, typical
from figures.runs import SUITES, WITH_PLUGIN, WITHOUT_PLUGIN, copied, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = 15


def parametrized() -> Iterator[Figure]:
    """A run of 300 parametrized tests of one call each, against the same tests with the bare wheels."""
    plugged, bare = _suite("plugged"), _suite("bare")
    for spec in backends():
        in_tests: dict[Path, list[float]] = {plugged: [], bare: []}
        ours, theirs = in_turns(
            ROUNDS,
            partial(_run, plugged, [*WITH_PLUGIN, f"--wasm-backends={spec.name}"], spec.name, in_tests),
            partial(_run, bare, WITHOUT_PLUGIN, spec.name, in_tests),
        )
        tests_alone = typical(in_tests[plugged]) / typical(in_tests[bare])
        note = f"{typical(ours):.2f} s against {typical(theirs):.2f} s; from the first test on: {tests_alone:.2f} x"
        yield at_most(1.3, f"parametrized {spec.name}", typical(ours) / typical(theirs), "x by hand", note)


def _suite(name: str) -> Path:
    directory = copied(name)
    shutil.copy(SUITES / "clock.py", directory / "conftest.py")
    return directory


def _run(directory: Path, arguments: list[str], compiler: str, in_tests: dict[Path, list[float]]) -> float:
    """Seconds of the whole run; what it says itself goes to `in_tests`."""
    report = directory / "seconds.txt"
    duration = run(["-m", "pytest"], directory, arguments, COMPILER=compiler, REPORT=str(report))
    in_tests[directory].append(float(report.read_text()))
    return duration
