"""Asks several engine processes the same at the same time, so that each host call happens once: for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from pytest_wasmer.agreement.at_once.settle import compare, event_of, settled
from pytest_wasmer.engines.api import HostRaised
from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.errors import EngineLost, WasmError
from pytest_wasmer.runtime.flight import Flight, abandon
from pytest_wasmer.runtime.pipe import MAP_ROWS, check_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_wasmer.agreement.at_once.settle import Ended, Question
    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.engines.api import ExternType, Values
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.runtime.flight import HostCall
    from pytest_wasmer.runtime.host import HostCalls, Hosted
    from pytest_wasmer.runtime.pipe import PipeConnection


class Lockstep(Protocol):
    """Asks all members, and gives what they agree on (see `settled`). Handles and numbers come by member."""

    #: What they must agree on: "results", "strict" or "off".
    level: str

    def request(self, operation: str, rows: Sequence[tuple[Any, ...]], question: Question) -> Any: ...

    def caller(
        self, handles: Sequence[int], params: tuple[str, ...], results: tuple[str, ...], question: Question
    ) -> Callable[[Values], Values]: ...

    def mapper(
        self, handles: Sequence[int], params: tuple[str, ...], results: tuple[str, ...], question: Question
    ) -> Callable[[Sequence[Values]], list[Any]]: ...

    def register(self, number: int, host: Hosted) -> Sequence[int]:
        """The numbers of a host function, which has one for all."""
        ...


class Stub:
    """What one member calls for a host function of all: `number` is that function's."""

    def __init__(self, number: int, host: Hosted, serve: Callable[[Stub, Values], Values]) -> None:
        self.number = number
        self.name = host.name
        self.type: ExternType = host.type
        self._serve = serve

    def invoke(self, values: Values) -> Values:
        __tracebackhide__ = True
        return self._serve(self, values)

    def event(self, values: Values) -> Event:
        return ("host", self.name, ",".join(self.type[1]), *values)


class Stubs:
    """The stubs of host functions on each member; they live as long as the functions."""

    def __init__(self, members: Sequence[Connection], serve: Callable[[Stub, Values], Values]) -> None:
        self._members = members
        self._serve = serve
        self._kept: WeakKeyDictionary[Hosted, list[Stub]] = WeakKeyDictionary()

    def register(self, number: int, host: Hosted) -> Sequence[int]:
        stubs = [Stub(number, host, self._serve) for _ in self._members]
        self._kept[host] = stubs
        return [member.hosts.register(stub) for member, stub in zip(self._members, stubs, strict=True)]


class InStep:
    """Over the pipe transport, in one thread: sends to all, and serves a host call once all have come to it."""

    def __init__(self, members: Sequence[PipeConnection], hosts: HostCalls) -> None:
        self.level = "results"
        self._members = members
        self._names = [member.backend for member in members]
        self._hosts = hosts
        self._codecs: dict[tuple[str, ...], wire.ValuesCodec] = {}
        self.register = Stubs(members, _alone).register

    def request(self, operation: str, rows: Sequence[tuple[Any, ...]], question: Question) -> Any:
        __tracebackhide__ = True
        kind = wire.OPERATIONS[operation]
        unpack = wire.exactly(rows[0][2]) if operation == "read" else kind.unpack_result
        return self._ask(kind.code, [kind.arguments.pack(*row) for row in rows], unpack, question)

    def caller(
        self, handles: Sequence[int], params: tuple[str, ...], results: tuple[str, ...], question: Question
    ) -> Callable[[Values], Values]:
        prefixes = [wire.HANDLE.pack(handle) for handle in handles]
        pack, unpack = self._codec(params).pack, self._codec(results).unpack

        def call(values: Values) -> Values:
            __tracebackhide__ = True
            body = pack(values)
            return self._ask(wire.CALL, [prefix + body for prefix in prefixes], unpack, question, values)  # type: ignore[no-any-return]

        return call

    def mapper(
        self, handles: Sequence[int], params: tuple[str, ...], results: tuple[str, ...], question: Question
    ) -> Callable[[Sequence[Values]], list[Any]]:
        arguments, outcomes = self._codec(params), self._codec(results)

        def map_rows(rows: Sequence[Values], question: Question) -> list[Any]:
            __tracebackhide__ = True
            packed = arguments.pack_rows(rows)
            bodies = [wire.MAP_HEAD.pack(handle, len(rows)) + packed for handle in handles]
            return self._ask(wire.MAP, bodies, lambda body: wire.unpack_outcomes(body, outcomes, len(rows)), question)  # type: ignore[no-any-return]

        def map_calls(calls: Sequence[Values]) -> list[Any]:
            __tracebackhide__ = True
            if len(calls) <= MAP_ROWS:
                return map_rows(calls, question)
            found = []
            for start in range(0, len(calls), MAP_ROWS):
                about = f"{question.about} from row {start} on"
                found += map_rows(calls[start : start + MAP_ROWS], question._replace(about=about))
            return found

        return map_calls

    def _codec(self, types: tuple[str, ...]) -> wire.ValuesCodec:
        return wire.codec_of(types, self._codecs)

    # One request

    def _ask(
        self,
        op: int,
        bodies: Sequence[bytes],
        unpack: Callable[[bytes], Any],
        question: Question,
        values: Values | None = None,
    ) -> Any:
        """See `settled`. Whatever is raised, nobody owes an answer any more."""
        __tracebackhide__ = True
        check_stack()
        flights = [Flight(member, unpack, question.about, values) for member in self._members]
        try:
            for flight in flights:
                flight.enter()
            for flight, body in zip(flights, bodies, strict=True):
                flight.send(op, body)
            calls = [flight.receive() for flight in flights]
            while any(calls):
                self._serve(flights, calls, question, values)
                calls = [flight.receive() for flight in flights]
            return settled(self._names, flights, question, self.level, values)
        except BaseException as error:
            abandon(flights, error)
            if question.makes:
                release(self._members, flights)
            raise
        finally:
            # Not a function: on its way in, an interrupt would leave locks taken.
            interrupt = None
            while flights:
                try:
                    while flights:
                        flights[-1].leave()
                        flights.pop()
                except BaseException as error:
                    interrupt = error
            if interrupt is not None:
                raise interrupt

    def _serve(
        self, flights: Sequence[Flight], calls: Sequence[HostCall | None], question: Question, values: Values | None
    ) -> None:
        """The host call that all members wait for. What is raised here has ended their calls."""
        __tracebackhide__ = True
        number, call = self._agreed(flights, calls, question, values)
        raised, answer = None, b""
        for member in self._members:
            member.hosts.depth += 1
        try:
            answer = self._codec(call.results).pack(self._hosts.server(number)(call.values))
        except HostRaised as token:
            raised = self._hosts.take(token.token)
        finally:
            for member in self._members:
                member.hosts.depth -= 1
        lost = next((member.lost for member in self._members if member.lost is not None), None)
        if lost is not None:  # which the host function may have hidden
            _end(flights, raised or lost)
            raise raised or lost
        for flight in flights:
            if raised is None:
                flight.answer(answer)
            else:
                flight.raise_in(raised)

    def _agreed(
        self, flights: Sequence[Flight], calls: Sequence[HostCall | None], question: Question, values: Values | None
    ) -> tuple[int, HostCall]:
        """The number of the host function that all members call, and the first one's call."""
        __tracebackhide__ = True
        first = calls[0]
        stubs = [call and flight.connection.hosts.get(call.number) for call, flight in zip(calls, flights, strict=True)]
        numbers = {stub.number if isinstance(stub, Stub) else 0 for stub in stubs}
        if first is not None and len(numbers) == 1:
            wanted = None if self.level == "off" else first.values
            if all(call is not None and wanted in (None, call.values) for call in calls):
                return numbers.pop(), first
        try:
            for flight in flights:
                if isinstance(flight.failure, EngineLost):
                    raise flight.failure
            events = {
                name: stub.event(call.values) if call and isinstance(stub, Stub) else event_of(flight, question)
                for name, call, stub, flight in zip(self._names, calls, stubs, flights, strict=True)
            }
            compare(events, question, self.level, values)
        except WasmError as error:
            _end(flights, error)
            raise
        assert first is not None
        return numbers.pop(), first


def _end(flights: Sequence[Flight], error: BaseException) -> None:
    """The calls that wait for a host function."""
    for flight in flights:
        flight.unwind(error)


def _alone(stub: Stub, values: Values) -> Values:
    raise AssertionError(f"{stub.name} is called on one backend only")


def release(members: Sequence[Connection], ended: Sequence[Ended]) -> None:
    """Let go of what some members made, where not all did."""
    for member, one in zip(members, ended, strict=False):
        if one.value is not None:
            member.releases.append(one.value)
