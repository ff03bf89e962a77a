"""The pipe transport, `--wasm-isolation=process`: the executor in an engine process of its own."""

from __future__ import annotations

import os
import struct
import sys
import weakref
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from pytest_wasmer.engines.api import HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.connection import Connection
from pytest_wasmer.runtime.errors import EngineFault, EngineLost, InstanceLost, TimedOut, WrongThread
from pytest_wasmer.runtime.process import NO_MORE, EngineProcess, can_bound_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.engines.registry import BackendSpec

# Rows of one message of `map`: few enough that they fit in a message also if each is a trap with a long text.
MAP_ROWS = 1 << 15
LOCK_WAIT = 0.05
# Seconds that an engine process may take to write down what a test has left behind, at the end of the session.
FINISH_LIMIT = 1.0
# What compilers and this plugin work at, rather than guests.
OWN_WORK = ("convert", "compile", "store", "reload", "load", "serialize", "deserialize", "states", "digest")
# What decoding raises on bytes that are not what they should be.
NONSENSE = (wire.Nonsense, struct.error, ValueError, LookupError, OverflowError)


class PipeConnection(Connection):
    """One engine process and what it is asked. Lost for good at the first sign that answers may be out of step."""

    def __init__(
        self, spec: BackendSpec, pycache: Path, cwd: str | None = None, environment: Mapping[str, str] = NO_MORE
    ) -> None:
        super().__init__(spec, pycache)
        self._process = EngineProcess(spec, pycache, cwd, environment)
        self._frames = self._process.frames
        self._sequence = 0
        # What that was when it last settled.
        self._settled = -1
        # What that was when it was last given something to write down after its answer.
        self._finishing = -1
        self._codecs: dict[tuple[str, ...], wire.ValuesCodec] = {}
        self._lock = Lock()
        self._owner: int | None = None
        self._greeted = False
        # Whether the request that is under way is no call.
        self._makes = False
        self._memory = 0
        self._forget_in_forks()

    def _forget_in_forks(self) -> None:
        """A fork of the test process must not use, nor keep alive, nor end what belongs to its parent."""
        reference = weakref.ref(self)

        def forget() -> None:
            connection = reference()
            if connection is not None:
                connection._process.forget()
                connection.lost = EngineLost(
                    connection.backend, "it belongs to the process that was forked", "nothing", interrupted=True
                )

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=forget)

    @property
    def pid(self) -> int:
        """The engine process's."""
        return self._process.pid

    def request(self, operation: str, *arguments: Any, about: str) -> Any:
        __tracebackhide__ = True
        kind = wire.OPERATIONS[operation]
        self._makes = operation != "instantiate"
        bounded = self._memory and operation in OWN_WORK
        if bounded:
            self._process.bound(0)
        try:
            return self._ask(kind.code, kind.arguments.pack(*arguments), kind.unpack_result, about)
        finally:
            self._makes = False
            if bounded:  # anew: what is left of it is not the guest's
                self._process.bound(self._memory)

    def states(self, handles: Sequence[int], about: str) -> list[str]:
        __tracebackhide__ = True
        try:
            return super().states(handles, about)
        finally:
            self._finishing = self._sequence

    def read(self, memory: int, offset: int, length: int, about: str) -> bytes:
        """Its answer is the one whose length follows from the request alone."""
        __tracebackhide__ = True
        kind = wire.OPERATIONS["read"]
        return self._ask(kind.code, kind.arguments.pack(memory, offset, length), wire.exactly(length), about)  # type: ignore[no-any-return]

    def caller(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Values], Values]:
        prefix = wire.HANDLE.pack(handle)
        pack, unpack = self._codec(params).pack, self._codec(results).unpack

        def call(values: Values) -> Values:
            __tracebackhide__ = True
            return self._ask(wire.CALL, prefix + pack(values), unpack, about, values)  # type: ignore[no-any-return]

        frames = wire.call_frames(params, results)
        if frames is None:
            return call
        stream, acquire, locked, read, write = self._frames, self._lock.acquire, self._lock.locked, os.read, os.write
        incoming, outgoing, linger = stream.incoming, stream.outgoing, stream.linger
        asked, answered = frames.asked, frames.answered
        pack_frame, unpack_frame, size = frames.request.pack, frames.answer.unpack, frames.answer.size

        def quick(values: Values) -> Values:
            """As `call`, where nothing is out of the ordinary: most of its time would be this process's own."""
            __tracebackhide__ = True
            unusual = self.releases or self.lost is not None or self.test_runs_on or self.unwatched or stream.pending
            if unusual or locked() or deep():
                return self._ask(wire.CALL, prefix + pack(values), unpack, about, values)  # type: ignore[no-any-return]
            outermost = False
            try:
                outermost = acquire(False)
                if outermost:
                    sequence = self._sequence = (self._sequence + 1) & 0xFFFFFFFF
                    write(outgoing, pack_frame(asked, wire.CALL, sequence, handle, *values))
                    linger()
                    answer = read(incoming, wire.CHUNK)
                    if len(answer) == size:
                        fields = unpack_frame(answer)
                        if fields[2] == sequence and fields[1] == wire.DONE and fields[0] == answered:
                            return fields[3:]
                    stream.pending = answer
                    value, failure = self._conclude(sequence, unpack)
                    if failure is None:
                        return value  # type: ignore[no-any-return]
            except BaseException as error:
                failure = self._failure(error, about, values)
                if failure is error:
                    raise
            finally:
                # As in `_ask`, and not a function: on its way in, an interrupt would leave the lock taken.
                if outermost:
                    self.hosts.depth = 0  # also where an interrupt kept a host call from counting down
                    self._owner = None
                    self._lock.release()
            if outermost:
                raise failure  # type: ignore[misc]
            return call(values)  # another thread was faster

        return quick

    def mapper(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Sequence[Values]], list[Values | Trapped]]:
        arguments, outcomes = self._codec(params), self._codec(results)

        def map_rows(rows: Sequence[Values]) -> list[Values | Trapped]:
            __tracebackhide__ = True

            def unpack(body: bytes) -> list[Values | Trapped]:
                return wire.unpack_outcomes(body, outcomes, len(rows))

            body = wire.MAP_HEAD.pack(handle, len(rows)) + arguments.pack_rows(rows)
            what = f"{about}, mapped over {len(rows)} tuples"
            return self._ask(wire.MAP, body, unpack, what)  # type: ignore[no-any-return]

        def map_calls(calls: Sequence[Values]) -> list[Values | Trapped]:
            __tracebackhide__ = True
            if len(calls) <= MAP_ROWS:
                return map_rows(calls)
            parts = [map_rows(calls[start : start + MAP_ROWS]) for start in range(0, len(calls), MAP_ROWS)]
            return [outcome for part in parts for outcome in part]

        return map_calls

    def _codec(self, types: tuple[str, ...]) -> wire.ValuesCodec:
        return wire.codec_of(types, self._codecs)

    # One request

    def _ask(
        self, op: int, body: bytes, unpack: Callable[[bytes], Any], about: str, values: Values | None = None
    ) -> Any:
        """The unpacked answer. One thread at a time; raises what the executor raised, or `EngineLost`."""
        __tracebackhide__ = True
        check_stack()
        self._still_alive(about)
        if self.test_runs_on:
            self.refuse_other_test(about)
        outermost = None
        try:
            outermost = self._enter(about)
            if not self._greeted:
                self._greet()
            sequence = self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            due = self._release_frame() if self.releases and not self.hosts.depth else b""
            self._frames.write(op, sequence, body, due)
            self._frames.linger_asked()
            value, failure = self._conclude(sequence, unpack)
            if failure is None:
                return value
        except BaseException as error:
            failure = self._failure(error, about if self._greeted else "nothing yet: it was starting", values)
            if failure is error:
                raise
        finally:
            if outermost:
                self.hosts.depth = 0  # also where an interrupt kept a host call from counting down
                self._owner = None
                self._lock.release()
            elif outermost is False:
                self.hosts.to_python()
        raise failure

    def _conclude(self, sequence: int, unpack: Callable[[bytes], Any]) -> tuple[Any, BaseException | None]:
        """The answer to a request, or what it raises. Serves host calls meanwhile; raises what one that lost the
        engine process raised.

        All in one function, since Wasm and Python may call each other 100 deep and each frame counts.
        """
        __tracebackhide__ = True
        read = self._frames.read
        outcome, echoed, answer = read()
        while outcome == wire.HOST and echoed == sequence:
            self._owner = get_ident()
            number, values, results = self._host_call(answer)
            lost_with = None
            self.hosts.to_python()
            try:
                answer = self._codec(results).pack(self.hosts.server(number)(values))
            except HostRaised as raised:
                outcome, answer = wire.RAISED, wire.TOKEN.pack(raised.token)
                lost_with = self.hosts.take(raised.token) if self.lost is not None else None
            else:
                outcome, lost_with = wire.RETURN, self.lost  # which the host function hid
            finally:
                self.hosts.to_wasm()
            if lost_with is not None:
                raise lost_with
            self._frames.write(outcome, sequence, answer)
            outcome, echoed, answer = read()
        if echoed != sequence:
            raise wire.Nonsense(f"an answer to request {echoed} instead of {sequence}")
        try:
            return (unpack(answer), None) if outcome == wire.DONE else (None, self._exception(outcome, answer))
        except NONSENSE as error:
            raise wire.Nonsense(str(error)) from None

    def _greet(self) -> None:
        """The engine process has loaded its engine. Not waited for before the first request."""
        if self._frames.read() != (wire.HELLO, 0, b""):
            raise wire.Nonsense("it did not say hello")
        self._greeted = True
        if self._memory:
            self._process.bound(self._memory)

    def bound(self, size: int) -> None:
        """What its own library takes is not bounded, and so the same is left to guests on each backend."""
        before, self._memory = self._memory, size if can_bound_memory() else 0
        if self._greeted and (before or self._memory):
            self._process.bound(self._memory)

    def _release_frame(self) -> bytes:
        handles = wire.OPERATIONS["release"].arguments.pack(self.due_releases())
        return wire.HEADER.pack(len(handles), wire.RELEASE, 0) + handles

    def _host_call(self, body: bytes) -> tuple[int, Values, tuple[str, ...]]:
        """The number of the host function that is called, its arguments, and the types of its results."""
        try:
            (number,) = wire.HANDLE.unpack_from(body)
            function = self.hosts.get(number)
            params, results = (function.type[1], function.type[2]) if function else ((), ())
            return number, self._codec(params).unpack(body[wire.HANDLE.size :]) if function else (), results
        except NONSENSE as error:
            raise wire.Nonsense(str(error)) from None

    def _exception(self, outcome: int, answer: bytes) -> BaseException:
        if outcome == wire.TRAPPED:
            return Trapped(*wire.unpack_pair(answer))
        if outcome == wire.REFUSED:
            return Refused(*wire.unpack_pair(answer))
        if outcome == wire.OUT_OF_BOUNDS:
            return OutOfBounds(*wire.TOKEN.unpack(answer))
        if outcome == wire.RAISED:
            error = self.hosts.take(*wire.TOKEN.unpack(answer))
            if error is None:
                raise wire.Nonsense("it speaks of an exception that no host function raised")
            return error
        if outcome == wire.FAULT:
            kind, text, trace = wire.unpack_texts(answer)
            return EngineFault(f"the {self.backend} engine failed: {kind}: {text}\nIn the engine process:\n{trace}")
        raise wire.Nonsense(f"an unknown message ({outcome})")

    def wake(self) -> None:
        taken = False
        try:
            taken = self._greeted and self.lost is None and self._lock.acquire(False)
            if taken:
                before = self._sequence
                self._sequence = (self._sequence + 1) & 0xFFFFFFFF  # for the watchdog: this is not the last request
                if self._finishing == before:  # no answer will say that it has finished
                    self._finishing = self._sequence
                self._frames.write(wire.WAKE, self._sequence, b"")
        except wire.Closed:
            pass  # as the next request will say
        except BaseException as error:  # which may have come before it was known that the lock is taken
            raise self._failure(error, "nothing, it was woken up", None) from None
        finally:
            if taken:
                self._lock.release()

    # Trouble

    def _failure(self, error: BaseException, about: str, values: Values | None) -> BaseException:
        """What to raise when a request ended otherwise than by a completely decoded answer: this connection is lost.

        Also when `error` is an exception of this process, such as Ctrl-C or pytest-timeout's signal: the answer that
        is still to come would be taken for that of the next request.
        """
        request = about if values is None else f"{about} with ({', '.join(map(str, values))})"
        if isinstance(self.lost, TimedOut) and not self.lost.request:
            self._process.process.wait()
            self.lost.complete(request, self._process.tail())
            return self.lost if isinstance(error, (wire.Closed, wire.Nonsense, EngineLost)) else error
        if self.lost is not None or isinstance(error, WrongThread):
            return error
        cause = f"killed, because {type(error).__name__} interrupted the wait for its answer"
        # First of all: what follows may be interrupted, too.
        self.lost = EngineLost(self.backend, cause, request, interrupted=True)
        if isinstance(error, (wire.Closed, BrokenPipeError, ConnectionResetError)):
            cause = self._process.how_it_ended()
        elif isinstance(error, wire.Nonsense):
            self._process.kill()
            cause = f"it sent nonsense and was killed: {error}"
        else:
            self._process.kill()
            return error
        self.lost = EngineLost(self.backend, cause, request, self._process.tail())
        return self.lost

    def _enter(self, about: str) -> bool:
        """Take the lock unless this thread has it. Whoever would wait for a host function is refused."""
        me = get_ident()
        if self.unwatched and self.watchdog is not None:
            self.watchdog.start()
        if self._owner == me:
            self.hosts.nested += 1
            self.hosts.to_wasm()
            return False
        lost = None
        while not self._lock.acquire(False) and not self._lock.acquire(timeout=LOCK_WAIT):
            if self.hosts.depth:
                raise WrongThread(
                    f"the {self.backend} engine process is in a call that waits for a host function in another "
                    "thread\nCall it from that thread, or after that call has returned."
                )
            if lost is not None and lost is self.lost:  # whoever has the lock has had time to find out why
                self._still_alive(about)
            lost = self.lost
        try:
            self._still_alive(about)
        except InstanceLost:
            self._lock.release()
            raise
        self._owner = me
        return True

    def _still_alive(self, about: str) -> None:
        """Another thread may have lost it meanwhile."""
        __tracebackhide__ = True
        if self.lost is not None:
            raise InstanceLost(self.backend, self.lost.cause, about)

    # For the watchdog, in its own thread

    @property
    def under_way(self) -> int:
        """The number of the request that Python waits for now, one that host functions make counts as a part of it.

        Negative where there is none.
        """
        return self._sequence - self.hosts.nested if self._lock.locked() else -1

    @property
    def runs_wasm(self) -> bool:
        """Whether that is a call, rather than a compile or another request that is not the guest's work."""
        return self._greeted and not self._makes

    def end_late(self, loss: TimedOut) -> None:
        """The request that is under way has taken too long. What is asked next is refused at once: no kill hits it."""
        self.lost = loss
        self.kill()

    def kill(self) -> None:
        """End the engine process now, whatever it is at: the request that waits for it fails. From any thread."""
        self._process.process.kill()

    def was_asked(self) -> bool:
        return self._sequence != self._settled or self.lost is not None

    def settle(self) -> None:
        """Notice a death between requests now, not in the next test."""
        self._settled = self._sequence
        # Whose pipe is open lives, which is quicker to find out.
        idle = self.lost is None and not self._lock.locked()  # who waits for an answer notices itself
        if idle and self._frames.stirs() and self._process.process.poll() is not None:
            cause, output = self._process.how_it_ended(), self._process.tail()
            self.lost = EngineLost(self.backend, cause, "nothing, it was idle", output)

    def take_output(self) -> str:
        return self._process.take_output()

    def close(self) -> None:
        patience = 0.0
        if self.lost is None:
            self.lost = EngineLost(self.backend, "the session has ended", "nothing")
            patience = FINISH_LIMIT if self._finishing == self._sequence else 0.0
        self._process.close(patience)


# Python frames from which on it is worth a look whether there is room for a request.
DEEP = 300
ROOM = 50


def deep() -> bool:
    """Whether there are so many frames already."""
    try:
        sys._getframe(DEEP)
    except ValueError:
        return False
    return True


def check_stack() -> None:
    """Raise RecursionError now, rather than in the middle of a request, which would cost the engine process."""
    if deep():
        _dig(ROOM)


def _dig(frames: int) -> None:
    if frames:
        _dig(frames - 1)
