"""Header lines and the end summary."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.report.table import aligned, counted, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypedDict

    import pytest

    from pytest_wasmer.agreement.groups import Membership
    from pytest_wasmer.artifacts.store import Entry
    from pytest_wasmer.engines.registry import Registry
    from pytest_wasmer.selection import Selection
    from pytest_wasmer.settings import Settings

    class Facts(TypedDict):
        """What a test report carries, also from an xdist worker: plain values.

        By variant (see `selection`) what was loaded: tuples as of `wasm.loading.Loading`.
        `warnings`: of which variant, "" for all, artifacts are not stored, and why.
        """

        variant: str
        #: Of this report, and of those of the test before it that had nothing to say.
        seconds: float
        #: Whether this is the last report of a test that was called.
        ended: bool
        #: What a test that uses `wasm_all` did; "" for one that runs on each backend.
        at_once: str
        loadings: Mapping[str, Sequence[tuple[str, float, float]]]
        warnings: list[tuple[str, str]]
        membership: Membership | None


def header(settings: Settings, chosen: Selection, registry: Registry) -> list[str]:
    """Backends, version and isolation with the source of each setting that is not the default; what does not work."""
    names = ", ".join(chosen.names) or "none"
    source = f" (from {settings.backends.source})" if settings.backends.given else ""
    versions = sorted({registry.availability(name).detail for name in chosen.names} - {""})
    stored = {
        "artifacts": settings.artifacts,
        "agree": settings.agree,
        "repro": settings.repro,
        "cache": settings.cache,
        "cache in": settings.cache_dir,
        "cache max size": settings.cache_max_size,
        "cache max age": settings.cache_max_age,
        "timeout": settings.timeout,
        "memory limit": settings.memory_limit,
    }
    said = [
        f"backends {names}{source}",
        *[f"{name} {setting}" for name, setting in stored.items() if setting.given],
        f"isolation {settings.isolation}",
        *versions,
    ]
    return [f"wasm: {', '.join(said)}", *notes(chosen, registry)]


def notes(chosen: Selection, registry: Registry) -> list[str]:
    """What does not work here, and what is not what its name says."""
    replaced = [spec for spec in registry.replaced if spec.name in chosen.names]
    return [
        *[f"wasm: {item.spec.name} does not work here: {item.reason} ({item.remedy})" for item in chosen.missing],
        *[f"wasm: {spec.name} is not Wasmer's: a plugin has put {spec.engine} in its place" for spec in replaced],
    ]


class Row(NamedTuple):
    """What became of one backend's tests."""

    backend: str
    passed: int
    failed: int
    skipped: int
    xfailed: int
    compiled: int
    loaded: int
    refused: int
    compile_seconds: float
    saved_seconds: float
    run_seconds: float


class Tally:
    """Counts test reports as they come in, from this process or from xdist workers."""

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, str]] = {}
        self._loadings: dict[str, list[tuple[str, float, float]]] = {}
        self._durations: dict[str, float] = {}
        self._at_once: dict[str, str] = {}
        # By reason the backends whose artifacts are not stored.
        self._warnings: dict[str, set[str]] = {}
        #: What had to go from the store.
        self.evicted: list[Entry] = []

    def add(self, report: pytest.TestReport, facts: Facts, shown: str) -> None:
        """`shown`: what became of the test so far, see `Outcomes`."""
        variant = facts["variant"]
        duration = facts["seconds"]
        for name, loadings in facts["loadings"].items():
            self._loadings.setdefault(name, []).extend(loadings)
            duration -= sum(seconds for _, seconds, _ in loadings)
        for name, reason in facts["warnings"]:
            self._warnings.setdefault(reason, set()).add(name)
        self._durations[variant] = self._durations.get(variant, 0.0) + duration
        if facts["at_once"] and report.when == "call" and report.outcome != "skipped":
            self._at_once[report.nodeid] = facts["at_once"]
        outcomes = self._outcomes.setdefault(variant, {})
        if shown or facts["ended"]:
            outcomes[report.nodeid] = shown or "passed"

    @property
    def compiled(self) -> bool:
        """Whether anything was."""
        return any(what == "compiled" for loadings in self._loadings.values() for what, _, _ in loadings)

    def rows(self, order: Sequence[str]) -> list[Row]:
        """One row per backend that ran a test, or loaded a module for one that asked all at once."""
        if not any(self._outcomes.values()):
            return []
        return [self._row(name) for name in order if self._outcomes.get(name) or self._loadings.get(name)]

    def _row(self, name: str) -> Row:
        outcomes = list(self._outcomes.get(name, {}).values())
        loadings = self._loadings.get(name, [])
        kinds = [what for what, _, _ in loadings]
        compiling = sum(seconds for what, seconds, _ in loadings if what == "compiled")
        return Row(
            name,
            outcomes.count("passed"),
            outcomes.count("failed"),
            outcomes.count("skipped"),
            outcomes.count("xfailed"),
            kinds.count("compiled"),
            kinds.count("loaded"),
            kinds.count("refused"),
            compiling,
            sum(saved for _, _, saved in loadings),
            max(0.0, self._durations.get(name, 0.0)),
        )

    def at_once(self) -> list[str]:
        """How many tests asked their backends at once, and how many."""
        counts = Counter(self._at_once.values())
        return [f"wasm: {counted(count, 'test')} {said}" for said, count in counts.items()]

    def remarks(self) -> list[str]:
        """What the table cannot say."""
        lines = [_not_stored(names, reason) for reason, names in self._warnings.items()]
        if self.evicted:
            size = size_text(sum(item.size for item in self.evicted))
            lines.append(f"evicted {counted(len(self.evicted), 'stored artifact')} ({size})")
        return [f"wasm: {line}" for line in lines]


def _not_stored(variants: set[str], reason: str) -> str:
    of = f" of {', '.join(sorted(variants))}" if "" not in variants else ""
    return f"artifacts{of} are not stored: {reason}"


# Those that are nearly always 0 are shown where they are not: the table is to fit in 80 characters.
COLUMNS = (
    *("backend", "passed", "failed", "skipped", "xfailed"),
    *("compiled", "loaded", "refused", "compile", "saved", "run"),
)
RARE = ("xfailed", "refused")


def table(rows: Sequence[Row]) -> list[str]:
    """A line per backend; none without rows.

    "compiled", "loaded" (from the store) and "refused" (stored, but not to be used) count modules; times are in seconds
    of this run, summed over its processes: compiling, what the store saved of that, and running tests.
    """
    cells = [(row.backend, *map(str, row[1:8]), *[f"{seconds:.2f} s" for seconds in row[8:]]) for row in rows]
    columns = zip(COLUMNS, *cells, strict=True)
    kept = [column for column in columns if column[0] not in RARE or set(column[1:]) != {"0"}]
    return aligned(list(zip(*kept, strict=True))) if cells else []
