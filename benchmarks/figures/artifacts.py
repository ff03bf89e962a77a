"""What the store of artifacts saves, and what it costs: on real modules, see `modules`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import wasmer

from figures.engines import ADD, backends, bare_store, cache_directory, registry
from figures.figure import Figure, at_least, at_most, exactly, in_turns, seconds
from figures.modules import EXAMPLE_PROJECT, real_modules
from figures.runs import copied, run
from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.key import parts_of
from pytest_wasmer.artifacts.store import ARTIFACT, Shelf, open_store
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.loading import Reloaded
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_wasmer.artifacts.store import Place
    from pytest_wasmer.engines.registry import BackendSpec
    from pytest_wasmer.wasm.loading import Loading

COUNTED = Path(__file__).resolve().parent.parent / "children" / "counted_pytest.py"
XDIST = ["-p", "xdist", "-n", "2"]

LOADS = 40
# Of engine processes that are new.
STARTS = 5
COMPILES = 5
# A compile that takes longer, in seconds, is measured once.
SLOW = 1.5
# What a load through the store may cost beyond its ratio, in seconds.
ALLOWANCE = 0.3e-3

LEAST_SPEEDUP = {"singlepass": 8, "cranelift": 100, "llvm": 3000}
MOST_COLD = {"singlepass": 1.5, "cranelift": 1.05, "llvm": 1.01}


# Counts


def store_counts() -> Iterator[Figure]:
    """Modules compiled by runs that share a store, cold and warm: in one process, with -n 2, two runs at once."""
    suite = _suite_of_store()
    names = [spec.name for spec in backends()]
    for where, sessions, more in (("one process", 1, []), ("-n 2", 1, XDIST), ("two at once", 2, [])):
        with tempfile.TemporaryDirectory(dir=cache_directory()) as directory:
            arguments = [f"--wasm-backends={','.join(names)}", f"--wasm-cache-dir={directory}", *more]
            cold = _counted(suite, arguments, sessions)
            entries = len(list(Path(directory).rglob(f"*{ARTIFACT}")))
            warm = _counted(suite, arguments, sessions)
        note = f"{entries} entries of {', '.join(names)}; {cold['loaded']} loaded, {cold['refused']} refused"
        yield exactly(entries, f"store-counts cold, {where}", cold["compiled"], "compiles", note)
        note = f"{warm['loaded']} loaded, {warm['refused']} refused"
        yield exactly(0, f"store-counts warm, {where}", warm["compiled"], "compiles", note)


def _suite_of_store() -> Path:
    suite = copied("store")
    for name in ("hash-sha256.wasm", "gofmt.wasm"):
        shutil.copy(EXAMPLE_PROJECT / "modules" / name, suite)
    return suite


def _counted(suite: Path, arguments: Sequence[str], sessions: int) -> dict[str, int]:
    """What that many runs at the same time counted together."""
    reports = [cache_directory() / f"loadings-{number}.json" for number in range(sessions)]
    with ThreadPoolExecutor(sessions) as threads:
        runs = [threads.submit(run, [str(COUNTED), str(report)], suite, arguments) for report in reports]
        for done in runs:
            done.result()
    counts = [json.loads(report.read_text()) for report in reports]
    return {what: sum(count[what] for count in counts) for what in counts[0]}


def example_project() -> Iterator[Figure]:
    """Modules compiled by a second run of the example project, after a first one with nothing cached."""
    project = Path(shutil.copytree(EXAMPLE_PROJECT, cache_directory() / "example_project", dirs_exist_ok=True))
    names = [spec.name for spec in backends()]
    report = cache_directory() / "example.json"
    durations, counts = [], []
    with tempfile.TemporaryDirectory(dir=cache_directory()) as fresh:
        for _ in range(2):
            arguments = [f"--wasm-backends={','.join(names)}"]
            command = [str(COUNTED), str(report)]
            durations.append(run(command, project, arguments, XDG_CACHE_HOME=fresh, XDG_DATA_HOME=fresh))
            counts.append(json.loads(report.read_text()))
    assert counts[1]["compiled"] == 0, counts
    first, second = durations
    note = (
        f"{', '.join(names)}; first run {first:.1f} s with {counts[0]['compiled']} compiles, "
        f"second {second:.1f} s with {counts[1]['loaded']} loads"
    )
    yield exactly(0, "example-project, second run", counts[1]["compiled"], "compiles", note)


# Times


class Loads(NamedTuple):
    """Seconds of a load through the store, of the least that such a load must do, and of the first load of an engine
    process; bytes of the artifact."""

    warm: float
    floor: float
    first: float
    size: int


class Compiles(NamedTuple):
    """Seconds of a bare compile, of one that is also stored and reloaded, of the compile alone in the latter, and of
    the least that storing and reloading takes: by the bare library, unsealed."""

    bare: float
    stored: float
    alone: float
    least: float


def store_warm() -> Iterator[Figure]:
    """A load through the store less 0.3 ms, against read + hash of Wasm and artifact and `Module.deserialize`."""
    for spec in backends():
        for name, file in real_modules().files.items():
            load = _loads(spec, file)
            note = (
                f"warm {load.warm * 1e3:.3f} ms, floor {load.floor * 1e3:.3f} ms, of {load.size / 1e6:.2f} MB; "
                f"as an engine process's first load {load.first * 1e3:.1f} ms"
            )
            value = (load.warm - ALLOWANCE) / load.floor
            yield at_most(1.25, f"store-warm {spec.name} {name}", value, "x floor", _noted(note))


def store_speedup() -> Iterator[Figure]:
    """A bare compile against a load through the store, on the geometric mean over the modules."""
    for spec in backends():
        files = real_modules().files
        bare = [_compiles(spec, file).bare for file in files.values()]
        loads = [_loads(spec, file) for file in files.values()]
        factors = [compile_time / load.warm for compile_time, load in zip(bare, loads, strict=True)]
        at_best = [compile_time / load.floor for compile_time, load in zip(bare, loads, strict=True)]
        each = [f"{name} {factor:.0f} ({best:.0f})" for name, factor, best in zip(files, factors, at_best, strict=True)]
        note = f"{', '.join(each)}; in brackets and on the mean, {statistics.geometric_mean(at_best):.0f}: the floor"
        value = statistics.geometric_mean(factors)
        yield at_least(LEAST_SPEEDUP[spec.name], f"store-speedup {spec.name}", value, "x faster", _noted(note))


def store_cold() -> Iterator[Figure]:
    """A compile that is stored and reloaded, against a bare compile, on the geometric mean over the modules."""
    for spec in backends():
        files = real_modules().files
        compiles = [_compiles(spec, file) for file in files.values()]
        each = [
            f"{name} {item.stored / item.bare:.3f} ({item.least / item.bare:.3f}) of {item.bare * 1e3:.1f} ms"
            for name, item in zip(files, compiles, strict=True)
        ]
        within = statistics.geometric_mean([item.stored / item.alone for item in compiles])
        least = statistics.geometric_mean([item.least / item.bare for item in compiles])
        note = (
            f"{', '.join(each)}; in brackets and on the mean, {least:.3f}: compile, serialize, write, fsync, read, "
            f"hash and deserialize by the bare library; against the compile in the same run: {within:.3f}"
        )
        value = statistics.geometric_mean([item.stored / item.bare for item in compiles])
        yield at_most(MOST_COLD[spec.name], f"store-cold {spec.name}", value, "x bare compile", _noted(note))


def _noted(note: str) -> str:
    return "; ".join([note, *filter(None, [real_modules().remark])])


@cache
def _loads(spec: BackendSpec, file: Path) -> Loads:
    """The best of each, in turns."""
    with _session(spec) as session:
        if not os.path.exists(session.place(file).path):
            session.load(file, "compiled")
        artifact, _ = session.stored(file)
        alone = cache_directory() / "alone.artifact"
        alone.write_bytes(artifact)
        warm, floor = in_turns(LOADS, partial(session.load, file, "loaded"), partial(_floor, spec.name, file, alone))
    first = [_first_load(spec, file) for _ in range(STARTS)]
    return Loads(min(warm), min(floor), min(first), len(artifact))


def _first_load(spec: BackendSpec, file: Path) -> float:
    with _session(spec) as session:
        return session.load(file, "loaded")


def _floor(compiler: str, file: Path, artifact: Path) -> float:
    """Seconds of what no load that trusts nothing can do without."""
    began = perf_counter()
    hashlib.sha256(file.read_bytes()).digest()
    content = artifact.read_bytes()
    hashlib.sha256(content).digest()
    module = wasmer.Module.deserialize(bare_store(compiler), content)
    duration = perf_counter() - began
    del module
    return duration


@cache
def _compiles(spec: BackendSpec, file: Path) -> Compiles:
    """The best of each, in turns."""
    bare, stored, alone, least = [], [], [], []
    with _session(spec) as session:
        wasmer.Module(bare_store(spec.name), ADD)
        session.warm_up()
        while len(bare) < (COMPILES if max(bare, default=0) < SLOW else 1):
            bare.append(seconds(partial(_bare_compile, spec.name, file)))
            session.discard(file)
            stored.append(session.load(file, "compiled"))
            alone.append(session.stored(file).seconds)
            least.append(seconds(partial(_least, spec.name, file)))
    best = stored.index(min(stored))
    return Compiles(min(bare), stored[best], alone[best], min(least))


def _bare_compile(compiler: str, file: Path) -> None:
    wasmer.Module(bare_store(compiler), file.read_bytes())


def _least(compiler: str, file: Path) -> None:
    """What no compile whose artifact is stored and reloaded can do without."""
    content = file.read_bytes()
    hashlib.sha256(content).digest()
    artifact = wasmer.Module(bare_store(compiler), content).serialize()
    place = cache_directory() / "least.artifact"
    with open(f"{place}.tmp", "wb") as written:
        written.write(artifact)
        written.flush()
        os.fsync(written.fileno())
    os.replace(written.name, place)
    again = place.read_bytes()
    hashlib.sha256(again).digest()
    wasmer.Module.deserialize(bare_store(compiler), again)


class Stored(NamedTuple):
    artifact: bytes
    seconds: float


class Session:
    """An engine process and a store, as a test session has them; but every load is the session's first one."""

    def __init__(self, spec: BackendSpec, pool: EnginePool) -> None:
        self._spec = spec
        self._connect = partial(pool.connection, spec)
        store = open_store(cache_directory() / "artifacts", cache_directory() / "seal.key")
        shelf = self._shelf = Shelf(store, parts_of(registry().availability(spec.name), {}))
        self._told: list[Loading] = []
        self._strategy = Reloaded(lambda _: shelf, lambda _, loading: self._told.append(loading), _not_stored)

    def warm_up(self) -> None:
        self._connect().compile(self._connect().convert(ADD, "warming up"), "warming up")

    def load(self, file: Path, how: str) -> float:
        """Seconds of a load, which must be "compiled" or "loaded"."""
        self._told.clear()
        loader = Loader()
        self._connect().convert("(module)", "starting")
        began = perf_counter()
        module = loader.load(self._spec.name, self._connect, read(file, file.parent, file.parent), self._strategy)
        duration = perf_counter() - began
        assert [loading.what for loading in self._told] == [how]
        del loader, module
        self._connect().convert("(module)", "letting go")  # what was dropped is released with the next request
        return duration

    def place(self, file: Path) -> Place:
        return self._shelf.place(hashlib.sha256(file.read_bytes()).hexdigest())

    def stored(self, file: Path) -> Stored:
        artifact, duration, *_ = entry.read(*self.place(file))
        return Stored(artifact, duration)

    def discard(self, file: Path) -> None:
        self._shelf.store.discard(self.place(file))


def _not_stored(backend: str, why: str) -> None:
    raise RuntimeError(f"{backend}: {why}")


@contextmanager
def _session(spec: BackendSpec) -> Iterator[Session]:
    pool = EnginePool("process", cache_directory() / "pycache")
    try:
        yield Session(spec, pool)
    finally:
        pool.close()
