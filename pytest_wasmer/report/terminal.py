"""Header lines and the end summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypedDict

    import pytest

    from pytest_wasmer.engines.registry import Registry
    from pytest_wasmer.selection import Selection
    from pytest_wasmer.settings import Settings

    class Facts(TypedDict):
        """What a test report carries, also from an xdist worker: plain values."""

        backend: str
        compiles: dict[str, list[float]]


def header(settings: Settings, chosen: Selection, registry: Registry) -> list[str]:
    """Backends, version and isolation with the source of each setting that is not the default; what does not work."""
    names = ", ".join(chosen.names) or "none"
    source = f" (from {settings.backends.source})" if settings.backends.given else ""
    versions = sorted({registry.availability(name).detail for name in chosen.names} - {""})
    said = [f"backends {names}{source}", f"isolation {settings.isolation}", *versions]
    return [f"wasm: {', '.join(said)}", *missing_lines(chosen)]


def missing_lines(chosen: Selection) -> list[str]:
    return [f"wasm: {item.spec.name} does not work here: {item.reason} ({item.remedy})" for item in chosen.missing]


class Row(NamedTuple):
    """What became of one backend's tests."""

    backend: str
    passed: int
    failed: int
    skipped: int
    xfailed: int
    modules: int
    compile_seconds: float
    run_seconds: float


class Tally:
    """Counts test reports as they come in, from this process or from xdist workers."""

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, str]] = {}
        self._compiles: dict[str, list[float]] = {}
        self._durations: dict[str, float] = {}

    def add(self, report: pytest.TestReport) -> None:
        facts: Facts | None = getattr(report, "wasm", None)
        if facts is None:
            return
        backend = facts["backend"]
        for name, seconds in facts["compiles"].items():
            self._compiles.setdefault(name, []).extend(seconds)
        self._durations[backend] = self._durations.get(backend, 0.0) + report.duration
        outcomes = self._outcomes.setdefault(backend, {})
        outcome = "xfailed" if report.outcome == "skipped" and hasattr(report, "wasxfail") else report.outcome
        if report.when == "setup":
            outcomes.pop(report.nodeid, None)  # a rerun counts from its last attempt
        if (report.when == "call" or outcome != "passed") and outcomes.get(report.nodeid) != "failed":
            outcomes[report.nodeid] = outcome

    def rows(self, order: Sequence[str]) -> list[Row]:
        """One row per backend that ran a test."""
        names = [name for name in order if self._outcomes.get(name)]
        return [self._row(name) for name in names]

    def _row(self, name: str) -> Row:
        outcomes = list(self._outcomes[name].values())
        compiles = self._compiles.get(name, [])
        return Row(
            name,
            outcomes.count("passed"),
            outcomes.count("failed"),
            outcomes.count("skipped"),
            outcomes.count("xfailed"),
            len(compiles),
            sum(compiles),
            max(0.0, self._durations[name] - sum(compiles)),
        )


COLUMNS = ("backend", "passed", "failed", "skipped", "xfailed", "compiled", "compiling", "running")


def table(rows: Sequence[Row]) -> list[str]:
    """A line per backend; none without rows.

    "compiled" counts modules; times are in seconds of this run, summed over its processes.
    """
    cells = [
        (row.backend, *map(str, row[1:6]), f"{row.compile_seconds:.2f} s", f"{row.run_seconds:.2f} s") for row in rows
    ]
    lines = [COLUMNS, *cells] if cells else []
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS)) if lines]
    return ["  ".join(_aligned(line, widths)).rstrip() for line in lines]


def _aligned(line: Iterable[str], widths: Sequence[int]) -> list[str]:
    first, *numbers = line
    return [
        first.ljust(widths[0]),
        *[cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)],
    ]
