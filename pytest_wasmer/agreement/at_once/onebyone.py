"""Asks several backends the same by direct call, so that each host call happens once: while the first one is asked.

What came of it is noted, and given to the others when they come to the same host call.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement.at_once.lockstep import Stub, Stubs, release
from pytest_wasmer.agreement.at_once.settle import compare, event_of, settled
from pytest_wasmer.agreement.judge import equal
from pytest_wasmer.agreement.verdict import Level
from pytest_wasmer.engines.api import HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.runtime.errors import EngineFault, WasmError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_wasmer.agreement.at_once.settle import Question
    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.runtime.direct import DirectConnection
    from pytest_wasmer.runtime.host import HostCalls

# What host functions can ask for: it is asked of each backend when it comes to the host call.
ACCESSES = frozenset(
    {"read", "write", "digest", "memory_pages", "grow", "get_global", "set_global", "table_size"},
)


class Access(NamedTuple):
    """What a host function asked for: what asks each member, and how it ended on the first one."""

    works: Sequence[Callable[[], Any]]
    question: Question
    ended: Turn


class Note(NamedTuple):
    """One host call of the first member. `answer`: how the host function ended."""

    stub: Stub
    values: Values
    answer: Turn
    accesses: list[Access]


class Apart(BaseException):
    """Unwinds a call that made another host call than the first member's."""


class Turn:
    """How a request ended on one member (see `settle.Ended`), after which host calls."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: Any = None
        self.failure: BaseException | None = None
        self.calls: list[Event] = []

    def run(self, work: Callable[[], Any], notes: Sequence[Note] = ()) -> None:
        """Raises what is neither the engine's nor a host function's."""
        __tracebackhide__ = True
        try:
            self.value = work()
        except (Trapped, Refused, OutOfBounds, EngineFault, Apart) as failure:
            self.failure = failure
        except BaseException as error:
            if all(error is not note.answer.failure for note in notes):
                raise
            self.failure = error

    def result(self) -> Any:
        __tracebackhide__ = True
        if self.failure is not None:
            raise self.failure
        return self.value


class OneByOne:
    """Over the direct transport, see `lockstep.Lockstep`. A host function cannot call Wasm again: others are behind."""

    def __init__(self, members: Sequence[DirectConnection], hosts: HostCalls) -> None:
        self.level = "results"
        self._members = members
        self._names = [member.backend for member in members]
        self._hosts = hosts
        self.register = Stubs(members, self._serve).register
        # Of the request under way: whose turn it is, and the first member's host calls, the last of which may be too.
        self._turns: list[Turn] = []
        self._notes: list[Note] = []

    def request(self, operation: str, rows: Sequence[tuple[Any, ...]], question: Question) -> Any:
        __tracebackhide__ = True
        works = [
            partial(member.request, operation, *row, about=question.about)
            for member, row in zip(self._members, rows, strict=True)
        ]
        if self._turns and operation in ACCESSES:
            return self._access(works, question)
        return self._ask(works, question)

    def caller(
        self, handles: Sequence[int], params: tuple[str, ...], results: tuple[str, ...], question: Question
    ) -> Callable[[Values], Values]:
        natives = [
            member.caller(handle, params, results, question.about)
            for member, handle in zip(self._members, handles, strict=True)
        ]

        def call(values: Values) -> Values:
            __tracebackhide__ = True
            return self._ask([partial(native, values) for native in natives], question, values)  # type: ignore[no-any-return]

        return call

    def mapper(
        self, handles: Sequence[int], params: tuple[str, ...], results: tuple[str, ...], question: Question
    ) -> Callable[[Sequence[Values]], list[Any]]:
        natives = [
            member.mapper(handle, params, results, question.about)
            for member, handle in zip(self._members, handles, strict=True)
        ]

        def map_calls(calls: Sequence[Values]) -> list[Any]:
            __tracebackhide__ = True
            return self._ask([partial(native, calls) for native in natives], question)  # type: ignore[no-any-return]

        return map_calls

    # One request

    def _ask(self, works: Sequence[Callable[[], Any]], question: Question, values: Values | None = None) -> Any:
        __tracebackhide__ = True
        if self._turns:
            raise WasmError(
                f"{question.about} in a host function: with --wasm-isolation=none backends are asked one after the "
                "other, and the others have not come to this host call\nUse --wasm-isolation=process."
            )
        turns, notes = self._turns, self._notes
        try:
            for name, work in zip(self._names, works, strict=True):
                turns.append(Turn(name))
                turns[-1].run(work, notes)
            self._compare_calls(question, values)
            return settled(self._names, turns, question, self.level, values)
        except BaseException:
            if question.makes:
                release(self._members, turns)
            raise
        finally:
            self._turns, self._notes = [], []

    def _serve(self, stub: Stub, values: Values) -> Values:
        __tracebackhide__ = True
        turn = self._turns[-1]
        turn.calls.append(stub.event(values))
        note = self._made(stub, values) if len(self._turns) == 1 else self._noted(stub, values, turn)
        return note.answer.result()  # type: ignore[no-any-return]

    def _made(self, stub: Stub, values: Values) -> Note:
        """The first member's host call, which happens."""
        __tracebackhide__ = True
        note = Note(stub, values, Turn(stub.name), [])
        self._notes.append(note)
        try:
            note.answer.value = self._hosts.server(stub.number)(values)
        except HostRaised as raised:
            note.answer.failure = self._hosts.take(raised.token)
        return note

    def _noted(self, stub: Stub, values: Values, turn: Turn) -> Note:
        """What the same call of the first member came to, after the same accesses. Raises `Apart`."""
        __tracebackhide__ = True
        place = len(turn.calls) - 1
        note = self._notes[place] if place < len(self._notes) else None
        if note is None or note.stub.number != stub.number or not self._alike(note, values):
            raise Apart
        for access in note.accesses:
            mine = Turn(turn.name)
            mine.run(access.works[len(self._turns) - 1])
            first = access.ended
            if self.level != "off" and (first.failure or mine.failure or first.value != mine.value):
                events = {
                    name: event_of(one, access.question) for name, one in ((self._names[0], first), (turn.name, mine))
                }
                contents = [one.value for one in (first, mine) if isinstance(one.value, bytes)]
                compare(events, access.question, self.level, None, contents)
        return note

    def _alike(self, note: Note, values: Values) -> bool:
        if values == note.values or self.level == "off":
            return True
        return equal([note.stub.event(note.values), note.stub.event(values)], Level(self.level == "strict"))

    def _compare_calls(self, question: Question, values: Values | None) -> None:
        """Raises `Divergence` at the first host call that not all members made."""
        __tracebackhide__ = True
        apart = any(isinstance(turn.failure, Apart) for turn in self._turns)
        if self.level == "off" and not apart and len({len(turn.calls) for turn in self._turns}) == 1:
            return
        for place in range(max(len(turn.calls) for turn in self._turns)):
            compare(
                {
                    turn.name: turn.calls[place] if place < len(turn.calls) else event_of(turn, question)
                    for turn in self._turns
                },
                question,
                self.level,
                values,
            )

    def _access(self, works: Sequence[Callable[[], Any]], question: Question) -> Any:
        """Of the first member now, of the others when they come to this host call."""
        __tracebackhide__ = True
        ended = Turn(self._names[0])
        ended.run(works[0])
        self._notes[-1].accesses.append(Access(works, question, ended))
        return ended.result()
