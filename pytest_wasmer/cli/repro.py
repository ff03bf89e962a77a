"""`pytest-wasmer repro`: a reproducer bundle, replayed."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.agreement.bundles.bundle import Bundle, BundleError, read, rewrite
from pytest_wasmer.agreement.bundles.minimize import minimized
from pytest_wasmer.agreement.bundles.recording import OUTCOMES
from pytest_wasmer.agreement.bundles.replay import Stage
from pytest_wasmer.agreement.judge import judge
from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, INCOMPARABLE, Verdict, of_losses
from pytest_wasmer.agreement.verdicts import camps_of, disagreement
from pytest_wasmer.cli.engines import Engines
from pytest_wasmer.report.table import counted
from pytest_wasmer.variants import backend_in, variant

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_wasmer.agreement.bundles.recording import Recording
    from pytest_wasmer.agreement.bundles.replay import Replayed
    from pytest_wasmer.cli.engines import Commands

DESCRIPTION = """\
Does again what a bundle says, on each backend in an engine process of its own, and compares what comes out. Host
functions answer as they did when the bundle was written: no test, and no code of its project, is run."""
EPILOG = """\
Exit status: 0 all agree, 1 they still diverge (or one crashes, or does not end), 2 it could not be replayed or
compared, or the recording was cut and what is left agrees."""
# Wasm and Python may call each other 100 deep, each time through some frames of a replay.
RECURSION = 5000


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "repro", help="replay a reproducer bundle that a failed test wrote", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("dir", metavar="DIR", type=Path, help="the bundle, as the failure names it")
    parser.add_argument(
        "--backends",
        metavar="NAMES",
        help="names with commas between them, 'all' or 'available' (default: those that the bundle was written for)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for one backend; 0 is none (default: 60)"
    )
    parser.add_argument(
        "--minimize",
        action="store_true",
        help="write a second bundle, DIR-min, without the calls (and rows of map) that the divergence does not need",
    )
    parser.set_defaults(command=repro)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise ValueError(text)
    return value


def repro(options: Namespace) -> int:
    place: Path = options.dir
    bundle = read(place)
    with _room_for_nested_calls(), Engines() as engines:
        variants = _variants(bundle, options.backends, engines)
        with Stage(engines.connection, bundle.artifacts, options.timeout) as stage:
            try:
                return _replay(place, bundle, variants, stage, engines, options)
            except (BundleError, RecursionError) as error:
                raise BundleError(f"{place} cannot be replayed: {error}") from None


@contextmanager
def _room_for_nested_calls() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _variants(bundle: Bundle, names: str | None, engines: Engines) -> list[str]:
    """What to replay on: as it was, or the given backends with the kinds of code that it was run with."""
    backends = engines.select(names or ",".join(dict.fromkeys(map(backend_in, bundle.variants))))
    codes = dict.fromkeys(name.removeprefix(backend_in(name)).removeprefix("-") for name in bundle.variants)
    found = [variant(name, code) for name in backends for code in codes]
    if len(found) < 2:
        raise pytest.UsageError(f"--backends: {found[0]} alone can agree with itself only: name two or more")
    return found


def _replay(
    place: Path, bundle: Bundle, variants: Sequence[str], stage: Stage, engines: Engines, options: Namespace
) -> int:
    print(f"{bundle.title}: {_extent(bundle.recording)} on {', '.join(variants)}")
    if bundle.recording.cut:
        print(f"The recording was cut: {bundle.recording.cut}")
    replayed = {name: stage.replay(name, bundle.recording) for name in variants}
    verdict = _judged(replayed, bundle, stage)
    print("\n".join(_told(replayed, verdict, bundle, stage)))
    if verdict.kind != DIVERGED:
        return 0 if verdict.kind == AGREED and not bundle.recording.cut else 2
    if options.minimize:
        _minimize(place, bundle, variants, stage, engines)
    return 1


def _extent(recording: Recording) -> str:
    """ "9 steps", "2 steps and 100 rows of map"."""
    asked = [event for event in recording.events if event[0] not in OUTCOMES]
    rows = sum(len(event[4]) for event in asked if event[0] == "map")
    return counted(len(asked), "step") + (f" and {counted(rows, 'row')} of map" if rows else "")


def _judged(replayed: Mapping[str, Replayed], bundle: Bundle, stage: Stage) -> Verdict:
    """Where an engine process was lost, that is what came out of it."""
    if any(item.lost for item in replayed.values()):
        return of_losses({name: item.lost for name, item in replayed.items()})
    observed = {name: item.observation for name, item in replayed.items() if item.observation is not None}
    if not observed:
        return Verdict(INCOMPARABLE, "nothing was asked of Wasm")
    return judge(observed, bundle.level, stage.find)


def _told(replayed: Mapping[str, Replayed], verdict: Verdict, bundle: Bundle, stage: Stage) -> list[str]:
    if any(item.lost for item in replayed.values()):
        return [f"    {name}: {item.lost or 'it ended'}" for name, item in replayed.items()]
    strayed = [f"{name} left the recording: {item.strayed}" for name, item in replayed.items() if item.strayed]
    if verdict.kind == DIVERGED:
        return [*disagreement(verdict, stage.find), *strayed]
    if verdict.kind == INCOMPARABLE:
        return [f"They cannot be compared: {verdict.reason}", *strayed]
    if bundle.recording.cut:
        return ["All agree on what is left of it, which says little.", *strayed]
    return ["All agree.", *strayed]


# Minimizing


def _minimize(place: Path, bundle: Bundle, variants: Sequence[str], stage: Stage, engines: Engines) -> None:
    """Write what is left when all is dropped that the same disagreement does not need."""

    def verdict_on(recording: Recording) -> Verdict:
        return _judged({name: stage.replay(name, recording) for name in variants}, bundle, stage)

    wanted = _signature(verdict_on(bundle.recording))
    smallest = minimized(bundle.recording, lambda recording: _signature(verdict_on(recording)) == wanted)
    replayed = {name: stage.replay(name, smallest) for name in variants}
    verdict = _judged(replayed, bundle, stage)
    observation = replayed[next(iter(camps_of(verdict.outcomes)[-1]))].observation
    if observation is not None:  # with outcomes that belong to these steps
        smallest = smallest._replace(events=observation.events)
    absolute = place.resolve()
    target = absolute.with_name(f"{absolute.name.removesuffix('-min')}-min")
    versions = {name: engines.registry.availability(backend_in(name)).detail for name in variants}
    before, after = _extent(bundle.recording), _extent(smallest)
    rewrite(target, bundle._replace(recording=smallest, variants=[*variants]), verdict, versions, stage.find)
    shown = target if place.is_absolute() else os.path.relpath(target)
    print(f"Minimized from {before} to {after}: pytest-wasmer repro {shlex.quote(str(shown))}")


def _signature(verdict: Verdict) -> object:
    """What must stay the same: who is on which side, with what kind of outcome."""
    sides = [{name: event and event[0] for name, event in camp.items()} for camp in camps_of(verdict.outcomes)]
    return verdict.kind, sorted(map(repr, sides))
