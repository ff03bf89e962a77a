"""Does again what a recording says, on any backend, and takes down what comes out: what the judge then compares.

Python's part is played by the recording: what it asked for, and what its host functions answered. Values are bits
throughout.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from functools import partial
from threading import Timer
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pytest_wasmer.agreement.bundles.bundle import BundleError
from pytest_wasmer.agreement.bundles.recording import steps_of
from pytest_wasmer.agreement.events import content_of
from pytest_wasmer.agreement.local import Local
from pytest_wasmer.agreement.observe import Observation, Recorder
from pytest_wasmer.runtime.errors import EngineLost, WasmError
from pytest_wasmer.runtime.pipe import PipeConnection
from pytest_wasmer.runtime.wire import IS_HANDLE, IS_HOST
from pytest_wasmer.variants import FRESH
from pytest_wasmer.wasm.errors import MissingExport
from pytest_wasmer.wasm.externs import Extern, Owner, host_owner, release_with
from pytest_wasmer.wasm.function import Function
from pytest_wasmer.wasm.instance import Instance
from pytest_wasmer.wasm.loading import Fresh, Reloaded
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from pytest_wasmer.wasm.types import FunctionType, GlobalType
from pytest_wasmer.wasm.variables import Global, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_wasmer.agreement.bundles.recording import Recording, Step
    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.module import Module

ValueT = TypeVar("ValueT")
ExternT = TypeVar("ExternT", bound="Extern[Any]")


class Replayed(NamedTuple):
    """What one backend did.

    `lost`: how its engine process ended, "" if it lives. `strayed`: where it left the recording behind, so that nobody
    knows what Python would have done.
    """

    observation: Observation | None
    lost: str
    strayed: str


class Stray(Exception):
    """Wasm does what the recording does not have."""


class Stage:
    """Where recordings are replayed, one after the other; a context manager.

    `connect` gives the live engine process of a variant. `artifacts`: as of --wasm-artifacts. `seconds`: what one
    replay on one backend may take, compiles included; 0 is no limit.
    """

    def __init__(self, connect: Callable[[str], Connection], artifacts: str, seconds: float) -> None:
        self._connect = connect
        self._artifacts = artifacts
        self._seconds = seconds
        self._local = Local.make()
        self._recorder = Recorder(self._local)
        self._loader = Loader()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._local.remove()

    def find(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """Contents of memories, and long data."""
        return self._local.data(digests)

    def replay(self, variant: str, recording: Recording) -> Replayed:
        """Raises `BundleError` for what does not fit the modules, `CompileError`."""
        connection = self._connect(variant)
        self._recorder.begin(variant)
        player: _Player | None = None
        observed: Observation | None = None
        lost = ""
        with _limited(connection, self._seconds) as late:
            try:
                modules = {name: self._module(variant, name, wasm) for name, wasm in recording.modules.items()}
                connection.recorder = self._recorder
                player = _Player(connection, self._recorder, modules, recording.data)
                player.play_all(steps_of(recording.events))
                observed = self._whole(self._recorder.end())
            except EngineLost as loss:
                ended = f"it did not end within {self._seconds:g} s" if late else f"it was lost: {loss.cause}"
                lost = f"{ended} ({loss.request})"
            finally:
                connection.recorder = None
        return Replayed(observed, lost, player.strayed if player else "")

    def _module(self, variant: str, identity: str, wasm: bytes) -> Module:
        fresh = self._artifacts == FRESH or variant.endswith(f"-{FRESH}")
        strategy = Fresh(_tell) if fresh else Reloaded(lambda _: None, _tell, _tell)
        source = Source(f"module {identity.removeprefix('wat:')[:12]}", wasm, None)
        return self._loader.load(variant, partial(self._connect, variant), source, strategy)

    def _whole(self, content: bytes | None) -> Observation | None:
        """All of it, however much."""
        if content is None:
            return None
        observed = Observation.unpacked(content)
        if not observed.journal:
            return observed
        told = self._local.told(observed.journal)
        self._local.discard(observed.journal)
        if told is None or not told.whole:
            return observed
        return observed._replace(events=told.events, checkpoints=[], state=told.state)


def _tell(backend: str, said: object) -> None:
    pass


@contextmanager
def _limited(connection: Connection, seconds: float) -> Iterator[list[bool]]:
    """After that many seconds the engine process is ended; what is yielded is then no longer empty."""
    late: list[bool] = []

    def stop() -> None:
        late.append(True)
        assert isinstance(connection, PipeConnection)
        connection.kill()

    timer = Timer(seconds, stop)
    timer.daemon = True
    if seconds:
        timer.start()
    try:
        yield late
    finally:
        timer.cancel()


class _Player:
    """One replay on one backend."""

    def __init__(
        self, connection: Connection, recorder: Recorder, modules: Mapping[str, Module], data: Mapping[str, bytes]
    ) -> None:
        self._connection = connection
        self.recorder = recorder
        self._modules = modules
        self._data = data
        # What was made, in order; None for instances that did not come to be.
        self._things: list[Instance | Memory | Global | None] = []
        # Host calls that the recording has for what is being asked now.
        self.hosts: deque[Step] = deque()
        self.strayed = ""

    def play_all(self, steps: Iterable[Step]) -> None:
        try:
            self.play(steps)
        except Stray as stray:
            self.strayed = str(stray)

    def play(self, steps: Iterable[Step]) -> None:
        for step in steps:
            kind, *fields = step.event
            play = getattr(self, f"_play_{kind}", None)
            if play is None:
                raise BundleError(f"a {kind!r} event where nothing of the kind can happen")
            play(step, *fields)

    def ask(self, step: Step, ask: Callable[[], ValueT]) -> ValueT | None:
        """What comes of it, with host calls answered as the step has them; None where that is noted as a failure."""
        self.hosts = deque(step.inner)
        try:
            return ask()
        except (Stray, BundleError, EngineLost):
            raise
        except Exception as failure:
            self.recorder.failed(failure)
            return None

    def _thing(self, index: int) -> Instance | Memory | Global:
        if index >= len(self._things):
            raise BundleError(f"instance {index} is used before it is made")
        thing = self._things[index]
        if thing is None:
            raise Stray(f"instance {index} did not come to be")
        return thing

    def _extern(self, index: int, name: str, kind: type[ExternT]) -> ExternT:
        """What an instance exports, or the host made."""
        thing = self._thing(index)
        try:
            found = thing.exports[name] if isinstance(thing, Instance) else thing
        except MissingExport as missing:
            raise BundleError(f"instance {index}: {missing}") from None
        if not isinstance(found, kind):
            raise BundleError(f"{name!r} of instance {index} is no {kind.__name__.lower()} that Python can use")
        return found

    # Making

    def _enter(self, index: int, thing: Memory | Global | None) -> None:
        if index != len(self._things):
            raise BundleError(f"instance {index} is made as number {len(self._things)}")
        self._things.append(thing)

    def _play_new(self, step: Step, index: int, identity: str, linked: Sequence[Sequence[Any]]) -> None:
        if identity not in self._modules:
            raise BundleError(f"module {identity} is not in the bundle")
        module = self._modules[identity]
        loaded = module._code.loaded(module.path)
        owner = Owner(self._connection, module.path, identity, tuple(module.exports))
        pairs, lent = self._imports(module, owner, deque(linked))
        owner.keeps.append(loaded)
        self.recorder.new(owner, lent, module)
        self._enter(index, None)
        about = f"instantiation of {module.path}"
        first = self.ask(step, lambda: self._connection.instantiate(loaded.handle, pairs, about))
        if first is not None:
            release_with(owner, self._connection, first)
            owner.handle = first
            self.recorder.made(owner)
            self._things[index] = Instance(module, owner, first)

    def _imports(
        self, module: Module, owner: Owner, linked: deque[Sequence[Any]]
    ) -> tuple[list[tuple[int, int]], list[tuple[str, Owner, str]]]:
        """For the executor what each import is, and for the recorder what is of others."""
        pairs: list[tuple[int, int]] = []
        lent: list[tuple[str, Owner, str]] = []
        for space, name, type_ in module._imports:
            label = f"{space}.{name}"
            if linked and linked[0][0] == label:
                _, index, theirs = linked.popleft()
                extern = self._extern(index, theirs, Extern)
                owner.keeps.append(extern)
                pairs.append((IS_HANDLE, extern._handle))
                lent.append((label, extern._owner, theirs))
            elif isinstance(type_, FunctionType):
                host = _Host(label, type_, self)
                owner.keeps.append(host)
                pairs.append((IS_HOST, self._connection.hosts.register(host)))
            else:
                raise BundleError(f"import {label} of {module.path} is not given")
        return pairs, lent

    def _play_make(self, step: Step, index: int, kind: str, *details: Any) -> None:
        self._enter(index, self._made_memory(*details) if kind == "memory" else self._made_global(*details))

    def _made_memory(self, minimum: int, maximum: int | None) -> Memory:
        try:
            made = Memory(minimum, maximum)
        except ValueError as error:
            raise BundleError(str(error)) from None
        made._link(self._connection)
        return made

    def _made_global(self, value_type: str, mutable: bool, bits: int) -> Global:
        """Not by a Python value, which cannot hold each NaN."""
        type_ = GlobalType(value_type, mutable)
        handle = self._connection.make_global(value_type, mutable, bits, "global")
        owner = host_owner(self._connection, handle, type_, bits)
        return Global._of(owner, handle, type_, "global made by the host")

    # Calls

    def _play_call(self, step: Step, index: int, name: str, types: str, *bits: int) -> None:
        function = self._function(index, name, types)
        self.recorder.note(("call", self.recorder.index(function._owner), name, types, *bits))
        values = self.ask(step, lambda: function._native(bits))
        if values is not None:
            self.recorder.note(("result", ",".join(function.type.results), *values))

    def _play_map(self, step: Step, index: int, name: str, types: str, rows: Sequence[Sequence[int]]) -> None:
        function = self._function(index, name, types)
        values = [(*row,) for row in rows]
        params, results = function.type
        native = self._connection.mapper(function._handle, params, results, f"call of {function._about}")
        self.recorder.note(("map", self.recorder.index(function._owner), name, types, values))
        outcomes = self.ask(step, lambda: native(values))
        if outcomes is not None:
            self.recorder.note(("results", ",".join(results), [getattr(item, "kind", item) for item in outcomes]))

    def _function(self, index: int, name: str, types: str) -> Function:
        function = self._extern(index, name, Function)
        if ",".join(function.type.params) != types:
            raise BundleError(f"{name}{function.type} of instance {index} is called with ({types})")
        return function

    # Memories, globals, tables: the objects of a test, which note it themselves

    def _play_read(self, step: Step, index: int, name: str, offset: int, length: int) -> None:
        memory = self._extern(index, name, Memory)
        try:
            memory.read(offset, length)
        except IndexError as error:  # others did read there
            self.recorder.note(("read", self.recorder.index(memory._owner), name, offset, length))
            self.recorder.failed(error)

    def _play_write(self, step: Step, index: int, name: str, offset: int, data: str) -> None:
        content = content_of(data, lambda _: self._data)
        if content is None:
            raise BundleError("data of a write is not in the bundle")
        try:
            self._extern(index, name, Memory).write(offset, content)
        except IndexError as error:
            raise Stray(str(error)) from None

    def _play_get(self, step: Step, index: int, name: str) -> None:
        self._use(lambda: self._extern(index, name, Global).value)

    def _play_set(self, step: Step, index: int, name: str, types: str, bits: int) -> None:
        variable = self._extern(index, name, Global)
        if variable.type != (types, True):
            raise BundleError(f"{name!r} of instance {index}, a {variable.type}, is set to a value of {types}")
        self._connection.set_global(variable._handle, bits, f"setting {variable._about}")
        self.recorder.note(("set", self.recorder.index(variable._owner), name, types, bits))

    def _play_size(self, step: Step, index: int, name: str) -> None:
        extern: Extern[Any] = self._extern(index, name, Extern)
        if not isinstance(extern, (Memory, Table)):
            raise BundleError(f"{name!r} of instance {index} has no size")
        self._use(lambda: extern.size)

    def _play_grow(self, step: Step, index: int, name: str, pages: int) -> None:
        memory = self._extern(index, name, Memory)
        try:
            self._use(lambda: memory.grow(pages))
        except (EngineLost, BundleError):
            raise
        except WasmError:  # noted as refused
            pass

    def _use(self, use: Callable[[], object]) -> None:
        try:
            use()
        except (TypeError, ValueError) as error:
            raise BundleError(str(error)) from None


class _Host:
    """A host function that answers as the recording says."""

    def __init__(self, name: str, type_: FunctionType, player: _Player) -> None:
        self.name = name
        self.type = ("func", *type_)
        self._types = ",".join(type_.params), ",".join(type_.results)
        self._player = player

    def invoke(self, values: Values) -> Values:
        player = self._player
        player.recorder.note(("host", self.name, self._types[0], *values))
        if not player.hosts or player.hosts[0].event[1] != self.name:
            raise Stray(f"a call of {self.name} is not in the recording")
        step = player.hosts.popleft()
        others = player.hosts
        player.play(step.inner)
        player.hosts = others
        return self._answer(step.outcome)

    def _answer(self, outcome: Event | None) -> Values:
        if outcome is not None and outcome[0] == "raise":
            self._player.recorder.note(outcome)
            raise type(outcome[1], (Exception,), {})(f"{outcome[1]} in {self.name}, as recorded")
        if outcome is None or outcome[0] != "return":
            raise Stray(f"what {self.name} answered is not in the recording")
        if outcome[1] != self._types[1]:
            raise BundleError(f"host function {self.name} answers ({outcome[1]}) instead of ({self._types[1]})")
        self._player.recorder.note(outcome)
        return tuple(outcome[2:])
