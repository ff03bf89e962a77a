"""The engine process's side of the pipe, here in a thread of this process: every kind of answer, nested requests."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.child import Server
from pytest_wasmer.runtime.wire import IS_HANDLE, IS_HOST
from tests.fake_engine import function, memory, module, table, variable
from tests.runtime.workbench import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

I32 = wire.ValuesCodec(("i32",))


class Child:
    """A server in a thread, and the parent's end of its pipe, frame by frame."""

    def __init__(self) -> None:
        incoming, self._to_child = os.pipe()
        self._from_child, outgoing = os.pipe()
        self._child_ends = [incoming, outgoing]
        self.frames = wire.Frames(self._from_child, self._to_child, patient=False)
        self.ended_by: BaseException | None = None
        self.its_frames = wire.Frames(incoming, outgoing, patient=True)
        self._thread = threading.Thread(target=self._serve, args=(self.its_frames,))
        self._thread.start()
        self.hello = self.frames.read()

    def _serve(self, frames: wire.Frames) -> None:
        try:
            Server(frames, "tests.fake_engine:FakeEngine", "fake-a").serve()
        except BaseException as error:
            self.ended_by = error

    def send(self, name: str, *arguments: Any, sequence: int = 1) -> None:
        operation = wire.OPERATIONS[name]
        self.frames.write(operation.code, sequence, operation.arguments.pack(*arguments))

    def ask(self, name: str, *arguments: Any) -> Any:
        self.send(name, *arguments, sequence=77)
        outcome, sequence, body = self.frames.read()
        assert (outcome, sequence) == (wire.DONE, 77)
        return wire.OPERATIONS[name].unpack_result(body)

    def instance(self, wasm: bytes, imports: list[tuple[int, int]] | None = None) -> int:
        """The handle of the first export."""
        handle, _ = self.ask("compile", wasm)
        instance: int = self.ask("instantiate", handle, imports or [])
        return instance + 1

    def call(self, handle: int, *values: int, sequence: int = 1) -> tuple[int, int, bytes]:
        codec = wire.ValuesCodec(("i32",) * len(values))
        self.frames.write(wire.CALL, sequence, wire.HANDLE.pack(handle) + codec.pack(values))
        return self.frames.read()

    def hang_up(self) -> None:
        os.close(self._to_child)
        self._thread.join(5)
        assert not self._thread.is_alive()
        for descriptor in (self._from_child, *self._child_ends):
            os.close(descriptor)


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.hang_up()
    assert isinstance(made.ended_by, wire.Closed)


def test_hello(child: Child) -> None:
    assert child.hello == (wire.HELLO, 0, b"")


def test_it_stays_awake_when_it_is_told_to_and_says_nothing(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    f = child.instance(module(exports={"f": function("i32 i32 -> i32", ["sum"])}))
    lingered: list[str] = []
    monkeypatch.setattr(child.its_frames, "linger_awake", lambda: lingered.append("awake"))
    for number in range(1, 4):
        child.frames.write(wire.WAKE, 5, b"")
        assert eventually(lambda: len(lingered) == number)  # noqa: B023 (now)
        assert child.call(f, 40, 2, sequence=6) == (wire.DONE, 6, I32.pack((42,)))
    assert len(lingered) == 3


def test_it_does_not_wait_for_what_is_there(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    f = child.instance(module(exports={"f": function("i32 i32 -> i32", ["sum"])}))
    waited: list[None] = []
    monkeypatch.setattr(child.its_frames, "linger_awake", lambda: waited.append(None))
    request = wire.HANDLE.pack(f) + wire.ValuesCodec(("i32", "i32")).pack((40, 2))
    child.frames.write(wire.CALL, 6, request, wire.HEADER.pack(0, wire.WAKE, 5))
    assert child.frames.read() == (wire.DONE, 6, I32.pack((42,)))
    assert waited == []


def test_every_operation(child: Child) -> None:
    wasm = module(
        exports={"m": memory(1, 3), "g": variable("i64", -5), "t": table(4), "f": function("i32 i32 -> i32", ["sum"])},
        name="all",
    )
    handle, description = child.ask("compile", wasm)
    assert description == (
        "all",
        [],
        [
            ("m", ("memory", 1, 3)),
            ("g", ("global", "i64", True)),
            ("t", ("table", "funcref", 4, None)),
            ("f", ("func", ("i32", "i32"), ("i32",))),
        ],
    )
    assert child.ask("serialize", handle) == b"fake artifact of fake-a" + wasm
    first = child.ask("instantiate", handle, [])
    m, g, t, f = range(first + 1, first + 5)
    assert child.ask("write", m, 65530, b"abc") is None
    assert child.ask("read", m, 65530, 4) == b"abc\0"
    assert child.ask("grow", m, 2) == 1
    assert child.ask("memory_pages", m) == 3
    assert child.ask("get_global", g) == -5
    assert child.ask("set_global", g, -6) is None
    assert child.ask("get_global", g) == -6
    assert child.ask("table_size", t) == 4
    assert child.call(f, 40, 2, sequence=9) == (wire.DONE, 9, I32.pack((42,)))
    assert child.ask("read", child.ask("make_memory", 2, None), 131071, 1) == b"\0"
    assert child.ask("get_global", child.ask("make_global", "v128", False, 2**128 - 1)) == 2**128 - 1


def test_map(child: Child) -> None:
    handle = child.instance(module(exports={"f": function("i32 -> i32", ["sum"])}))
    rows = wire.MAP_HEAD.pack(handle, 3) + I32.pack_rows([(1,), (2,), (3,)])
    child.frames.write(wire.MAP, 5, rows)
    outcome, sequence, body = child.frames.read()
    assert (outcome, sequence) == (wire.DONE, 5)
    assert wire.unpack_outcomes(body, I32, 3) == [(1,), (2,), (3,)]


def test_a_trap(child: Child) -> None:
    handle = child.instance(module(exports={"f": function("->", [["trap", "UNREACHABLE"]])}))
    answer = wire.pack_texts("UNREACHABLE", "unreachable on fake-a")
    assert child.call(handle, sequence=4) == (wire.TRAPPED, 4, answer)


def test_a_refusal(child: Child) -> None:
    child.send("compile", module(refuse={"*": ("validate", "not today")}), sequence=6)
    assert child.frames.read() == (wire.REFUSED, 6, wire.pack_texts("validate", "not today"))


def test_out_of_bounds(child: Child) -> None:
    handle = child.instance(module(exports={"m": memory(1)}))
    child.send("read", handle, 65536, 1, sequence=8)
    assert child.frames.read() == (wire.OUT_OF_BOUNDS, 8, wire.TOKEN.pack(65536))


def test_a_fault_has_the_traceback(child: Child) -> None:
    handle = child.instance(module(exports={"f": function("->", [["fail", "oh no"]])}))
    outcome, sequence, body = child.call(handle, sequence=3)
    kind, text, trace = wire.unpack_texts(body)
    assert (outcome, sequence, kind, text) == (wire.FAULT, 3, "ValueError", "oh no")
    assert trace.startswith("Traceback (most recent call last):\n")
    assert "in _do_fail" in trace
    assert trace.endswith("ValueError: oh no\n")


@pytest.mark.parametrize(
    ("op", "body", "kind"),
    [
        (200, b"", "KeyError"),
        (wire.CALL, wire.HANDLE.pack(99), "KeyError"),
        (wire.OPERATIONS["read"].code, b"short", "error"),
        (wire.RETURN, b"", "KeyError"),
    ],
    ids=["unknown op", "unknown handle", "cut off", "an answer without a question"],
)
def test_a_bad_request_is_a_fault_and_the_next_is_served(child: Child, op: int, body: bytes, kind: str) -> None:
    child.frames.write(op, 2, body)
    outcome, sequence, answer = child.frames.read()
    assert (outcome, sequence, wire.unpack_texts(answer)[0]) == (wire.FAULT, 2, kind)
    assert child.ask("make_memory", 1, None) == 1


def test_release_has_no_answer(child: Child) -> None:
    handle, _ = child.ask("compile", module())
    child.send("release", [handle, 12345])
    child.send("serialize", handle, sequence=9)
    outcome, sequence, body = child.frames.read()
    assert (outcome, sequence, wire.unpack_texts(body)[0]) == (wire.FAULT, 9, "KeyError")


HOSTED = module(imports=[("env", "h", ["func", ["i32"], ["i32"]])], exports={"f": function("i32 -> i32", ["host"])})


def test_a_host_call(child: Child) -> None:
    handle = child.instance(HOSTED, [(IS_HOST, 31)])
    assert child.call(handle, 5, sequence=10) == (wire.HOST, 10, wire.HANDLE.pack(31) + I32.pack((5,)))
    child.frames.write(wire.RETURN, 10, I32.pack((6,)))
    assert child.frames.read() == (wire.DONE, 10, I32.pack((6,)))


def test_a_host_call_that_raises(child: Child) -> None:
    handle = child.instance(HOSTED, [(IS_HOST, 31)])
    child.call(handle, 5, sequence=10)
    child.frames.write(wire.RAISED, 10, wire.TOKEN.pack(2**40))
    assert child.frames.read() == (wire.RAISED, 10, wire.TOKEN.pack(2**40))


def test_a_host_result_that_makes_no_sense(child: Child) -> None:
    handle = child.instance(HOSTED, [(IS_HOST, 31)])
    child.call(handle, 5, sequence=10)
    child.frames.write(wire.RETURN, 10, b"too long for an i32")
    outcome, sequence, body = child.frames.read()
    assert (outcome, sequence, wire.unpack_texts(body)[0]) == (wire.FAULT, 10, "error")
    assert child.ask("make_memory", 1, None)


def test_nested_requests_each_have_their_number(child: Child) -> None:
    """A host function that calls, reads, fails, and only then returns."""
    inner = child.instance(module(exports={"f": function("->", [["trap", "UNREACHABLE"]]), "m": memory(1)}))
    outer = child.instance(HOSTED, [(IS_HOST, 1)])
    assert child.call(outer, 1, sequence=10)[:2] == (wire.HOST, 10)
    assert child.call(outer, 2, sequence=11)[:2] == (wire.HOST, 11)
    assert child.call(inner, sequence=12)[:2] == (wire.TRAPPED, 12)
    assert child.ask("read", inner + 1, 0, 1) == b"\0"
    child.frames.write(wire.RETURN, 11, I32.pack((20,)))
    assert child.frames.read() == (wire.DONE, 11, I32.pack((20,)))
    # The outer call goes on under its own number, also for another host call.
    assert child.call(outer, 3, sequence=13)[:2] == (wire.HOST, 13)
    child.frames.write(wire.RAISED, 13, wire.TOKEN.pack(1))
    assert child.frames.read()[:2] == (wire.RAISED, 13)
    child.frames.write(wire.RETURN, 10, I32.pack((10,)))
    assert child.frames.read() == (wire.DONE, 10, I32.pack((10,)))


def test_the_outer_number_after_a_nested_request(child: Child) -> None:
    """The same call may come to another host function."""
    twice = module(
        imports=[("env", "h", ["func", ["i32"], ["i32"]])], exports={"f": function("i32 -> i32", ["host", "host"])}
    )
    handle = child.instance(twice, [(IS_HOST, 1)])
    assert child.call(handle, 1, sequence=10)[:2] == (wire.HOST, 10)
    assert child.ask("make_memory", 1, None)
    child.frames.write(wire.RETURN, 10, I32.pack((1,)))
    assert child.frames.read()[:2] == (wire.HOST, 10)
    child.frames.write(wire.RETURN, 10, I32.pack((2,)))
    assert child.frames.read() == (wire.DONE, 10, I32.pack((2,)))


def test_an_import_of_another_instance(child: Child) -> None:
    exported = child.instance(module(exports={"f": function("i32 -> i32", [["return", 8]])}))
    handle = child.instance(HOSTED, [(IS_HANDLE, exported)])
    assert child.call(handle, 1) == (wire.DONE, 1, I32.pack((8,)))


def test_the_end_in_a_host_call_ends_it(child: Child) -> None:
    handle = child.instance(HOSTED, [(IS_HOST, 31)])
    assert child.call(handle, 5)[0] == wire.HOST


def test_an_engine_that_cannot_be_made() -> None:
    with pytest.raises(ImportError, match="this fake library cannot be loaded"):
        Server(wire.Frames(0, 1, patient=True), "tests.fake_engine:FakeEngine", "broken")
