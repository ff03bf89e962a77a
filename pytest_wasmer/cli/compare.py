"""`pytest-wasmer compare`: the observations of runs on several machines, Pythons or versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_wasmer.agreement import runs
from pytest_wasmer.agreement.compare import compare
from pytest_wasmer.report.table import aligned
from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.agreement.compare import Compared
    from pytest_wasmer.agreement.runs import Run
    from pytest_wasmer.cli.engines import Commands

DESCRIPTION = """\
Compares what tests let be seen in several runs, on other machines, Pythons or versions: each test on all backends of
all runs, by the rules of --wasm-agree. pytest --wasm-report=RUN.json writes the files."""
EPILOG = """\
Exit status: 0 all that was compared agrees, 1 something diverged, 2 nothing could be compared."""
LISTED = 10


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare what tests let be seen in several runs, from files of pytest --wasm-report",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("files", nargs="+", metavar="RUN.json", help="two or more")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=compare_files)


def compare_files(options: Namespace) -> int:
    if len(options.files) < 2:
        raise WasmError("compare takes two files or more: pytest-wasmer compare A.json B.json")
    labels = _labels(options.files)
    found = {label: runs.read(Path(file)) for label, file in zip(labels, options.files, strict=True)}
    compared = compare(found)
    print(json.dumps(_as_json(found, compared), indent=2) if options.json else "\n".join(_text(found, compared)))
    if compared.diverged:
        return 1
    return 0 if compared.agreed else 2


def _labels(files: Sequence[str]) -> list[str]:
    """Names for runs: short ones, if they tell them apart."""
    for names in ([Path(file).stem for file in files], [Path(file).with_suffix("").as_posix() for file in files]):
        if len(set(names)) == len(names):
            return names
    return [f"{Path(file).stem}#{number}" for number, file in enumerate(files, 1)]


def _text(found: Mapping[str, Run], compared: Compared) -> list[str]:
    """A line per run, counts with reasons, then each divergence."""
    rows = [("run", "tests", "Python", "system", "backends"), *[_row(label, run) for label, run in found.items()]]
    agreed, diverged = len(compared.agreed), len(compared.diverged)
    counts = f"{agreed} tests agreed, {diverged} diverged, {len(compared.incomparable)} not compared"
    lines = [*aligned(rows, texts=5), "", counts if agreed or diverged else f"nothing was compared ({counts})"]
    lines += _first([f"{count}: {reason}" for reason, count in compared.reasons.most_common()])
    for label in found:
        alone = [name for name, run in compared.alone.items() if run == label]
        lines += [f"{len(alone)} only in {label}", *_first(alone)] if alone else []
    lines += compared.notes
    for name, text in compared.diverged.items():
        lines += ["", name, text]
    return lines


def _first(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in [*lines[:LISTED], *(["..."] if len(lines) > LISTED else [])]]


def _row(label: str, run: Run) -> tuple[str, ...]:
    about = run.environment
    backends = [f"{name} ({said})" if said else name for name, said in _engines(about).items()]
    system = f"{about.get('system', '')} {about.get('machine', '')}"
    return label, str(len(run.groups)), str(about.get("python", "")), system, ", ".join(backends)


def _engines(about: Mapping[str, Any]) -> dict[str, str]:
    backends = about.get("backends")
    if not isinstance(backends, dict):
        return {}
    return {name: str(said.get("engine", "")) if isinstance(said, dict) else "" for name, said in backends.items()}


def _as_json(found: Mapping[str, Run], compared: Compared) -> dict[str, Any]:
    return {
        "runs": {label: run.environment for label, run in found.items()},
        "agreed": compared.agreed,
        "diverged": compared.diverged,
        "not_compared": compared.incomparable,
        "only_in_one": compared.alone,
        "notes": compared.notes,
    }
