"""Whether stored code is the same program, and compiles are reproducible: plain functions.

What they run, they run in engine processes of their own: a crash or an endless loop there costs the caller nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.artifacts.sections import difference
from pytest_wasmer.behaviour import Event, Observed, maker, observe
from pytest_wasmer.edges import Call, derived_calls, uncallable
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.runtime.process import NO_MORE
from pytest_wasmer.wasm import binary
from pytest_wasmer.wasm.loading import Code, Fresh
from pytest_wasmer.wasm.module import Module, reloaded
from pytest_wasmer.wasm.stubs import unmakeable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.imports import Imports

# Seconds that one sequence of calls on fresh code may take; longer ones are not observed. Reloaded code, which did end
# when it was fresh, gets more, so that a busy machine makes no difference.
LIMIT = 2.0
MORE = 30.0
# Endless loops cost a process each: after that many nothing more is derived.
STUCK_LIMIT = 3
# Why artifacts may differ from compile to compile (Wasmer 2.1, measured): singlepass takes saved registers from a
# random-seeded set; what the Dylib engine links holds the name of a temporary file, and llvm's functions in any order.
REGISTERS = "the order of saved registers varies"
LINKED = "the Dylib engine's shared objects vary"


class CheckFailed(WasmError, AssertionError):
    """A check found what it looks for. `step` says where."""

    def __init__(self, step: str, text: str) -> None:
        super().__init__(step, text)
        self.step = step
        self.text = text

    def __str__(self) -> str:
        return self.text


class RoundTrip(NamedTuple):
    """What was compared and found equal. `calls`: how many ended, and how; `unobserved`: what was not seen, and why."""

    calls: int
    unobserved: tuple[str, ...]


class Reproducibility(NamedTuple):
    """Whether all compiles gave the same bytes; if not, in which step what differs, and why that is no failure."""

    equal: bool
    difference: str = ""
    excuse: str = ""


def check_round_trip(
    module: Module,
    calls: Sequence[tuple[Any, ...]] | None = None,
    *,
    imports: Imports | Callable[[], Imports] | None = None,
    seed: int = 0,
) -> RoundTrip:
    """Serialize and load `module`, and compare what is loaded with what its Wasm compiles to.

    Loaded are: its artifact in its own engine process, in the fresh one that compiled the Wasm once more, and in a
    fresh one in another working directory. Compared are names, imports, exports with their types, custom sections,
    and what calls let the outside see: results as bits, traps, host calls, and at the end memories, globals, tables.

    `calls`: `[("parse", 0, 16), ("count",)]`, made in this order on one instance; derived from the exports' types and
    `seed` (one instance per function) if there are none. `imports`: as of `wasm_instance`, or a function that makes
    them for each instance; without it functions that return zeros, and memories and globals as asked for.
    Raises `CheckFailed`.
    """
    __tracebackhide__ = True
    artifact = module.serialize()
    sections = list(binary.custom_sections(module.wasm, module.path))
    sequences, unobserved = _sequences(module, calls, imports, seed)
    make_imports = maker(module, imports)
    with _bench(module) as compiling, tempfile.TemporaryDirectory() as elsewhere:
        compiled = compiling.fresh()
        reference = _structure(compiled, sections)
        with _bench(module, cwd=elsewhere) as apart:
            steps: list[tuple[str, Callable[[], Module]]] = [
                ("reloaded in its own engine process", lambda: reloaded(module, module._code._connect, artifact)),
                ("reloaded in the engine process that compiled it", lambda: compiling.reloaded(artifact)),
                ("reloaded in a fresh engine process, in another directory", lambda: apart.reloaded(artifact)),
            ]
            for step, load in steps:
                _compare(module, step, [reference], [_structure(_loading(module, step, load), sections)])
                if load().serialize() != artifact:
                    raise CheckFailed(step, f"{module.path} on {module.backend}, {step}: it serializes to other bytes")
            observed, unseen = _observe_fresh(compiled, sequences, make_imports, derived=calls is None)
            for step, load in steps[1:]:
                for sequence, seen in observed:
                    again = observe(load, sequence, make_imports, MORE)
                    _compare(module, step, seen.events, [("it did not end",)] if again is None else again.events)
    done = RoundTrip(sum(seen.calls for _, seen in observed), (*unobserved, *unseen))
    if calls and not done.calls:
        raise WasmError(
            f"{module.path} on {module.backend}: none of the given calls was observed, so that nothing was compared: "
            + "; ".join(done.unobserved)
        )
    return done


def _sequences(
    module: Module, calls: Sequence[tuple[Any, ...]] | None, imports: Any, seed: int
) -> tuple[Sequence[Sequence[Call]], list[str]]:
    """What is to be called, each sequence on an instance of its own; and what of the module cannot be, and why."""
    if calls is None:
        sequences, unobserved = derived_calls(module.exports, seed), uncallable(module.exports)
    else:
        sequences, unobserved = [[(str(name), arguments) for name, *arguments in calls]], []  # type: ignore[misc]
    reason = unmakeable(module.imports) if imports is None else ""
    if reason and sequences:
        return [], [*unobserved, f"its calls: it {reason}"]
    return sequences, unobserved


def check_reproducible(module: Module, *, strict: bool = False) -> Reproducibility:
    """Compile five times: twice in one process, in another, in another directory, with RAYON_NUM_THREADS=1.

    Raises `CheckFailed` where artifacts differ; for singlepass, whose code may differ in the order of saved
    registers, and for the Dylib engine's shared objects, only if `strict`.
    """
    __tracebackhide__ = True
    with tempfile.TemporaryDirectory() as elsewhere:
        with _bench(module) as one:
            first = one.fresh().serialize()
            artifacts = {"compiled twice in one process": one.fresh().serialize()}
        for step, cwd, environment in (
            ("compiled in another process", None, {}),
            ("compiled in another directory", elsewhere, {}),
            ("compiled with RAYON_NUM_THREADS=1", None, {"RAYON_NUM_THREADS": "1"}),
        ):
            with _bench(module, cwd=cwd, environment=environment) as another:
                artifacts[step] = another.fresh().serialize()
    for step, artifact in artifacts.items():
        if artifact != first:
            found = f"{step}: {difference(first, artifact)}"
            excuse = _excuse(module.backend)
            if strict or not excuse:
                raise CheckFailed(step, f"{module.path} on {module.backend} is not reproducible, {found}")
            return Reproducibility(False, found, excuse)
    return Reproducibility(True)


def _excuse(backend: str) -> str:
    compiler, *more = backend.split("-")
    return REGISTERS if compiler == "singlepass" else LINKED if "dylib" in more else ""


# Engine processes of one check


class _Bench:
    """An engine process of the module's backend, started anew when it is lost."""

    def __init__(self, module: Module, cwd: str | None, environment: Mapping[str, str]) -> None:
        self._module = module
        self._start = partial(module._code._connect().another, cwd=cwd, environment=environment)
        self._connection: Connection | None = None
        self._modules: dict[bytes, Module] = {}

    def connection(self) -> Connection:
        if self._connection is None or self._connection.lost is not None:
            self.close()
            self._connection = self._start()
        return self._connection

    def fresh(self) -> Module:
        """Compiled here and now."""
        module = self._module
        strategy = Fresh(lambda backend, loading: None)
        code = Code(
            self.connection,
            lambda connection, name: strategy(connection, module.wasm, module.digest, name),
            module.path,
        )
        return Module(code, module.wasm, module.digest, module.path)

    def reloaded(self, artifact: bytes) -> Module:
        if artifact not in self._modules:
            self._modules[artifact] = reloaded(self._module, self.connection, artifact)
        return self._modules[artifact]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def _bench(module: Module, cwd: str | None = None, environment: Mapping[str, str] = NO_MORE) -> Iterator[_Bench]:
    bench = _Bench(module, cwd, environment)
    try:
        yield bench
    finally:
        bench.close()


def _loading(module: Module, step: str, load: Callable[[], Module]) -> Module:
    __tracebackhide__ = True
    try:
        return load()
    except Exception as error:
        raise CheckFailed(step, f"{module.path} on {module.backend} cannot be {step}: {error}") from error


# What is compared


def _structure(module: Module, sections: Sequence[str]) -> Event:
    loaded = module._code.loaded(module.path)
    name, imports, exports = loaded.description
    kept = {
        title: loaded.connection.custom_sections(loaded.handle, title, f"custom sections of {module.path}")
        for title in sections
    }
    return ("its name, imports, exports and custom sections", name, imports, exports, kept)


def _compare(module: Module, step: str, expected: Sequence[Event], found: Sequence[Event]) -> None:
    __tracebackhide__ = True
    for index, (wanted, event) in enumerate(zip(expected, found)):  # noqa: B905 (the lengths are compared below)
        if wanted != event:
            place = f" (event {index + 1})" if len(expected) > 1 else ""
            raise CheckFailed(
                step,
                f"{module.path} on {module.backend}, {step}, is another program{place}\n"
                f"    as compiled: {_event_text(wanted)}\n    as reloaded: {_event_text(event)}",
            ) from None
    if len(expected) != len(found):
        raise CheckFailed(
            step,
            f"{module.path} on {module.backend}, {step}, is another program: {len(found)} events "
            f"instead of {len(expected)}",
        ) from None


def _event_text(event: Event) -> str:
    text = f"{event[0]}: {', '.join(map(str, event[1:]))}" if len(event) > 1 else str(event[0])
    return text if len(text) <= 500 else text[:500] + " ..."


def _observe_fresh(
    module: Module, sequences: Sequence[Sequence[Call]], make_imports: Any, *, derived: bool
) -> tuple[list[tuple[Sequence[Call], Observed]], list[str]]:
    """What each sequence lets be seen, and what there is that cannot be observed, with the reason."""
    __tracebackhide__ = True
    observed: list[tuple[Sequence[Call], Observed]] = []
    unseen: list[str] = []
    stuck = 0
    for sequence in sequences:
        if stuck >= STUCK_LIMIT:
            unseen.append(f"{sequence[0][0]}: after {STUCK_LIMIT} that did not end no more were tried")
            continue
        seen = observe(lambda: module, sequence, make_imports, LIMIT if derived else MORE)
        if seen is None and not derived:
            raise WasmError(
                f"{module.path} on {module.backend}: the given calls did not end within {MORE:g} s, so that nothing "
                "was compared"
            )
        if seen is None:
            stuck += 1
            unseen.append(f"{sequence[0][0]}: did not end within {LIMIT:g} s with arguments derived from its type")
        else:
            observed.append((sequence, seen))
            unseen += [seen.unobserved] if seen.unobserved else []
    return observed, list(dict.fromkeys(unseen))
