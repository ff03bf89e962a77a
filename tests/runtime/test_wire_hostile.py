"""Whatever an engine process sends, the test process gets a value or one of `pipe.NONSENSE`, soon, in little room."""

from __future__ import annotations

import os
import struct
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_wasmer.engines.api import Trapped
from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.pipe import NONSENSE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Decoder = Callable[[bytes], Any]

hostile = settings(max_examples=12, deadline=None, derandomize=True, database=None)

SIGNATURES = [(), ("i32",), ("i64", "f32"), ("v128", "i32"), ("f64",) * 3]
DESCRIPTION = (
    "name",
    [("env", "f", ("func", ("i32",), ("i64",))), ("env", "m", ("memory", 1, None))],
    [("g", ("global", "i32", True)), ("t", ("table", "funcref", 1, 2)), ("f", ("func", (), ()))],
)
# A sample of what each really sends; mutations of it go deeper into the decoders than random bytes.
SAMPLES: dict[str, Any] = {
    "convert": b"\0asm", "compile": (1, DESCRIPTION), "load": (1, 0.5, wire.pack_description(DESCRIPTION)),
    "store": (1, 0.5, "", DESCRIPTION), "reload": (1, 0.5, "full", DESCRIPTION), "serialize": b"artifact",
    "deserialize": (1, DESCRIPTION), "custom_sections": [b"one", b""], "instantiate": 7, "make_memory": 1,
    "read": b"bytes", "write": None, "digest": b"digest", "memory_pages": 3, "grow": 3, "make_global": 1,
    "get_global": -1, "set_global": None, "table_size": 5, "release": None, "watch": None,
    "states": ["0:table:1", ""],
}  # fmt: skip


def outcomes_of(types: tuple[str, ...]) -> Decoder:
    return lambda body: wire.unpack_outcomes(body, wire.ValuesCodec(types), 3)


def frame_of(data: bytes) -> object:
    """What a parent makes of these bytes and the end of the stream."""
    incoming, outgoing = os.pipe()
    try:
        os.write(outgoing, data)
        os.close(outgoing)
        return wire.Frames(incoming, -1, patient=False).read()
    except wire.Closed:
        return None
    finally:
        os.close(incoming)


DECODERS: dict[str, tuple[Decoder, bytes]] = {
    **{
        name: (operation.unpack_result, operation.pack_result(SAMPLES[name]))
        for name, operation in wire.OPERATIONS.items()
    },
    **{
        f"values({','.join(types)})": (wire.ValuesCodec(types).unpack, wire.ValuesCodec(types).pack((1,) * len(types)))
        for types in SIGNATURES
    },
    **{
        f"outcomes({','.join(types)})": (
            outcomes_of(types),
            wire.pack_outcomes(
                [(1,) * len(types), Trapped("UNREACHABLE", "text"), (2,) * len(types)], wire.ValuesCodec(types)
            ),
        )
        for types in SIGNATURES
    },
    "texts": (wire.unpack_texts, wire.pack_texts("one", "", "three")),
    "pair": (wire.unpack_pair, wire.pack_texts("one", "two")),
    "token": (wire.TOKEN.unpack, wire.TOKEN.pack(1)),
    "host call": (wire.HANDLE.unpack_from, wire.HANDLE.pack(1)),
    "frame": (frame_of, wire.HEADER.pack(3, wire.DONE, 1) + b"abc"),
}


@st.composite
def mutated(draw: st.DrawFn, sample: bytes) -> bytes:
    """`sample` with some bytes changed, left out, doubled or put in."""
    data = bytearray(sample)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["set", "cut", "insert", "drop", "number"]))
        if change == "cut":
            del data[place:]
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=5))
        elif change == "drop":
            del data[place : place + draw(st.integers(1, 5))]
        elif change == "number":
            data[place : place + 4] = struct.pack("<I", draw(st.sampled_from([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1])))
        elif place < len(data):
            data[place] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.fixture(autouse=True)
def _counting_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def survive(decode: Decoder, data: bytes) -> None:
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with suppress(*NONSENSE):
        decode(data)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < (1 << 20) + 100 * len(data)


@pytest.mark.parametrize("name", DECODERS)
def test_random_bytes(name: str) -> None:
    decode, _ = DECODERS[name]

    @given(st.binary(max_size=200))
    @hostile
    def check(data: bytes) -> None:
        survive(decode, data)

    check()


@pytest.mark.parametrize("name", DECODERS)
def test_mutated_answers(name: str) -> None:
    decode, sample = DECODERS[name]
    decode(sample)

    @given(mutated(sample))
    @hostile
    def check(data: bytes) -> None:
        survive(decode, data)

    check()


# Every text of a description or of an outcome, replaced by what a number or a type could be taken for.
LURES = [
    *["", "-1", "0", "1", "99", str(2**64), str(2**70), "9" * 5000, "1_0", "x", ":", "\ud800"],
    *["func", "func::", "func:::", "memory", "memory::", "memory:-1:", "global", "global:i32", "table:::"],
]


@pytest.mark.parametrize("name", ["compile", "outcomes(i32)", "outcomes()"])
@pytest.mark.parametrize("lure", LURES, ids=ascii)
def test_lures_in_texts(name: str, lure: str) -> None:
    """At the place of each text in turn."""
    decode, sample = DECODERS[name]
    head = 4 if name == "compile" else 4 + 2 * (4 if "i32" in name else 0)
    texts = wire.unpack_texts(sample[head:])
    assert texts
    for place in range(len(texts)):
        survive(decode, sample[:head] + wire.pack_texts(*[*texts[:place], lure, *texts[place + 1 :]]))


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in ("texts", "host call", "frame")])
def test_a_surplus_byte_is_refused(name: str) -> None:
    """Where the length follows from the question; bytes and lists of texts have any length."""
    decode, sample = DECODERS[name]
    if SAMPLES.get(name).__class__ is bytes:
        pytest.skip("an answer of any length")
    with pytest.raises(NONSENSE):
        decode(sample + b"\0")


@pytest.mark.parametrize(
    "text",
    ["func:bogus:", "func::i32,bogus", "func:i32,:", "global:i33:True", "global:i32:Maybe",
     "memory:-1:", "memory:1::", "table:funcref:-1:", "global:i32:True:"],
)  # fmt: skip
def test_a_type_that_no_module_has_is_refused(text: str) -> None:
    """It would fail later, far from here, and not as nonsense."""
    with pytest.raises(NONSENSE):
        wire.type_from(text)
