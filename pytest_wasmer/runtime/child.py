"""The engine process: started by `pipe` with one backend's engine, serves requests until its pipe closes.

Standard library only, and little of it: the start is to cost no more than importing the wheels, and the
environment that holds the wheels may hold nothing else.
"""

from __future__ import annotations

import os
import sys

from pytest_wasmer.engines.api import HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.executor import Executor, make_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pytest_wasmer.engines.api import ExternType, Values

# Places in a frame.
OP, HANDLE_END = 4, wire.HEADER.size + wire.HANDLE.size
SIGKILL = 9  # importing signal takes milliseconds


class Server:
    """Answers the requests of one parent, one at a time; a host call waits here and answers nested requests."""

    def __init__(self, frames: wire.Frames, reference: str, argument: str) -> None:
        self._frames = frames
        self._executor = Executor(make_engine(reference, argument), self._make_host, finishes=True)
        self._codecs: dict[tuple[str, ...], wire.ValuesCodec] = {}
        # By handle, as it comes: what answers a body, and what answers a whole frame of that size.
        self._calls: dict[bytes, Callable[[bytes], bytes]] = {}
        self._quick: dict[bytes, tuple[int, Callable[[bytes], bytes]]] = {}
        self._sequence = 0

    def serve(self) -> NoReturn:
        """Ends by `Closed` only."""
        frames, quick = self._frames, self._quick
        read, write, incoming, outgoing = os.read, os.write, frames.incoming, frames.outgoing
        frames.write(wire.HELLO, 0, b"")
        while True:
            if not frames.pending:
                # Nearly always one frame, of a call that was made before.
                frames.linger()
                data = read(incoming, wire.CHUNK)
                call = quick.get(data[wire.HEADER.size : HANDLE_END])
                if call is not None and len(data) == call[0] and data[OP] == wire.CALL:
                    try:
                        answer = call[1](data)
                    except wire.Closed:
                        raise
                    except BaseException as error:
                        frames.write(*self._failed(error, wire.HEADER.unpack_from(data)[2]))
                    else:
                        write(outgoing, answer)
                    continue
                frames.pending = data
            self._answer(*frames.read())

    def _answer(self, op: int, sequence: int, body: bytes) -> None:
        if op == wire.WAKE:
            if not self._frames.pending:
                self._frames.linger_awake()
            return
        if op == wire.RELEASE:  # this and that have no answer
            self._calls.clear()
            self._quick.clear()
            self._executor.release(*wire.BY_CODE[op].arguments.unpack(body))
            return
        outer, self._sequence = self._sequence, sequence
        try:
            outcome, answer = wire.DONE, self._perform(op, body)
        except wire.Closed:
            raise
        except BaseException as error:
            outcome, _, answer = self._failed(error, sequence)
        self._sequence = outer
        self._frames.write(outcome, sequence, answer)
        self._executor.finish()

    def _failed(self, error: BaseException, sequence: int) -> tuple[int, int, bytes]:
        """The frame that says so."""
        if isinstance(error, Trapped):
            return wire.TRAPPED, sequence, wire.pack_texts(error.kind, error.text)
        if isinstance(error, Refused):
            return wire.REFUSED, sequence, wire.pack_texts(error.stage, error.text)
        if isinstance(error, OutOfBounds):
            return wire.OUT_OF_BOUNDS, sequence, wire.TOKEN.pack(error.size)
        if isinstance(error, HostRaised):
            return wire.RAISED, sequence, wire.TOKEN.pack(error.token)
        return wire.FAULT, sequence, wire.pack_texts(type(error).__name__, str(error), _traceback())

    def _perform(self, op: int, body: bytes) -> bytes:
        if op == wire.CALL:
            function = body[: wire.HANDLE.size]
            call = self._calls.get(function) or self._make_call(function)
            return call(body[wire.HANDLE.size :])
        if op == wire.MAP:
            handle, count = wire.MAP_HEAD.unpack_from(body)
            _, params, results = self._executor.type_of(handle)
            rows = self._codec(params).unpack_rows(body[wire.MAP_HEAD.size :], count)
            return wire.pack_outcomes(self._executor.map(handle, rows), self._codec(results))
        operation = wire.BY_CODE[op]
        return operation.pack_result(getattr(self._executor, operation.name)(*operation.arguments.unpack(body)))

    def _make_call(self, function: bytes) -> Callable[[bytes], bytes]:
        """What calls a function: packed values in and out; kept until something is released."""
        (handle,) = wire.HANDLE.unpack(function)
        _, params, results = self._executor.type_of(handle)
        unpack, native, pack = self._codec(params).unpack, self._executor.caller(handle), self._codec(results).pack

        def call(body: bytes) -> bytes:
            return pack(native(unpack(body)))

        self._calls[function] = call
        frames = wire.call_frames(params, results)
        if frames is not None:
            self._quick[function] = frames.request.size, self._make_quick(frames, native)
        return call

    def _make_quick(self, frames: wire.CallFrames, native: Callable[[Values], Values]) -> Callable[[bytes], bytes]:
        """What calls a function: a whole frame in, a whole frame out."""
        unpack, pack, length = frames.request.unpack, frames.answer.pack, frames.answered

        def call(data: bytes) -> bytes:
            fields = unpack(data)
            sequence = self._sequence = fields[2]
            return pack(length, wire.DONE, sequence, *native(fields[4:]))

        return call

    def _make_host(self, number: int, type_: ExternType) -> Callable[[Values], Values]:
        _, params, results = type_
        head, pack, unpack = wire.HANDLE.pack(number), self._codec(params).pack, self._codec(results).unpack

        def host(values: Values) -> Values:
            self._frames.write(wire.HOST, self._sequence, head + pack(values))
            while True:
                op, sequence, body = self._frames.read()
                if op == wire.RETURN:
                    return unpack(body)
                if op == wire.RAISED:
                    raise HostRaised(*wire.TOKEN.unpack(body))
                self._answer(op, sequence, body)

        return host

    def _codec(self, types: tuple[str, ...]) -> wire.ValuesCodec:
        return wire.codec_of(types, self._codecs)


def _traceback() -> str:
    import traceback

    return traceback.format_exc(limit=20)


def main() -> NoReturn:
    """`python -c BOOT package_dir engine argument lifeline [import_path...]`."""
    reference, argument, lifeline, *import_path = sys.argv[2:]
    # The pipe moves away from 0 and 1, where native code reads and prints; 2 is the capture file already.
    frames = wire.Frames(os.dup(0), os.dup(1), patient=True)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    # Before the engine's first Store: then a trap stays a trap, and a real crash leaves its traceback in the capture.
    import faulthandler

    faulthandler.enable(2)
    tie_to_parent(int(lifeline))
    volunteer_for_the_oom_killer()
    sys.path += import_path
    try:
        Server(frames, reference, argument).serve()
    except wire.Closed:
        os._exit(0)
    except BaseException:
        os.write(2, _traceback().encode())
        os._exit(70)


def tie_to_parent(lifeline: int) -> None:
    """End with the parent, however it ends, also in the middle of native code.

    The parent holds the other end of this pipe and never writes: its end closes when it dies, and the kernel sends a
    signal; neither the GIL nor a thread is needed. A descriptor of its own, since data raises the signal too.
    (The parent-death signal would fire when the *thread* that started this process ends.)
    """
    if lifeline < 0:
        return
    try:
        import fcntl
    except ImportError:  # Windows: the process ends when it next reads its pipe
        return
    import select

    if hasattr(fcntl, "F_SETSIG"):
        # Not the default, SIGIO: whoever started the tests may have left that ignored, which is inherited.
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    ended = select.poll()  # select() knows descriptors up to 1023
    ended.register(lifeline, select.POLLIN)
    if ended.poll(0):
        os._exit(0)  # the parent was gone before the signal was asked for


def volunteer_for_the_oom_killer() -> None:
    """Where memory runs out, this process dies before the test process does (Linux)."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
