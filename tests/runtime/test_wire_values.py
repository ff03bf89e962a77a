"""Values on the wire: what goes in comes out, for every signature."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_wasmer.engines.api import Trapped
from pytest_wasmer.runtime import wire

if TYPE_CHECKING:
    from pytest_wasmer.engines.api import Values

settings_of_all = settings(max_examples=60, deadline=None, derandomize=True, database=None)

RANGES = {
    "i32": st.integers(-(2**31), 2**31 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "f32": st.integers(0, 2**32 - 1),
    "f64": st.integers(0, 2**64 - 1),
    "v128": st.integers(0, 2**128 - 1),
}
EDGES = {
    "i32": (-(2**31), -1, 0, 1, 2**31 - 1),
    "i64": (-(2**63), -1, 0, 1, 2**63 - 1),
    # 0, -0, infinity, a quiet and a signalling NaN, a denormal
    "f32": (0, 0x80000000, 0x7F800000, 0x7FC00001, 0x7F800001, 1),
    "f64": (0, 1 << 63, 0x7FF0000000000000, 0x7FF8000000000001, 0x7FF0000000000001, 1),
    "v128": (0, 1, 2**64, 2**127, 2**128 - 1),
}
SIZES = {"i32": 4, "i64": 8, "f32": 4, "f64": 8, "v128": 16}

signatures = st.lists(st.sampled_from(sorted(RANGES)), max_size=6).map(tuple)


def rows_of(types: tuple[str, ...], maximum: int = 6) -> st.SearchStrategy[list[Values]]:
    return st.lists(st.tuples(*[RANGES[name] for name in types]), max_size=maximum)


typed_rows = signatures.flatmap(lambda types: st.tuples(st.just(types), rows_of(types)))
trap = st.builds(Trapped, st.text(max_size=20), st.text(max_size=50))
typed_outcomes = signatures.flatmap(
    lambda types: st.tuples(st.just(types), st.lists(st.tuples(*[RANGES[name] for name in types]) | trap, max_size=8))
)


def seen(outcomes: list[Values | Trapped]) -> list[object]:
    return [item.args if isinstance(item, Trapped) else item for item in outcomes]


@pytest.mark.parametrize("name", RANGES)
def test_edges_of_each_type(name: str) -> None:
    codec = wire.ValuesCodec((name,))
    assert codec.size == SIZES[name]
    for value in EDGES[name]:
        assert codec.unpack(codec.pack((value,))) == (value,)
    rows = [(value,) for value in EDGES[name]]
    assert codec.unpack_rows(codec.pack_rows(rows), len(rows)) == rows


@given(typed_rows)
@settings_of_all
def test_rows_come_back(case: tuple[tuple[str, ...], list[Values]]) -> None:
    types, rows = case
    codec = wire.ValuesCodec(types)
    body = codec.pack_rows(rows)
    assert len(body) == len(rows) * sum(SIZES[name] for name in types)
    assert codec.unpack_rows(body, len(rows)) == rows
    assert [codec.unpack(codec.pack(row)) for row in rows] == rows
    assert body == b"".join(map(codec.pack, rows))


@given(typed_outcomes)
@settings_of_all
def test_outcomes_come_back_in_order(case: tuple[tuple[str, ...], list[Values | Trapped]]) -> None:
    types, outcomes = case
    codec = wire.ValuesCodec(types)
    assert seen(wire.unpack_outcomes(wire.pack_outcomes(outcomes, codec), codec, len(outcomes))) == seen(outcomes)


@pytest.mark.parametrize(
    "trapped", [(0,), (2,), (4,), (0, 4), (0, 1, 2, 3, 4), (1, 3), ()], ids=lambda places: f"traps{places}"
)
@pytest.mark.parametrize("types", [(), ("i32",), ("i64", "f32"), ("v128", "i32")], ids="".join)
def test_places_of_traps(trapped: tuple[int, ...], types: tuple[str, ...]) -> None:
    codec = wire.ValuesCodec(types)
    row = tuple([7] * len(types))
    outcomes: list[Values | Trapped] = [Trapped("UNREACHABLE", f"at {i}") if i in trapped else row for i in range(5)]
    assert seen(wire.unpack_outcomes(wire.pack_outcomes(outcomes, codec), codec, 5)) == seen(outcomes)


@pytest.mark.parametrize("types", [("i32",), ("i64", "i64"), ("i32", "f64"), ("v128",), ()], ids="".join)
def test_many_rows(types: tuple[str, ...]) -> None:
    codec = wire.ValuesCodec(types)
    rows = [tuple([number] * len(types)) for number in range(20_000)]
    assert codec.unpack_rows(codec.pack_rows(rows), len(rows)) == rows


@pytest.mark.parametrize("types", [("i32",), ("i64", "i64"), ("i32", "f64"), ("v128",), ()], ids="".join)
@pytest.mark.parametrize("surplus", [b"", b"\0", bytes(100)], ids=["short", "one more", "many more"])
def test_bytes_of_another_length_are_refused(types: tuple[str, ...], surplus: bytes) -> None:
    codec = wire.ValuesCodec(types)
    body = bytes(codec.size) + surplus if surplus else bytes(codec.size)[1:]
    if not types and not surplus:
        pytest.skip("nothing is shorter than nothing")
    with pytest.raises(struct.error):
        codec.unpack(body)
    with pytest.raises(wire.Nonsense, match=f"{len(body)} bytes for 1 rows of {codec.size}"):
        codec.unpack_rows(body, 1)


@pytest.mark.parametrize("told", [0, 2, 4])
def test_outcomes_of_another_count_are_refused(told: int) -> None:
    codec = wire.ValuesCodec(("i32",))
    body = wire.pack_outcomes([(1,), Trapped("UNREACHABLE", ""), (2,)], codec)
    with pytest.raises(wire.Nonsense, match=f"3 outcomes of {told} calls"):
        wire.unpack_outcomes(body, codec, told)


@pytest.mark.parametrize("place", ["3", "-1", "99", str(2**70), "x", ""])
def test_a_trap_in_no_place_is_refused(place: str) -> None:
    """Three calls have the places 0 to 2."""
    codec = wire.ValuesCodec(("i32",))
    body = wire.HANDLE.pack(2) + codec.pack_rows([(1,), (2,)]) + wire.pack_texts(place, "UNREACHABLE", "")
    with pytest.raises((wire.Nonsense, ValueError)):
        wire.unpack_outcomes(body, codec, 3)


def test_no_rows_of_no_size_are_made_from_a_claim() -> None:
    """Rows of functions without results have no size: their number is not to be believed."""
    codec = wire.ValuesCodec(())
    with pytest.raises(wire.Nonsense, match="4294967295 outcomes of 1 calls"):
        wire.unpack_outcomes(wire.HANDLE.pack(0xFFFFFFFF) + wire.pack_texts(), codec, 1)


def test_codecs_are_made_once_per_signature() -> None:
    codecs: dict[tuple[str, ...], wire.ValuesCodec] = {}
    assert wire.codec_of(("i32",), codecs) is wire.codec_of(("i32",), codecs)
    assert list(codecs) == [("i32",)]
