"""One backend beside others: an engine process and the thread that waits for it, for work that all do at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement.local import Local
from pytest_wasmer.agreement.observe import Observation, Recorder
from pytest_wasmer.agreement.steps import Call, Write, run
from pytest_wasmer.edges import many_edges
from pytest_wasmer.engines.api import Refused
from pytest_wasmer.runtime.errors import EngineFault, EngineLost
from pytest_wasmer.runtime.pipe import PipeConnection
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.module import reloaded
from pytest_wasmer.wasm.state import state
from pytest_wasmer.wasm.stubs import stand_ins
from pytest_wasmer.wasm.traps import Trap
from pytest_wasmer.wasm.types import VALUE_TYPES, FunctionType
from pytest_wasmer.wasm.values import from_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeVar

    from pytest_wasmer.agreement.steps import Step
    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module

    T = TypeVar("T")

EXHAUSTED = "STACK_OVERFLOW"
# Of larger memories only the size is compared after each sequence, in bytes: a digest of 4 GiB takes seconds.
LARGEST_DIGESTED = 1 << 26
ANSWERS = {name: many_edges(name) for name in VALUE_TYPES}


class Batch(NamedTuple):
    """Calls of one function with values of the engine contract: one message."""

    name: str
    rows: list[Values]


class Plan(NamedTuple):
    """What to do on a new instance. `answers`: which ones its imported functions give."""

    answers: int
    steps: list[Batch | Write]


class Seen(NamedTuple):
    """What one backend let be seen of a plan.

    By step that is over: `outcomes` (results as bits, or a trap's kind, by row), the number of host calls so far,
    and seconds. `stopped`: why it did not come to the end, and `lost`: of what its engine process died; "" for not.
    """

    outcomes: list[list[Values | str]]
    host_calls: list[str]
    marks: list[int]
    seconds: list[float]
    left: list[object]
    stopped: str = ""
    lost: str = ""
    late: bool = False


class Replay(NamedTuple):
    """What a recorder took down of steps, each done by itself; None where the engine process did not survive it."""

    observation: Observation | None
    lost: str = ""
    late: bool = False


class Lane:
    """The module on one backend. All but `kill` is for the lane's own thread."""

    def __init__(self, module: Module) -> None:
        self.backend = module.backend
        self.types = module.exports
        self.thread = ThreadPoolExecutor(1, f"lane of {module.backend}")
        # After a loss it is loaded, not compiled again.
        self._module = reloaded(module, module._code._connect, module.serialize())
        #: All that its replays saw; each lane has its own, since recorders of one process number their journals alike.
        self.local = Local.make()
        self._recorder = Recorder(self.local)
        #: Whether it was ended since it took too long.
        self.late = False

    def prepare(self) -> None:
        """Have an engine process with the module in it."""
        self.late = False
        self._module._code.loaded(self._module.path)

    def observe(self, plan: Plan) -> Seen:
        seen = Seen([], [], [], [], [])
        try:
            self._follow(plan, seen)
        except EngineLost as loss:
            return seen._replace(lost=loss.cause, late=self.late)
        except Trap as trap:
            return seen._replace(stopped=f"trap {trap.kind.name}")
        except (Refused, EngineFault) as failure:
            return seen._replace(stopped=f"panic in {len(seen.outcomes)}: {type(failure).__name__}")
        return seen

    def _follow(self, plan: Plan, seen: Seen) -> None:
        def note(*host_call: Any) -> None:
            seen.host_calls.append(repr(host_call))  # in which every NaN is "nan", and -0.0 is not 0.0

        imports = stand_ins(self._module.imports, plan.answers, ANSWERS, note)
        instance = self._module.instantiate(imports)
        for step in plan.steps:
            began = perf_counter()
            outcomes = self._batch(instance, step) if isinstance(step, Batch) else []
            if isinstance(step, Write):
                step.apply(instance)
            seen.outcomes.append(outcomes)
            seen.marks.append(len(seen.host_calls))
            seen.seconds.append(perf_counter() - began)
            if EXHAUSTED in outcomes:
                return
        seen.left.extend(state(instance, LARGEST_DIGESTED))
        memories = [item for names in imports.values() for item in names.values() if isinstance(item, Memory)]
        seen.left.extend([memory.digest() if memory.size <= LARGEST_DIGESTED else memory.size for memory in memories])

    def _batch(self, instance: Instance, batch: Batch) -> list[Values | str]:
        function = instance.exports[batch.name]
        params, results = function.type
        about = f"fuzzing of {batch.name!r}"
        outcomes: list[Any] = function._use().mapper(function._handle, params, results, about)(batch.rows)
        return [item if type(item) is tuple else item.kind for item in outcomes]

    def replay(self, steps: Sequence[Step], answers: int) -> Replay:
        """The same in single calls, as a test would make them, with all that a test's observation has."""
        connection = self._module._code.loaded(self._module.path).connection
        recorder = connection.recorder = self._recorder
        recorder.begin(self.backend)
        try:
            instance = self._module.instantiate(stand_ins(self._module.imports, answers, ANSWERS))
            run(steps, instance)
        except (Trap, EngineFault):
            pass  # noted
        except EngineLost as loss:
            return Replay(None, loss.cause, self.late)
        finally:
            connection.recorder = None
        try:
            content = recorder.end()
            return Replay(None if content is None else Observation.unpacked(content))
        except EngineLost as loss:
            return Replay(None, loss.cause, self.late)

    def kill(self) -> None:
        self.late = True
        connection = self._module._code._loaded.connection
        assert isinstance(connection, PipeConnection)
        connection.kill()

    def close(self) -> None:
        self.thread.shutdown()
        self.local.remove()


class Lanes:
    """Several of them; a context manager."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.lanes = [Lane(module) for module in modules]
        self.names = [lane.backend for lane in self.lanes]
        self.path = modules[0].path
        self.wasm = modules[0].wasm
        self.types = modules[0].exports
        self.imports = modules[0].imports

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self.lanes:
            lane.close()

    def all(self, work: Callable[[Lane], T], limit: float | None = None) -> list[T]:
        """`work` on each at once; those that take more than `limit` seconds lose their engine process."""
        if limit is not None:
            self.all(Lane.prepare)
        futures = [lane.thread.submit(work, lane) for lane in self.lanes]
        try:
            wait(futures, limit)
        finally:  # also for Ctrl-C
            for lane, future in zip(self.lanes, futures, strict=True):
                if not future.done():
                    lane.kill()
        return [future.result() for future in futures]

    def local_of(self, backend: str) -> Local:
        """What the replays on a backend saw."""
        return self.lanes[self.names.index(backend)].local

    def contents(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """Of pages of memories, and of long data, that replays met."""
        wanted = list(digests)
        return {digest: data for lane in self.lanes for digest, data in lane.local.data(wanted).items()}


def single_steps(plan: Plan, types: Any, step: int, row: int) -> list[Step]:
    """The plan in single calls with Python values, up to that row of that step."""
    steps: list[Step] = []
    for place, item in enumerate(plan.steps[: step + 1]):
        if isinstance(item, Write):
            steps.append(item)
            continue
        type_ = types[item.name]
        assert isinstance(type_, FunctionType)
        rows = item.rows if place < step else item.rows[: row + 1]
        steps += [Call(item.name, tuple(map(from_bits, type_.params, values))) for values in rows]
    return steps
