"""A process that dies or sends nonsense: one error that says everything, soon; then a new process, same modules."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.engines.registry import BackendSpec
from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.errors import EngineFault, EngineLost, InstanceLost
from pytest_wasmer.runtime.pool import EnginePool
from tests.conftest import FAKES
from tests.fake_engine import function, memory, module
from tests.runtime.workbench import (
    FAKE,
    HERE_OF_FAKES,
    begin,
    eventually,
    instance,
    load,
    losses,
    outputs,
    pid_of,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Of the third request of a process: compile, instantiate, call.
THIRD = 3
TEXTS = wire.pack_texts("one", "two", "three")


def frame(op: int, body: bytes = b"", sequence: int = THIRD) -> bytes:
    return wire.HEADER.pack(len(body), op, sequence) + body


def dying(steps: list[Any], signature: str = "i32 i32 -> i32") -> bytes:
    return module(exports={"f": function(signature, steps), "sum": function("i32 i32 -> i32", ["sum"])})


def says(data: bytes) -> list[Any]:
    return [["say", data.hex()]]


def message(cause: str, output: str = "", request: str = "call of 'f' of m.wasm with (1, 2)") -> str:
    lines = [f"the fake-a engine process was lost: {cause}", f"It was serving: {request}"]
    if output:
        lines += ["Its last output:", *[f"    {line}" for line in output.splitlines()]]
    lines += ["The next test gets a new process. This backend alone: pytest --wasm-backends=fake-a"]
    return "\n".join(lines)


def python_says(work: Callable[[], object]) -> str:
    """Python's own words, which differ between its versions."""
    try:
        work()
    except Exception as error:
        return str(error)
    raise AssertionError("it raises nothing")


KILLED = "it sent nonsense and was killed: "
DEATHS: dict[str, tuple[list[Any], str]] = {
    "SIGKILL": ([["signal", "SIGKILL"]], "killed by SIGKILL"),
    "SIGTERM": ([["signal", "SIGTERM"]], "killed by SIGTERM"),
    "exit 3": ([["exit", 3]], "exit status 3"),
    "exit 0": ([["exit", 0]], "exit status 0"),
    "closed pipe": (["close"], "it closed its pipe and had to be killed"),
    "garbage": (
        says(b"\xff" * 40),
        f"{KILLED}a message of 4294967295 bytes is announced; the limit is {wire.BODY_LIMIT}",
    ),
    "2 GB": (
        says(wire.HEADER.pack(1 << 31, wire.DONE, THIRD)),
        f"{KILLED}a message of 2147483648 bytes is announced; the limit is {wire.BODY_LIMIT}",
    ),
    "an earlier number": (
        says(frame(wire.DONE, bytes(4), THIRD - 1)),
        f"{KILLED}an answer to request 2 instead of 3",
    ),
    "a later number": (says(frame(wire.DONE, bytes(4), THIRD + 1)), f"{KILLED}an answer to request 4 instead of 3"),
    "unknown op": (says(frame(200)), f"{KILLED}an unknown message (200)"),
    "hello again": (says(frame(wire.HELLO)), f"{KILLED}an unknown message (1)"),
    "a parent's op": (says(frame(wire.RETURN, bytes(4))), f"{KILLED}an unknown message (9)"),
    "short answer": (says(frame(wire.DONE, bytes(3))), KILLED + python_says(lambda: wire.HANDLE.unpack(b""))),
    "surplus bytes": (says(frame(wire.DONE, bytes(5))), KILLED + python_says(lambda: wire.HANDLE.unpack(b""))),
    "a trap cut off": (says(frame(wire.TRAPPED, TEXTS[:6])), f"{KILLED}3 texts are announced in 6 bytes"),
    "a trap cut off in its text": (says(frame(wire.TRAPPED, TEXTS[:-1])), f"{KILLED}a text is cut off"),
    "a trap of one text": (
        says(frame(wire.TRAPPED, wire.pack_texts("one"))),
        KILLED + python_says(lambda: wire.unpack_pair(wire.pack_texts("one"))),
    ),
    "a refusal of three texts": (
        says(frame(wire.REFUSED, TEXTS)),
        KILLED + python_says(lambda: wire.unpack_pair(TEXTS)),
    ),
    "a fault that is no text": (
        says(frame(wire.FAULT, wire.HANDLE.pack(1) * 2 + b"\xff")),
        KILLED + python_says(b"\xff".decode),
    ),
    "a size too long": (
        says(frame(wire.OUT_OF_BOUNDS, bytes(9))),
        KILLED + python_says(lambda: wire.TOKEN.unpack(b"")),
    ),
    "an unknown token": (
        says(frame(wire.RAISED, wire.TOKEN.pack(1))),
        f"{KILLED}it speaks of an exception that no host function raised",
    ),
    "a host call cut off": (
        says(frame(wire.HOST, b"\1")),
        KILLED + python_says(lambda: wire.HANDLE.unpack_from(b"\1")),
    ),
}


@pytest.mark.parametrize("death", DEATHS)
def test_the_whole_message(processes: EnginePool, death: str) -> None:
    steps, cause = DEATHS[death]
    made = instance(processes, dying([["print", "first\nlast words"], *steps]))
    connection = processes.connection(FAKE)
    pid = pid_of(processes)
    began = time.monotonic()
    with pytest.raises(EngineLost) as lost:
        made.exports.f(1, 2)
    assert time.monotonic() - began < 1
    assert str(lost.value) == message(cause, "first\nlast words")
    assert type(lost.value) is EngineLost
    assert connection.lost is lost.value
    assert not lost.value.interrupted
    assert state_of(pid) == ""


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS", "SIGFPE"])
def test_a_crash_leaves_its_traceback(processes: EnginePool, name: str) -> None:
    made = instance(processes, dying([["signal", name]]))
    began = time.monotonic()
    with pytest.raises(EngineLost) as lost:
        made.exports.f(1, 2)
    assert time.monotonic() - began < 1
    pattern = message(f"killed by {name}", "@").replace("    @", "@")
    head, _, tail = pattern.partition("@")
    said = str(lost.value)
    assert said.startswith(head)
    assert said.endswith(tail)
    assert re.match(r"    Fatal Python error: .*\n\s*\n    (Current t|T)hread 0x", said[len(head) :])
    assert re.search(r'\n      File ".*fake_engine\.py", line \d+ in _do_signal\n', said)


def test_half_a_message_and_silence(processes: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "STALL_LIMIT", 0.05)
    made = instance(processes, dying(says(frame(wire.DONE, bytes(4))[:-1])))
    with pytest.raises(EngineLost) as lost:
        made.exports.f(1, 2)
    assert str(lost.value) == message(f"{KILLED}a message stopped in the middle for 0.05 s")


def test_two_answers_to_one_request(processes: EnginePool) -> None:
    """The second cannot be told from the answer to the next request, but by its number."""
    made = instance(processes, dying(says(frame(wire.DONE, b"\7\0\0\0") * 2)))
    assert made.exports.f(1, 2) == 7
    began = time.monotonic()
    with pytest.raises(EngineLost) as lost:
        made.exports.sum(1, 2)
    assert time.monotonic() - began < 10  # it is there already: nothing is waited for
    cause = f"{KILLED}an answer to request 3 instead of 4"
    assert str(lost.value) == message(cause, request="call of 'sum' of m.wasm with (1, 2)")


@pytest.mark.parametrize("length", [0, 3, 5])
def test_another_length_than_was_read(processes: EnginePool, tmp_path: Path, length: int) -> None:
    """Of a memory: the one answer whose length follows from the request alone."""
    (tmp_path / "inexact.py").write_text(
        f"import sys; sys.path.append({HERE_OF_FAKES!r}); from fake_engine import FakeEngine\n"
        f"class Engine(FakeEngine):\n"
        f"    def read(self, memory, offset, length):\n"
        f"        return bytes({length})\n"
    )
    wasm = module(exports={"m": memory(1)})
    made = load(processes, wasm, spec("fake-a", "inexact:Engine", str(tmp_path))).instantiate()
    with pytest.raises(EngineLost) as lost:
        made.memory.read(0, 4)
    assert lost.value.cause.startswith(KILLED)
    assert lost.value.request == "read of 'm' of m.wasm"


def test_killed_from_outside_between_calls(processes: EnginePool) -> None:
    made = instance(processes, dying([["return", 1]]))
    os.kill(pid_of(processes), signal.SIGKILL)
    with pytest.raises(EngineLost) as lost:
        made.exports.f(1, 2)
    assert str(lost.value) == message("killed by SIGKILL")


def test_a_signal_without_a_name(processes: EnginePool) -> None:
    made = instance(processes, dying([["return", 1]]))
    os.kill(pid_of(processes), signal.SIGRTMIN + 2)
    with pytest.raises(EngineLost) as lost:
        made.exports.f(1, 2)
    assert lost.value.cause == f"killed by signal {signal.SIGRTMIN + 2}"


REQUESTS: dict[str, tuple[str, Any]] = {
    "compile of other.wasm": ("compile", lambda pool, made: load(pool, module(), path="other.wasm")),
    "serialize of m.wasm": ("serialize", lambda pool, made: made.module.serialize()),
    "instantiation of m.wasm": ("instantiate", lambda pool, made: made.module.instantiate()),
    "call of 'sum' of m.wasm with (3, -4)": ("call", lambda pool, made: made.exports.sum(3, -4)),
    "call of 'sum' of m.wasm, mapped over 2 tuples": ("map", lambda pool, made: made.exports.sum.map([(1, 2)] * 2)),
}


@pytest.mark.parametrize("request_text", REQUESTS)
def test_the_request_is_named(processes: EnginePool, request_text: str) -> None:
    made = instance(processes, dying([]))
    os.kill(pid_of(processes), signal.SIGKILL)
    with pytest.raises(EngineLost) as lost:
        REQUESTS[request_text][1](processes, made)
    assert str(lost.value) == message("killed by SIGKILL", request=request_text)


def test_only_the_tail_of_the_output(processes: EnginePool) -> None:
    text = "".join(f"line {number}\n" for number in range(100))
    made = instance(processes, dying([["print", text], ["exit", 3]]))
    with pytest.raises(EngineLost) as lost:
        made.exports.f(1, 2)
    assert lost.value.output.splitlines() == [f"line {number}" for number in range(70, 100)]
    assert outputs(processes) == {"fake-a": text}


# Afterwards


def test_later_use(processes: EnginePool) -> None:
    made = instance(processes, dying([["exit", 3]]))
    kept = made.exports.sum
    assert kept(1, 2) == 3
    with pytest.raises(EngineLost):
        made.exports.f(1, 2)
    with pytest.raises(InstanceLost) as gone:
        kept(1, 2)
    assert str(gone.value) == (
        "call of 'sum' of m.wasm is gone: its fake-a engine process was lost earlier (exit status 3)\n"
        "Make it in the test, or in a fixture that uses wasm_instance, wasm_module or wasm_all: those are made anew."
    )
    with pytest.raises(InstanceLost, match=r"^function 'sum' of m\.wasm is gone: .* \(exit status 3\)"):
        kept.map([(1, 2)])


def test_a_new_process_and_modules_load_again(processes: EnginePool) -> None:
    loaded = load(processes, dying([["exit", 3]]))
    first = pid_of(processes)
    with pytest.raises(EngineLost) as lost:
        loaded.instantiate().exports.f(1, 2)
    assert loaded.instantiate().exports.sum(1, 2) == 3
    assert pid_of(processes) != first
    assert loaded.serialize().startswith(b"fake artifact of fake-a")
    assert losses(processes) == [lost.value]
    assert losses(processes) == []


def test_what_several_processes_left(processes: EnginePool) -> None:
    loaded = load(processes, dying([["print", "one "], ["exit", 3]]))
    causes = []
    for _ in range(3):
        with pytest.raises(EngineLost) as lost:
            loaded.instantiate().exports.f(1, 2)
        causes.append(lost.value)
    assert processes.take() == ({"fake-a": "one one one "}, causes)
    assert processes.take() == ({}, [])


def test_the_other_backends_live_on(processes: EnginePool) -> None:
    other = load(processes, dying([["exit", 3]]), FAKES[1]).instantiate()
    made = instance(processes, dying([["exit", 3]]))
    with pytest.raises(EngineLost):
        made.exports.f(1, 2)
    assert other.exports.sum(1, 2) == 3


# In a host call

HOSTING = module(
    imports=[("env", "h", ["func", [], []])],
    exports={"f": function("->", [["host"]]), "die": function("->", [["exit", 3]])},
)
DIED = message("exit status 3", request="call of 'die' of m.wasm with ()")


def test_death_in_a_nested_call(processes: EnginePool) -> None:
    made = instance(processes, HOSTING, h=lambda: made.exports.die())
    with pytest.raises(EngineLost) as lost:
        made.exports.f()
    assert str(lost.value) == DIED
    assert load(processes, HOSTING).instantiate({"env": {"h": lambda: None}}).exports.f() is None


def test_a_host_function_cannot_hide_a_death(processes: EnginePool) -> None:
    seen = []

    def host() -> None:
        for _ in range(2):
            try:
                made.exports.die()
            except EngineLost as error:
                seen.append(type(error))

    made = instance(processes, HOSTING, h=host)
    with pytest.raises(EngineLost) as lost:
        made.exports.f()
    assert str(lost.value) == DIED
    assert seen == [EngineLost, InstanceLost]


def test_killed_while_a_host_function_runs(processes: EnginePool) -> None:
    made = instance(processes, HOSTING, h=lambda: os.kill(pid_of(processes), signal.SIGKILL))
    with pytest.raises(EngineLost) as lost:
        made.exports.f()
    assert str(lost.value) == message("killed by SIGKILL", request="call of 'f' of m.wasm with ()")


def test_killed_while_a_host_function_runs_that_raises(processes: EnginePool) -> None:
    """What the host function raises cannot travel through Wasm frames that are gone: the death is what counts."""

    def host() -> None:
        os.kill(pid_of(processes), signal.SIGKILL)
        raise LookupError("too late")

    with pytest.raises(EngineLost):
        instance(processes, HOSTING, h=host).exports.f()


# At the start


def spec(argument: str, reference: str = "fake_engine:FakeEngine", path: str = HERE_OF_FAKES) -> BackendSpec:
    return BackendSpec("fake-a", reference, argument, import_path=path)


def test_a_library_that_cannot_be_loaded(processes: EnginePool) -> None:
    with pytest.raises(EngineLost) as lost:
        begin(processes, spec("broken"))
    lines = str(lost.value).splitlines()
    assert lines[:3] == message("exit status 70", "@", "nothing yet: it was starting").splitlines()[:3]
    assert lines[3] == "    Traceback (most recent call last):"
    assert lines[-2:] == [
        "    ImportError: this fake library cannot be loaded",
        "The next test gets a new process. This backend alone: pytest --wasm-backends=fake-a",
    ]
    assert losses(processes) == [lost.value]


def test_a_library_that_kills_its_process(processes: EnginePool) -> None:
    with pytest.raises(EngineLost) as lost:
        begin(processes, spec("suicidal"))
    assert str(lost.value) == message("killed by SIGKILL", request="nothing yet: it was starting")


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (frame(wire.DONE, b"", 0), "it did not say hello"),
        (frame(wire.HELLO, b"", 1), "it did not say hello"),
        (frame(wire.HELLO, b"x", 0), "it did not say hello"),
        (b"\xff" * 9, f"a message of 4294967295 bytes is announced; the limit is {wire.BODY_LIMIT}"),
    ],
    ids=["another message", "another number", "a hello that says more", "garbage"],
)
def test_a_library_that_writes_to_the_pipe(processes: EnginePool, tmp_path: Path, data: bytes, cause: str) -> None:
    """The pipe is moved away from 1, but native code may write to any descriptor."""
    (tmp_path / "loud.py").write_text(
        f"import os, time\n"
        f"for descriptor in range(3, 32):\n"
        f"    try:\n"
        f"        os.write(descriptor, {data!r})\n"
        f"    except OSError:\n"
        f"        pass\n"
        f"time.sleep(60)\n"
    )
    with pytest.raises(EngineLost) as lost:
        begin(processes, spec("fake-a", "loud:Engine", str(tmp_path)))
    assert lost.value.cause == KILLED + cause
    assert lost.value.request == "nothing yet: it was starting"


def test_an_interpreter_that_is_not_there(processes: EnginePool) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/python"):
        processes.connection(FAKE._replace(python="/no/such/python"))


def test_a_start_that_failed_does_not_stay(processes: EnginePool) -> None:
    for _ in range(2):
        with pytest.raises(EngineLost):
            begin(processes, spec("broken"))
    assert instance(processes, dying([])).exports.sum(1, 2) == 3


# The process lives


def test_a_panic(processes: EnginePool) -> None:
    made = instance(processes, dying([["panic", "assertion failed: x"]]))
    pid = pid_of(processes)
    with pytest.raises(EngineFault) as fault:
        made.exports.f(1, 2)
    assert str(fault.value) == "the fake-a engine panicked in 'f' of m.wasm: assertion failed: x"
    assert made.exports.sum(1, 2) == 3
    assert pid_of(processes) == pid
    assert losses(processes) == []


def test_a_bug_of_the_adapter(processes: EnginePool) -> None:
    made = instance(processes, dying([["fail", "oh no"]]))
    pid = pid_of(processes)
    with pytest.raises(EngineFault) as fault:
        made.exports.f(1, 2)
    said = str(fault.value)
    assert said.startswith(
        "the fake-a engine failed: ValueError: oh no\nIn the engine process:\nTraceback (most recent call last):\n"
    )
    assert re.search(r'File ".*fake_engine\.py", line \d+, in _do_fail\n', said)
    assert said.rstrip().endswith("ValueError: oh no")
    assert made.exports.sum(1, 2) == 3
    assert pid_of(processes) == pid


def test_a_death_is_noticed_before_the_next_request_only(processes: EnginePool) -> None:
    """Nobody polls: a process that dies between requests is replaced when it is next asked."""
    loaded = load(processes, dying([]))
    pid = pid_of(processes)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: state_of(pid) == "Z")
    assert processes.connection(FAKE).lost is None
    with pytest.raises(EngineLost):
        loaded.instantiate()
    assert loaded.instantiate().exports.sum(1, 2) == 3
