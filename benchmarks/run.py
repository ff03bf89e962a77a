"""Prints what pytest-wasmer costs, as ratios against the bare `wasmer` wheels, and whether each meets its goal.

uv run python benchmarks/run.py [NAME...] [--list] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from figures.agreement import end_digests, judging, recording
from figures.artifacts import example_project, store_cold, store_counts, store_speedup, store_warm
from figures.calls import call_direct, call_pipe, map_10_000
from figures.everywhere import wasm_all
from figures.faults import restart, timeouts
from figures.fuzzing import fuzz_speed
from figures.memory import memory
from figures.startup import engine_start, no_wasm
from figures.suite import parametrized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from figures.figure import Figure

TOPICS: dict[str, Callable[[], Iterator[Figure]]] = {
    "no-wasm": no_wasm,
    "engine-start": engine_start,
    "call-pipe": call_pipe,
    "map": map_10_000,
    "parametrized": parametrized,
    "memory": memory,
    "call-direct": call_direct,
    "wasm-all": wasm_all,
    "store-counts": store_counts,
    "store-warm": store_warm,
    "store-speedup": store_speedup,
    "store-cold": store_cold,
    "example-project": example_project,
    "recording": recording,
    "end-digests": end_digests,
    "judging": judging,
    "fuzz": fuzz_speed,
    "timeouts": timeouts,
    "restart": restart,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.list:
        for name, topic in TOPICS.items():
            print(f"{name:15} {topic.__doc__}")
        return
    figures = []
    for figure in _measured(options.names or TOPICS):
        print(_line(figure), flush=True)
        figures.append(figure)
    if options.json:
        options.json.write_text(_json(figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what pytest-wasmer costs.")
    parser.add_argument("names", nargs="*", type=_topic, metavar="NAME", help="default: all")
    parser.add_argument("--list", action="store_true", help="show the names and what they measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


def _topic(name: str) -> str:
    if name not in TOPICS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(TOPICS)}")
    return name


def _measured(names: Iterable[str]) -> Iterator[Figure]:
    for name in names:
        yield from TOPICS[name]()


def _line(figure: Figure) -> str:
    verdict = "ok" if figure.ok else "miss"
    value = f"{figure.value:.2f} {figure.unit}"
    return f"{figure.name:36} {value:>20}  goal {figure.relation} {figure.goal:<4g} {verdict:4}  ({figure.note})"


def _json(figures: Sequence[Figure]) -> str:
    about = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    return json.dumps(about | {"figures": [figure._asdict() for figure in figures]}, indent=2) + "\n"


if __name__ == "__main__":
    main()
