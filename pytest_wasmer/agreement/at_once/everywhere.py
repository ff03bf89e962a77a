"""Several backends as one: what a test asks of their instances is asked of all, and they must agree.

To the objects of `wasm/` it is a connection like any other: what it hands out as a handle stands for one on each
member.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pytest_wasmer.agreement.at_once.lockstep import InStep
from pytest_wasmer.agreement.at_once.onebyone import OneByOne
from pytest_wasmer.agreement.at_once.settle import Question
from pytest_wasmer.agreement.events import data_text
from pytest_wasmer.runtime.connection import Connection
from pytest_wasmer.runtime.direct import DirectConnection
from pytest_wasmer.runtime.errors import WasmError, WrongBackend
from pytest_wasmer.runtime.host import HostCalls
from pytest_wasmer.runtime.pipe import PipeConnection
from pytest_wasmer.runtime.wire import IS_HOST
from pytest_wasmer.wasm.loading import Code, Loaded
from pytest_wasmer.wasm.module import Module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_wasmer.agreement.at_once.lockstep import Lockstep
    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.engines.api import ExternType, Trapped, Values
    from pytest_wasmer.runtime.errors import EngineLost

# What a request of a memory, global or table answers, as an event; None where it answers nothing.
SEEN: Mapping[str, Callable[[Place, tuple[Any, ...], Any], Event]] = {
    "read": lambda place, arguments, value: ("data", arguments[0], data_text(value)),
    "write": lambda place, arguments, value: ("done",),
    "digest": lambda place, arguments, value: ("digest", value.hex()),
    "memory_pages": lambda place, arguments, value: ("number", value),
    "grow": lambda place, arguments, value: ("number", value),
    "get_global": lambda place, arguments, value: ("value", place.type[1], value),
    "set_global": lambda place, arguments, value: ("done",),
    "table_size": lambda place, arguments, value: ("number", value),
}


class Place(NamedTuple):
    """What a handle stands for: the handles of the members, what those are, and how many handles go with it."""

    handles: Sequence[int]
    type: ExternType
    exports: int = 0
    keeps: object = None


class Releases(list[int]):
    """Handles that nobody holds any more: passed on at once, each to its member."""

    def __init__(self, places: dict[int, Place], members: Sequence[Connection]) -> None:
        super().__init__()
        self._places = places
        self._members = members

    def append(self, handle: int, /) -> None:
        place = self._places.pop(handle, None)
        if place is None:
            return
        for number in range(handle + 1, handle + 1 + place.exports):
            self._places.pop(number, None)
        if place.keeps is None:
            for member, own in zip(self._members, place.handles, strict=True):
                member.releases.append(own)


class Everywhere(Connection):
    """The connections to several backends, as one."""

    def __init__(self, members: Sequence[Connection]) -> None:
        self.members = members
        self.backend = ", ".join(member.backend for member in members)
        self.hosts = HostCalls()
        self.lockstep = _lockstep(members, self.hosts)
        self.test_runs_on = ""
        self.recorder = None
        self._next = 1
        self._numbering = Lock()
        self._places: dict[int, Place] = {}
        self.releases = Releases(self._places, members)

    @property
    def lost(self) -> EngineLost | None:  # type: ignore[override]
        return next((member.lost for member in self.members if member.lost is not None), None)

    def refuse_other_test(self, about: str) -> NoReturn:
        __tracebackhide__ = True
        raise WrongBackend(
            f"{about}: it was made on {self.backend}, this test asks {self.test_runs_on}\n"
            "Make it in the test, or in a fixture that names wasm_all in its signature."
        )

    def another(self, cwd: str | None, environment: Mapping[str, str]) -> PipeConnection:
        raise WasmError(f"a check is of one backend, not of all at once ({self.backend}): use wasm_module")

    def loaded(self, members: Sequence[Loaded]) -> Loaded:
        """A module that each member has loaded."""
        description = members[0].description
        place = Place([loaded.handle for loaded in members], ("module", description), keeps=members)
        return Loaded(self, self._keep(place), description)

    def _keep(self, *places: Place) -> int:
        """The handle of the first; the others follow."""
        with self._numbering:
            first = self._next
            self._next += len(places)
        for number, place in enumerate(places, first):
            self._places[number] = place
        return first

    # Requests

    def request(self, operation: str, *arguments: Any, about: str) -> Any:
        __tracebackhide__ = True
        if self.test_runs_on:
            self.refuse_other_test(about)
        if operation == "instantiate":
            module, imports = arguments
            return self._instantiate(module, imports, about)
        if operation in ("make_memory", "make_global"):
            return self._make(operation, arguments, about)
        seen = SEEN.get(operation)
        if seen is None:
            raise WasmError(f"{about}: each backend has its own ({self.backend}): use wasm_module")
        handle, *rest = arguments
        place, others = self._places[handle], tuple(rest)
        question = Question(about, lambda value: seen(place, others, value))
        return self.lockstep.request(operation, [(own, *others) for own in place.handles], question)

    def _make(self, operation: str, arguments: tuple[Any, ...], about: str) -> int:
        """A memory or a global of the host's."""
        __tracebackhide__ = True
        handles = self.lockstep.request(operation, [arguments] * len(self.members), _made(about))
        kind = operation.removeprefix("make_")
        return self._keep(Place(handles, (kind, *arguments[:2])))

    def _instantiate(self, module: int, imports: Sequence[tuple[int, int]], about: str) -> int:
        __tracebackhide__ = True
        place = self._places[module]
        columns = [self._import(kind, number) for kind, number in imports]
        rows = [
            (own, [(kind, numbers[index]) for (kind, _), numbers in zip(imports, columns, strict=True)])
            for index, own in enumerate(place.handles)
        ]
        handles = self.lockstep.request("instantiate", rows, _made(about))
        _, _, exports = place.type[1]
        places = [
            Place([handle + index for handle in handles], type_)
            for index, (_, type_) in enumerate([("", ("instance",)), *exports])
        ]
        places[0] = places[0]._replace(exports=len(exports))
        return self._keep(*places)

    def _import(self, kind: int, number: int) -> Sequence[int]:
        """What to give to each member."""
        if kind != IS_HOST:
            return self._places[number].handles
        host = self.hosts.get(number)
        assert host is not None  # the instance that is being made holds it
        return self.lockstep.register(number, host)

    def caller(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Values], Values]:
        types = ",".join(results)
        question = Question(about, lambda values: ("result", types, *values), params)
        ask = self.lockstep.caller(self._places[handle].handles, params, results, question)

        def call(values: Values) -> Values:
            __tracebackhide__ = True
            if self.test_runs_on:
                self.refuse_other_test(about)
            return ask(values)

        return call

    def mapper(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Sequence[Values]], list[Values | Trapped]]:
        types = ",".join(results)

        def seen(outcomes: Sequence[Any]) -> Event:
            return ("results", types, [getattr(outcome, "kind", outcome) for outcome in outcomes])

        ask = self.lockstep.mapper(self._places[handle].handles, params, results, Question(f"map of {about}", seen))

        def map_calls(calls: Sequence[Values]) -> list[Values | Trapped]:
            __tracebackhide__ = True
            if self.test_runs_on:
                self.refuse_other_test(about)
            return ask(calls)

        return map_calls

    def close(self) -> None:
        """Nothing of its own."""


def _made(about: str) -> Question:
    return Question(about, lambda handle: ("made",), makes=True)


def _lockstep(members: Sequence[Connection], hosts: HostCalls) -> Lockstep:
    piped = [member for member in members if isinstance(member, PipeConnection)]
    if len(piped) == len(members):
        return InStep(piped, hosts)
    return OneByOne([member for member in members if isinstance(member, DirectConnection)], hosts)


def module_everywhere(modules: Sequence[Module], connect: Callable[[], Everywhere]) -> Module:
    """A module of several backends as one. `connect` gives the connection to all of them that is alive."""

    def load(connection: Connection, name: str) -> Loaded:
        assert isinstance(connection, Everywhere)
        return connection.loaded([module.loaded() for module in modules])

    first = modules[0]
    return Module(Code(connect, load, first.path), first.wasm, first.digest, first.path)
