"""Whether memory grows with the number of tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from figures.engines import backends
from figures.figure import Figure, at_most
from figures.runs import copied, run

if TYPE_CHECKING:
    from collections.abc import Iterator


def memory() -> Iterator[Figure]:
    """Resident memory of the test process and the engine process after 1,000 tests, against that after 50."""
    suite = copied("memory")
    report = suite / "memory.json"
    for spec in backends():
        run(["-m", "pytest"], suite, [f"--wasm-backends={spec.name}"], REPORT=str(report))
        (test, engine), (test_later, engine_later) = json.loads(report.read_text())
        note = f"test process {_grown(test, test_later)}, engine process {_grown(engine, engine_later)}"
        growth = (test_later + engine_later) / (test + engine)
        yield at_most(1.05, f"memory {spec.name}", growth, "x after 50", note)


def _grown(first: int, last: int) -> str:
    return f"{first / 1024:.1f} -> {last / 1024:.1f} MiB"
