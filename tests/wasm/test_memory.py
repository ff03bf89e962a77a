"""Memories: bytes, numbers, slices, and what is outside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.types import MemoryType
from tests import fake_engine
from tests.fake_engine import memory
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.connection import Connection

WAT = '(module (memory (export "memory") 1 3) (data (i32.const 0) "\\01\\02\\03\\ff\\fe"))'
PAGE = 65536


@pytest.fixture(params=["linked", "waiting"])
def small(request: pytest.FixtureRequest, fake: Connection) -> Memory:
    """A page of zeros: an export, or made by the host and not in use yet."""
    if request.param == "waiting":
        waiting = Memory(1, 2)
        waiting.name = "memory"
        return waiting
    return make(fake, fake_engine.module({"memory": memory(1, 2)})).memory


def test_bytes_on_every_compiler(native: Connection) -> None:
    found = make(native, WAT).memory
    assert found.read(0, 5) == found[0:5] == b"\1\2\3\xff\xfe"
    assert (found[3], found[-1], found[-PAGE]) == (255, 0, 1)
    assert (found.read_i8(3), found.read_u8(3), found.read_i16(3), found.read_u16(3)) == (-1, 255, -257, 0xFEFF)
    found.write(PAGE - 3, b"end")
    assert found[-3:] == found.read(PAGE - 3, 3) == b"end"
    assert found[:] == b"\1\2\3\xff\xfe" + bytes(PAGE - 8) + b"end"
    assert (found.size, len(found)) == (PAGE, PAGE)
    assert found.grow(2) == 1
    assert found.size == 3 * PAGE
    assert found[PAGE - 3 : PAGE + 3] == b"end" + bytes(3)
    assert found.grow(0) == 3


def test_megabytes_cross(native: Connection) -> None:
    found = make(native, '(module (memory (export "memory") 64))').memory
    content = bytes(range(256)) * (64 * PAGE // 256)
    found.write(0, content)
    assert found.read(0, found.size) == content


def test_more_bytes_than_one_message_holds(fake: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_wasmer.wasm.memory.TRANSFER", 1000)
    found = make(fake, fake_engine.module({"memory": memory(1)})).memory
    content = bytes(range(256)) * 10
    found.write(7, content)
    assert found.read(7, len(content)) == content
    assert found.read(0, 8) == bytes(7) + b"\0"
    with pytest.raises(IndexError):
        found.write(PAGE - 1500, bytes([1]) * 1501)
    assert found.read(PAGE - 1500, 1500) == bytes(1500), "all of it or nothing"


NUMBERS = [
    *[("u8", 255, b"\xff"), ("i8", -128, b"\x80"), ("u16", 0xABCD, b"\xcd\xab"), ("i16", -2, b"\xfe\xff")],
    *[("u32", 2**32 - 1, b"\xff" * 4), ("i32", -(2**31), b"\0\0\0\x80"), ("u64", 2**63, bytes(7) + b"\x80")],
    *[("i64", -1, b"\xff" * 8), ("f32", 1.5, b"\0\0\xc0?"), ("f64", -0.0, bytes(7) + b"\x80")],
]


@pytest.mark.parametrize(("name", "value", "content"), NUMBERS, ids=[name for name, _, _ in NUMBERS])
def test_numbers_are_little_endian(small: Memory, name: str, value: float, content: bytes) -> None:
    getattr(small, f"write_{name}")(100, value)
    assert small.read(100, len(content)) == content
    found = getattr(small, f"read_{name}")(100)
    assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))
    assert small.read(100 + len(content), 8) == bytes(8)


def test_items_and_slices(small: Memory) -> None:
    small[5] = 7
    small[6:9] = b"abc"
    small[-1] = 9
    small[-3:-1] = bytearray(b"xy")
    assert small[5] == 7
    assert small[4:10] == b"\0\7abc\0"
    assert small[-3:] == b"xy\t"
    assert small[: -PAGE + 6] == bytes(5) + b"\7"
    assert small[9:5] == small[5:5] == small[PAGE:] == b""
    small[3:3] = b""
    assert small.read(PAGE, 0) == b""


def test_kinds_of_bytes(small: Memory) -> None:
    for content in (b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"aXbXcX")[::2]):
        small.write(0, bytes(3))
        small.write(0, content)
        assert small.read(0, 3) == b"abc"


# Outside


def outside(length: int, offset: int) -> str:
    return (
        f"{length} bytes at offset {offset} are outside memory 'memory', which has 65536 bytes (1 pages), "
        "offsets 0 to 65535"
    )


OUTSIDE: list[tuple[str, Callable[[Memory], object], str]] = [
    ("read-end", lambda m: m.read(PAGE - 1, 2), outside(2, PAGE - 1)),
    ("read-nothing", lambda m: m.read(PAGE + 1, 0), outside(0, PAGE + 1)),
    ("read-negative", lambda m: m.read(-1, 1), outside(1, -1)),
    ("read-length", lambda m: m.read(0, -1), outside(-1, 0)),
    ("read-4GiB", lambda m: m.read(2**32, 4), outside(4, 2**32)),
    ("read-2**64", lambda m: m.read(2**64, 4), outside(4, 2**64)),
    ("read-length-2**70", lambda m: m.read(0, 2**70), outside(2**70, 0)),
    ("write-end", lambda m: m.write(PAGE - 1, b"ab"), outside(2, PAGE - 1)),
    ("write-negative", lambda m: m.write(-5, b"ab"), outside(2, -5)),
    ("write-2**64", lambda m: m.write(2**64, b"ab"), outside(2, 2**64)),
    ("item", lambda m: m[PAGE], outside(1, PAGE)),
    ("item-2**64", lambda m: m[2**64], outside(1, 2**64)),
    ("item-negative", lambda m: m[-PAGE - 1], outside(1, -1)),
    ("slice-end", lambda m: m[PAGE - 2 : PAGE + 2], outside(4, PAGE - 2)),
    ("slice-start", lambda m: m[PAGE + 1 :], outside(0, PAGE + 1)),
    ("set-item", lambda m: m.__setitem__(PAGE, 1), outside(1, PAGE)),
    ("set-slice", lambda m: m.__setitem__(slice(PAGE - 1, PAGE + 1), b"ab"), outside(2, PAGE - 1)),
    ("u32", lambda m: m.read_u32(PAGE - 3), outside(4, PAGE - 3)),
    ("write-u64", lambda m: m.write_u64(PAGE - 7, 1), outside(8, PAGE - 7)),
]


@pytest.mark.parametrize(("use", "message"), [case[1:] for case in OUTSIDE], ids=[case[0] for case in OUTSIDE])
def test_outside_is_an_index_error_with_the_bounds(
    small: Memory, use: Callable[[Memory], object], message: str
) -> None:
    with pytest.raises(IndexError) as refused:
        use(small)
    assert str(refused.value) == message
    assert small.read(0, PAGE) == bytes(PAGE)


def test_outside_on_every_compiler(native: Connection) -> None:
    found = make(native, WAT).memory
    for use in (lambda: found.read(PAGE - 1, 2), lambda: found.write(PAGE - 1, b"ab"), lambda: found[PAGE]):
        with pytest.raises(IndexError, match=r"outside memory 'memory', which has 65536 bytes"):
            use()
    assert found.grow(1) == 1
    found.write(PAGE - 1, b"ab")
    assert found[PAGE - 1 : PAGE + 1] == b"ab"


def test_an_empty_memory(fake: Connection) -> None:
    empty = make(fake, fake_engine.module({"memory": memory(0, 1)})).memory
    for found in (empty, Memory(0, 1)):
        assert (found.size, found.read(0, 0), found[:]) == (0, b"", b"")
        with pytest.raises(IndexError) as refused:
            found.read(0, 1)
        assert str(refused.value) == f"1 bytes at offset 0 are outside memory {found.name!r}, which is empty"


# Values that do not fit


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda m: m.write(0, "text"), TypeError, "bytes are written to 'memory', not str"),
        (lambda m: m.write(0, [1, 2]), TypeError, "bytes are written to 'memory', not list"),
        (
            lambda m: m.__setitem__(slice(0, 4), b"abc"),
            ValueError,
            "3 bytes for a slice of 4: a memory's slices do not change size",
        ),
        (lambda m: m[0:8:2], ValueError, "slices of a memory have no step"),
        (lambda m: m.__setitem__(0, 256), ValueError, "bytes must be in range(0, 256)"),
        (lambda m: m.grow(-1), ValueError, "'memory' of m.wat cannot grow by -1 pages: 0 to 65536"),
        (lambda m: m.grow(65537), ValueError, "'memory' of m.wat cannot grow by 65537 pages: 0 to 65536"),
    ],
    ids=["str", "list", "slice", "step", "item", "grow-negative", "grow-huge"],
)
def test_what_does_not_fit(
    fake: Connection, use: Callable[[Memory], object], error: type[Exception], message: str
) -> None:
    found = make(fake, fake_engine.module({"memory": memory(1, 2)})).memory
    with pytest.raises(error) as refused:
        use(found)
    assert str(refused.value) == message
    assert found.read(0, 16) == bytes(16)


def test_a_large_memory_that_nobody_wrote_to_is_not_looked_through(
    fake: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A millisecond per page, and another per page to send."""
    written: list[int] = []
    monkeypatch.setattr(Memory, "write", lambda self, offset, data: written.append(offset))
    untouched = Memory(3)
    assert untouched._waiting is not None
    untouched._waiting[5] = 1  # which only `write` does
    make(fake, fake_engine.module(imports=[("e", "m", ["memory", 3, None])]), {"e": {"m": untouched}})
    assert written == []


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "waiting"])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("u8", 256, OverflowError),
        ("u8", -1, OverflowError),
        ("i16", 2**15, OverflowError),
        ("u32", 2**32, OverflowError),
        ("u64", 2**64, OverflowError),
        ("u64", -1, OverflowError),
        ("i64", 2**63, OverflowError),
        ("f32", 1e39, OverflowError),
        ("f32", 2**200, OverflowError),
        ("f64", 10**400, OverflowError),
        ("u8", "x", TypeError),
        ("u32", 1.5, TypeError),
        ("i64", None, TypeError),
        ("f32", "x", TypeError),
        ("f64", None, TypeError),
    ],
    ids=lambda part: f"{part!r:.20}",
)
def test_numbers_that_do_not_fit(fake: Connection, name: str, value: Any, error: type[Exception], linked: bool) -> None:
    """Python's own words for it differ between versions."""
    found = make(fake, fake_engine.module({"memory": memory(1, 2)})).memory if linked else Memory(1)
    about = "'memory' of m.wat" if linked else "'memory made by the host'"
    with pytest.raises(error) as refused:
        getattr(found, f"write_{name}")(4, value)
    assert f" at offset 4 of {about}" in str(refused.value)
    assert len(str(refused.value)) < 200
    assert found.read(0, 16) == bytes(16)


def test_growing_too_far(native: Connection) -> None:
    found = make(native, WAT).memory
    with pytest.raises(WasmError) as refused:
        found.grow(3)
    assert str(refused.value) == (
        "'memory' of m.wat (memory of 1 to 3 pages) cannot grow by 3 pages: "
        "The memory could not grow: current size 1 pages, requested increase: 3 pages"
    )
    assert found.grow(2) == 1


def test_what_a_memory_says_of_itself(native: Connection) -> None:
    found = make(native, WAT).memory
    assert found.type == MemoryType(1, 3)
    assert repr(found) == "<Memory 'memory' memory of 1 to 3 pages>"
    assert repr(Memory(2)) == "<Memory 'memory made by the host' memory of 2 or more pages>"
    with pytest.raises(TypeError) as refused:
        found(1)
    assert str(refused.value) == "'memory' of m.wat is a memory of 1 to 3 pages, not a function"


def test_a_memory_that_the_engine_cannot_make(fake: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_wasmer.engines.api import Refused

    def refuse(*_: Any) -> int:
        raise Refused("instantiate", "Cannot allocate memory (os error 12)")

    monkeypatch.setattr(fake, "make_memory", refuse)
    with pytest.raises(WasmError) as refused:
        make(fake, fake_engine.module({}, [("e", "m", ["memory", 1, None])]), {"e": {"m": Memory(1)}})
    assert str(refused.value) == (
        "memory of 1 or more pages cannot be made on fake-a: Cannot allocate memory (os error 12)"
    )
