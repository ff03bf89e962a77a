"""One request of one engine process in steps, for whoever asks several of them at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.pipe import NONSENSE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.runtime.pipe import PipeConnection


class HostCall(NamedTuple):
    """What Wasm waits for: a host function's number on that connection, its arguments, the types of its results."""

    number: int
    values: Values
    results: tuple[str, ...]


class Flight:
    """What `PipeConnection._ask` does at a stretch: `enter`, `send`, then `receive` until it has ended, then `leave`.

    An engine process that is lost meanwhile is the `failure` of its flight, not raised, so that the others can be
    brought to their ends. All else that is raised between the steps goes to all flights by `abandon`.
    """

    __slots__ = ("_about", "_outermost", "_sequence", "_unpack", "_values", "connection", "failure", "owed", "value")

    def __init__(
        self, connection: PipeConnection, unpack: Callable[[bytes], Any], about: str, values: Values | None
    ) -> None:
        self.connection = connection
        self._unpack = unpack
        self._about = about
        self._values = values
        self._outermost: bool | None = None
        self._sequence = 0
        #: How it ended: with an answer, or else with an exception.
        self.value: Any = None
        self.failure: BaseException | None = None
        #: Whether an answer may be still to come.
        self.owed = False

    def enter(self) -> None:
        """Raises what refuses a request before anything is sent."""
        __tracebackhide__ = True
        connection = self.connection
        connection._still_alive(self._about)
        if connection.test_runs_on:
            connection.refuse_other_test(self._about)
        self.owed = True  # an interrupt in here may leave the lock taken, by nobody
        self._outermost = connection._enter(self._about)
        self.owed = False

    def send(self, op: int, body: bytes) -> None:
        connection = self.connection
        self.owed = True
        try:
            if not connection._greeted:
                connection._greet()
            sequence = self._sequence = connection._sequence = (connection._sequence + 1) & 0xFFFFFFFF
            due = connection._release_frame() if connection.releases and not connection.hosts.depth else b""
            connection._frames.write(op, sequence, body, due)
        except (wire.Closed, wire.Nonsense) as error:
            self._lose(error)

    def receive(self) -> HostCall | None:
        """The next host call that Wasm waits for; None where it has ended."""
        if not self.owed:
            return None
        connection = self.connection
        try:
            outcome, echoed, answer = connection._frames.read()
            connection.hosts.to_python()
            if echoed != self._sequence:
                raise wire.Nonsense(f"an answer to request {echoed} instead of {self._sequence}")
            if outcome == wire.HOST:
                return HostCall(*connection._host_call(answer))
            self._end(outcome, answer)
        except (wire.Closed, wire.Nonsense) as error:
            self._lose(error)
        return None

    def _end(self, outcome: int, answer: bytes) -> None:
        try:
            if outcome == wire.DONE:
                self.value = self._unpack(answer)
            else:
                self.failure = self.connection._exception(outcome, answer)
        except NONSENSE as error:
            raise wire.Nonsense(str(error)) from None
        self.owed = False

    def answer(self, body: bytes) -> None:
        """The host function has returned."""
        self._go_on(wire.RETURN, body)

    def raise_in(self, error: BaseException) -> None:
        """The host function has raised that."""
        if self.owed:
            self._go_on(wire.RAISED, wire.TOKEN.pack(self.connection.hosts.keep(error)))

    def _go_on(self, outcome: int, body: bytes) -> None:
        self.connection.hosts.to_wasm()
        try:
            self.connection._frames.write(outcome, self._sequence, body)
        except wire.Closed as error:
            self._lose(error)

    def unwind(self, error: BaseException) -> None:
        """End a call that waits for a host function, by an exception; one that calls another one then is killed."""
        self.raise_in(error)
        if self.receive() is not None:
            self._lose(wire.Nonsense("it went on after an exception"))

    def _lose(self, error: BaseException) -> None:
        about = self._about if self.connection._greeted else "nothing yet: it was starting"
        self.failure = self.connection._failure(error, about, self._values)
        self.owed = False

    def leave(self) -> None:
        """However it went. May be said again, where an interrupt came between."""
        connection = self.connection
        if self._outermost:
            connection.hosts.to_wasm()
            # No call in between, within which an interrupt would keep the lock taken.
            self._outermost = None
            connection.hosts.depth = 0  # also where an interrupt kept a host call from counting down
            connection._owner = None
            connection._lock.release()
        elif self._outermost is False:
            connection.hosts.to_python()


def abandon(flights: Sequence[Flight], error: BaseException) -> None:
    """An exception has come between: every engine process that owes an answer is ended, also where one more comes."""
    if flights:
        try:
            if flights[0].owed:
                flights[0]._lose(error)
        finally:
            abandon(flights[1:], error)
