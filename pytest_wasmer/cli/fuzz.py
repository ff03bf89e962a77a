"""`pytest-wasmer fuzz`: looks for calls on which compilers disagree, without a test file."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from pytest_wasmer.agreement.bundles.bundle import write
from pytest_wasmer.agreement.bundles.recording import recorded
from pytest_wasmer.agreement.fuzzing.fuzz import Fuzzed, fuzz
from pytest_wasmer.agreement.fuzzing.lanes import Lanes
from pytest_wasmer.agreement.fuzzing.pasteable import pasteable_test
from pytest_wasmer.agreement.verdict import Level
from pytest_wasmer.cli.engines import Engines, add_backends
from pytest_wasmer.edges import is_callable
from pytest_wasmer.report.bundles import FOLDER
from pytest_wasmer.report.table import counted, in_words
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm.errors import CompileError
from pytest_wasmer.wasm.stubs import unmakeable

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_wasmer.agreement.fuzzing.finding import Finding
    from pytest_wasmer.cli.engines import Commands
    from pytest_wasmer.wasm.module import Module

DESCRIPTION = """\
Calls what a module exports on all backends at once, with edge values as arguments and writes to its memory between
the calls, and compares results, traps, host calls, memories and globals. What it imports is stood in for. The first
disagreement is made small and printed, with a test to paste and a bundle for pytest-wasmer repro."""
EPILOG = """\
Exit status: 0 nothing found, 1 something found, 2 it could not run (fewer than two backends take the module).
Equal seeds give equal calls. What does not end, or exhausts the stack, is left alone and said."""
# Progress is shown so often, in seconds.
SHOWN = 0.2


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "fuzz",
        help="look for calls on which compilers disagree, without a test file",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("file", metavar="FILE", help=".wasm or .wat")
    add_backends(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to look (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="for the calls (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=run)


def run(options: Namespace) -> int:
    with Engines() as engines:
        modules, refused = _modules(engines, options)
        _refuse(modules, refused)
        with Lanes(modules) as lanes:
            progress = _Progress(options.file, options.seconds)
            try:
                found = fuzz(lanes, options.seed, options.seconds, tell=progress.show)
            finally:
                progress.clear()
            told = None if found.finding is None else _told(engines, lanes, found.finding)
            report = _json if options.json else _text
            print(report(options, lanes, found, refused, told))
    return 0 if found.finding is None else 1


def _modules(engines: Engines, options: Namespace) -> tuple[list[Module], dict[str, str]]:
    """On the backends that take it; why the others do not."""
    modules, refused = [], {}
    for backend in engines.select(options.backends):
        try:
            modules.append(engines.load(backend, options.file))
        except CompileError as error:
            refused[backend] = str(error).splitlines()[0]
    return modules, refused


def _refuse(modules: list[Module], refused: dict[str, str]) -> None:
    """Raise where there is nothing to compare."""
    if len(modules) < 2:
        said = "\n".join(refused.values()) or "Name two or more: --backends=all"
        which = f"only {modules[0].backend} takes it" if modules else "no backend takes it"
        raise WasmError(f"fuzzing compares two backends at least, {which}\n{said}")
    path = modules[0].path
    reason = unmakeable(modules[0].imports)
    if reason:
        raise WasmError(f"{path} imports {reason}, which Python cannot make")
    if not any(map(is_callable, modules[0].exports.values())):
        raise WasmError(f"{path} exports no function that Python can call")


class _Progress:
    """On a terminal."""

    def __init__(self, file: str, seconds: float) -> None:
        self._file = file
        self._ends = monotonic() + seconds
        self._next = 0.0
        self._wanted = sys.stderr.isatty()

    def show(self, calls: int) -> None:
        now = monotonic()
        if self._wanted and now >= self._next:
            self._next = now + SHOWN
            left = f"{max(0.0, self._ends - now):.0f} s left"
            print(f"\r{self._file}: {calls} calls on each, {left}\033[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._wanted:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


# What is printed


def _text(options: Namespace, lanes: Lanes, found: Fuzzed, refused: dict[str, str], told: dict[str, str] | None) -> str:
    where = f"{options.file} on {in_words(lanes.names)}, seed {options.seed}"
    lines = [f"{where}: {counted(found.calls, 'call')} on each"]
    lines += refused.values()
    lines += [f"{name} was left alone: {why}" for name, why in found.skipped.items()]
    if found.unconfirmed:
        lines.append(
            f"{counted(found.unconfirmed, 'difference')} did not come again on new instances, or were of NaN bits only"
        )
    if told is None:
        lines.append("No disagreement was found.")
        return "\n".join(lines)
    backends = ",".join(lanes.names)
    again = f"pytest --wasm-backends={backends} test_fuzz.py"
    return "\n".join([*lines, "", told["text"], told["repro"], "", f"As a test ({again}):", "", told["test"].rstrip()])


def _json(options: Namespace, lanes: Lanes, found: Fuzzed, refused: dict[str, str], told: dict[str, str] | None) -> str:
    content: dict[str, Any] = {
        "file": options.file,
        "backends": lanes.names,
        "refused": refused,
        "seed": options.seed,
        "calls": found.calls,
        "left_alone": dict(found.skipped),
        "unconfirmed": found.unconfirmed,
        "finding": told,
    }
    return json.dumps(content, indent=2)


def _told(engines: Engines, lanes: Lanes, finding: Finding) -> dict[str, str]:
    """All that is made of a finding, by name. What its replays saw is in `finding.observed` and each lane's `local`."""
    recorded = [observation.events for observation in finding.observed.values()]
    test = pasteable_test(finding.path, finding.sequence.steps, lanes.types, lanes.imports, recorded)
    repro = _bundle(engines, lanes, finding)
    return {"text": "\n".join(finding.lines(lanes.contents)), "repro": repro, "test": test}


def _bundle(engines: Engines, lanes: Lanes, finding: Finding) -> str:
    """The line that replays what was found, from a bundle that is written here."""
    title = f"{Path(finding.path).name}::fuzz"
    _, recording = recorded(finding.observed, finding.verdict, Level(), lanes.local_of)
    versions = {name: engines.registry.availability(name).detail for name in lanes.names}
    try:
        place = write(Path(FOLDER), title, recording, finding.verdict, versions, find=lanes.contents)
    except OSError as error:
        return f"Repro: none, {error.filename or FOLDER} cannot be written: {error.strerror}"
    cut = f" (the recording was cut: {recording.cut})" if recording.cut else ""
    return f"Repro: pytest-wasmer repro {shlex.quote(str(place))}{cut}"
