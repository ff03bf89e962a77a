"""`pytest-wasmer check`: round trip and reproducibility of any module, without a test file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.checks import CheckFailed, check_reproducible, check_round_trip
from pytest_wasmer.cli.engines import Engines, add_backends
from pytest_wasmer.report.table import aligned
from pytest_wasmer.runtime.errors import EngineLost, WasmError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from pytest_wasmer.cli.engines import Commands
    from pytest_wasmer.wasm.module import Module

DESCRIPTION = """\
Checks that the stored code of a module is the same program when it is loaded again, in the same and in a fresh
engine process, and that compiling it again gives the same bytes. Calls are derived from the types of the exports."""
EPILOG = """\
Exit status: 0 nothing found, 1 something found, 2 something could not be checked, or no call of a
module's functions observed.
Code of singlepass and shared objects (-dylib) may differ each time; that counts with --strict only."""


class Result(NamedTuple):
    """One module on one backend. Texts are empty where nothing was found."""

    file: str
    backend: str
    calls: int
    unobserved: tuple[str, ...]
    round_trip: str
    reproducible: bool | None
    difference: str
    excuse: str
    error: str

    @property
    def status(self) -> int:
        if self.error:
            return 2
        if self.round_trip or self.reproducible is None:
            return 1
        return 2 if self.silent else 0

    @property
    def silent(self) -> bool:
        """Whether functions are exported, of which none could be observed."""
        return not self.calls and bool(self.unobserved)


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "check",
        help="check that a module's stored code is the same program, and its compiles reproducible",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=".wasm or .wat")
    add_backends(parser)
    parser.add_argument("--seed", type=int, default=0, help="for the arguments of calls (default: 0)")
    parser.add_argument("--strict", action="store_true", help="all must give the same bytes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(command=check)


def check(options: Namespace) -> int:
    results = []
    with Engines() as engines:
        for backend in engines.select(options.backends):
            for file in options.files:
                if sys.stderr.isatty():
                    print(f"\r{backend} {file} ...\033[K", end="", file=sys.stderr, flush=True)
                results.append(_checked(engines, backend, file, options))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    results.sort(key=lambda result: options.files.index(result.file))
    if options.json:
        print(json.dumps([{**result._asdict(), "status": result.status} for result in results], indent=2))
    else:
        print("\n".join(_table(results)))
    return max(result.status for result in results)


def _checked(engines: Engines, backend: str, file: str, options: Namespace) -> Result:
    result = Result(file, backend, 0, (), "", None, "", "", "")
    try:
        module = engines.load(backend, file)
        return _reproduced(module, _round_tripped(module, result, options.seed), strict=options.strict)
    except EngineLost as loss:
        return result._replace(error=loss.account)
    except WasmError as error:
        return result._replace(error=str(error))


def _round_tripped(module: Module, result: Result, seed: int) -> Result:
    try:
        done = check_round_trip(module, seed=seed)
    except CheckFailed as failed:
        return result._replace(round_trip=str(failed))
    return result._replace(calls=done.calls, unobserved=done.unobserved)


def _reproduced(module: Module, result: Result, *, strict: bool) -> Result:
    try:
        done = check_reproducible(module, strict=strict)
    except CheckFailed as failed:
        return result._replace(difference=str(failed))
    return result._replace(reproducible=done.equal, difference=done.difference, excuse=done.excuse)


def _table(results: Sequence[Result]) -> list[str]:
    """A line per module and backend, then what was found, in full."""
    rows = [("file", "backend", "round trip", "reproducible")]
    found = []
    for result in results:
        if result.error:
            rows.append((result.file, result.backend, "not checked", "not checked"))
            found.append(result.error)
            continue
        trip = "no call observed" if result.silent else f"same ({result.calls} calls)"
        trip = "DIFFERS" if result.round_trip else trip
        again = {True: "same", False: "differs, as it may", None: "DIFFERS"}[result.reproducible]
        rows.append((result.file, result.backend, trip, again))
        found += [result.round_trip] if result.round_trip else []
        where = f"{result.file} on {result.backend}"
        if result.reproducible is False:
            found.append(f"{where}: {result.excuse}: {result.difference}")
        elif result.reproducible is None:
            found.append(result.difference)
        found += [f"{where}: not observed: {text}" for text in result.unobserved]
    return [*aligned(rows, texts=4), *([""] if found else []), *found]
