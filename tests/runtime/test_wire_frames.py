"""Frames: whole messages over a stream of bytes that comes in pieces, stops, ends, or claims too much."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime import wire

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pipe:
    def __init__(self) -> None:
        self.incoming, self.outgoing = os.pipe()
        self.impatient = wire.Frames(self.incoming, self.outgoing, patient=False)
        self.patient = wire.Frames(self.incoming, self.outgoing, patient=True)

    def send(self, data: bytes) -> None:
        os.write(self.outgoing, data)

    def hang_up(self) -> None:
        os.close(self.outgoing)
        self.outgoing = -1

    def stop_listening(self) -> None:
        os.close(self.incoming)
        self.incoming = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for descriptor in (made.incoming, made.outgoing):
        if descriptor >= 0:
            os.close(descriptor)


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256))], ids=len)
@pytest.mark.parametrize("sequence", [0, 1, 0xFFFFFFFF])
def test_a_frame_comes_back(pipe: Pipe, body: bytes, sequence: int) -> None:
    pipe.impatient.write(wire.DONE, sequence, body)
    assert pipe.impatient.read() == (wire.DONE, sequence, body)


def test_frames_that_arrive_together(pipe: Pipe) -> None:
    pipe.impatient.write(2, 1, b"one")
    pipe.impatient.write(3, 2, b"")
    pipe.send(wire.HEADER.pack(5, 4, 3) + b"th")
    assert pipe.impatient.read() == (2, 1, b"one")
    assert pipe.impatient.read() == (3, 2, b"")
    pipe.send(b"ree")
    assert pipe.impatient.read() == (4, 3, b"three")


def test_frames_before_the_own_one(pipe: Pipe) -> None:
    pipe.impatient.write(2, 1, b"one", wire.HEADER.pack(4, 9, 0) + b"zero")
    assert pipe.impatient.read() == (9, 0, b"zero")
    assert pipe.impatient.read() == (2, 1, b"one")


@pytest.mark.parametrize("patient", [True, False])
def test_byte_by_byte(pipe: Pipe, patient: bool) -> None:
    frame = wire.HEADER.pack(3, wire.DONE, 7) + b"abc"

    def trickle() -> None:
        for place in range(len(frame)):
            pipe.send(frame[place : place + 1])
            time.sleep(0.001)

    thread = threading.Thread(target=trickle)
    thread.start()
    assert (pipe.patient if patient else pipe.impatient).read() == (wire.DONE, 7, b"abc")
    thread.join()


def test_a_large_body_is_written_and_read_in_parts(pipe: Pipe) -> None:
    """A pipe takes 64 KiB at once."""
    body = bytes(range(256)) * (3 << 12)
    frames = []
    thread = threading.Thread(target=lambda: frames.append(pipe.impatient.read()))
    thread.start()
    pipe.impatient.write(wire.DONE, 1, body)
    thread.join()
    assert frames == [(wire.DONE, 1, body)]


def test_the_end(pipe: Pipe) -> None:
    pipe.impatient.write(2, 1, b"last")
    pipe.hang_up()
    assert pipe.impatient.read() == (2, 1, b"last")
    with pytest.raises(wire.Closed):
        pipe.impatient.read()


@pytest.mark.parametrize("part", [b"\x05", wire.HEADER.pack(5, 2, 1), wire.HEADER.pack(5, 2, 1) + b"four"])
@pytest.mark.parametrize("patient", [True, False])
def test_the_end_in_the_middle(pipe: Pipe, part: bytes, patient: bool) -> None:
    pipe.send(part)
    pipe.hang_up()
    with pytest.raises(wire.Closed):
        (pipe.patient if patient else pipe.impatient).read()


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_nobody_listens(pipe: Pipe, size: int) -> None:
    pipe.stop_listening()
    with pytest.raises(wire.Closed):
        pipe.impatient.write(wire.DONE, 1, bytes(size))


@pytest.mark.parametrize("part", [b"\x05", wire.HEADER.pack(5, 2, 1), wire.HEADER.pack(5, 2, 1) + b"four"])
def test_silence_in_the_middle(pipe: Pipe, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "STALL_LIMIT", 0.05)
    pipe.send(part)
    began = time.monotonic()
    with pytest.raises(wire.Nonsense, match=r"^a message stopped in the middle for 0\.05 s$"):
        pipe.impatient.read()
    assert 0.04 < time.monotonic() - began < 1


def test_silence_before_a_message_is_no_stall(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may take as long as it takes."""
    monkeypatch.setattr(wire, "STALL_LIMIT", 0.01)
    timer = threading.Timer(0.1, pipe.impatient.write, (wire.DONE, 1, b""))
    timer.start()
    assert pipe.impatient.read() == (wire.DONE, 1, b"")
    timer.join()


def test_the_patient_side_waits(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine process, for a test process that is stopped in a debugger or by Ctrl-Z."""
    monkeypatch.setattr(wire, "STALL_LIMIT", 0.01)
    pipe.send(wire.HEADER.pack(1, wire.DONE, 1))
    timer = threading.Timer(0.1, pipe.send, (b"x",))
    timer.start()
    assert pipe.patient.read() == (wire.DONE, 1, b"x")
    timer.join()


@pytest.mark.parametrize("claim", [wire.BODY_LIMIT + 1, 1 << 31, 0xFFFFFFFF])
def test_a_claim_over_the_limit(pipe: Pipe, claim: int) -> None:
    pipe.send(wire.HEADER.pack(claim, wire.DONE, 1))
    with pytest.raises(
        wire.Nonsense, match=f"^a message of {claim} bytes is announced; the limit is {wire.BODY_LIMIT}$"
    ):
        pipe.impatient.read()


def test_a_claim_is_not_allocated(pipe: Pipe) -> None:
    """Up to the limit, what arrives is read; what is announced is not made room for."""
    pipe.send(wire.HEADER.pack(wire.BODY_LIMIT, wire.DONE, 1) + bytes(1000))
    pipe.hang_up()
    tracemalloc.start()
    try:
        with pytest.raises(wire.Closed):
            pipe.impatient.read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_descriptors_of_any_number(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    """`select` knows the first 1024 only; a test process may have more files open."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"no more than {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    fcntl = pytest.importorskip("fcntl")
    high = fcntl.fcntl(pipe.incoming, fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        monkeypatch.setattr(wire, "STALL_LIMIT", 0.05)
        pipe.send(wire.HEADER.pack(1, wire.DONE, 1))
        timer = threading.Timer(0.01, pipe.send, (b"x",))
        timer.start()
        assert wire.Frames(high, -1, patient=False).read() == (wire.DONE, 1, b"x")
        timer.join()
    finally:
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Looks:
    """In the place of `poll`: counts how often somebody looks."""

    def __init__(self, *, arrives: bool) -> None:
        self.count = 0
        self._found = [(0, 1)] if arrives else []

    def __call__(self, milliseconds: float) -> list[tuple[int, int]]:
        assert milliseconds == 0, "nobody sleeps here"
        self.count += 1
        return self._found

    def of(self, linger: wire.Linger, times: int) -> int:
        """How many there are while somebody lingers that often."""
        before = self.count
        for _ in range(times):
            linger()
        return self.count - before


def test_lingering_ends_when_something_arrives_and_takes_nothing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "cores", lambda: 2)
    frames = wire.Frames(pipe.impatient.incoming, pipe.impatient.outgoing, patient=False)
    frames.write(wire.DONE, 1, b"body")
    began = time.perf_counter()
    frames.linger()
    frames.linger_awake()
    assert time.perf_counter() - began < 1
    assert frames.read() == (wire.DONE, 1, b"body")
    looks = Looks(arrives=True)
    assert looks.of(wire.Linger(looks, 10), 100) == 100


def test_lingering_in_vain_is_rare() -> None:
    looks = Looks(arrives=False)
    linger = wire.Linger(looks, 10)
    assert looks.of(linger, 1) == 10
    assert looks.of(linger, wire.PAUSE) == 0
    assert looks.of(linger, 1) == 10


def test_the_two_ways_to_linger_know_nothing_of_each_other(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last call of a test is followed by none for a while, each time."""
    monkeypatch.setattr(wire, "cores", lambda: 2)
    looks = Looks(arrives=False)
    monkeypatch.setattr(wire, "poll_of", lambda incoming: looks)
    frames = wire.Frames(pipe.impatient.incoming, -1, patient=False)
    assert [looks.of(frames.linger, 2), looks.of(frames.linger_awake, 2)] == [wire.LOOKS, wire.LOOKS_AWAKE]


def test_nobody_lingers_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    looks = Looks(arrives=False)
    monkeypatch.setattr(wire, "poll_of", lambda incoming: looks)
    frames = wire.Frames(0, 1, patient=False)
    assert looks.of(frames.linger, 100) + looks.of(frames.linger_awake, 100) == 0


def test_what_stirs(pipe: Pipe) -> None:
    assert not pipe.impatient.stirs()
    pipe.send(b"x")
    assert pipe.impatient.stirs()
    reading, writing = os.pipe()
    frames = wire.Frames(reading, -1, patient=False)
    assert not frames.stirs()
    os.close(writing)
    assert frames.stirs()
    os.close(reading)
