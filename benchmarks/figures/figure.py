"""What a figure is, and how its numbers are taken: in turns, so that a busy machine disturbs both sides alike."""

from __future__ import annotations

import os
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Figure(NamedTuple):
    """A measured `value` in `unit`; `ok` when its `relation` to the `goal` holds. `note`: what it was made of."""

    name: str
    value: float
    unit: str
    goal: float
    ok: bool
    note: str
    relation: str = "<="


def at_most(goal: float, name: str, value: float, unit: str, note: str) -> Figure:
    return Figure(name, value, unit, goal, value <= goal, note)


def at_least(goal: float, name: str, value: float, unit: str, note: str) -> Figure:
    return Figure(name, value, unit, goal, value >= goal, note, ">=")


def exactly(goal: float, name: str, value: float, unit: str, note: str) -> Figure:
    return Figure(name, value, unit, goal, value == goal, note, "==")


def seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def in_turns(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """A B A B ...: the results of each measure, which runs once before anything counts."""
    for measure in measures:
        measure()
    results: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for result, measure in zip(results, measures, strict=True):
            result.append(measure())
    return results


def typical(results: Sequence[float]) -> float:
    """The lower quartile: below what disturbances add, and no lucky best."""
    return sorted(results)[len(results) // 4]


def compared(rounds: int, *measures: Callable[[], float]) -> list[float]:
    return [typical(results) for results in in_turns(rounds, *measures)]


@contextmanager
def pinned(processors: Iterable[int], process: int = 0) -> Iterator[None]:
    """Keep a process (0: this one) on these processors."""
    before = os.sched_getaffinity(process)
    os.sched_setaffinity(process, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(process, before)


def layouts() -> dict[str, tuple[int, int]]:
    """Where a test process and the process that answers it run: on one core, and on two where there are two."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {"one core": (first, first)} | ({"two cores": (first, others[0])} if others else {})
