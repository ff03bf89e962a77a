"""Calls that are derived from the types of exports."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_wasmer.edges import EDGES, call_text, derived_calls, many_edges
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType
from pytest_wasmer.wasm.values import Converter
from tests.fake_engine import function, module
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

BINARY = FunctionType(("i32", "f64"), ("i64",))


def test_each_function_has_a_sequence_of_its_own_in_the_module_s_order() -> None:
    exports = {"g": BINARY, "memory": MemoryType(1, None), "none": FunctionType((), ()), "f": BINARY}
    sequences = derived_calls(exports)
    assert [{name for name, _ in sequence} for sequence in sequences] == [{"g"}, {"none"}, {"f"}]
    assert [len(sequence) for sequence in sequences] == [8, 2, 8]


def test_a_function_without_parameters_is_called_twice() -> None:
    """The second call sees what the first one left."""
    assert derived_calls({"f": FunctionType((), ("i32",))}) == [[("f", ()), ("f", ())]]


def test_functions_with_references_and_what_is_no_function_are_left_out() -> None:
    exports = {
        "takes": FunctionType(("i32", "externref"), ()),
        "gives": FunctionType((), ("funcref",)),
        "global": GlobalType("i32", True),
    }
    assert derived_calls(exports) == []


def test_the_first_call_is_an_ordinary_one() -> None:
    (sequence,) = derived_calls({"f": FunctionType(("i32", "i64", "f32", "f64", "v128"), ())})
    assert sequence[0] == ("f", (1, 1, 0x3F800000, 0x3FF0000000000000, 1))


def test_arguments_are_edges_of_their_types() -> None:
    types = tuple(EDGES)
    (sequence,) = derived_calls({"f": FunctionType(types, ())}, each=200)
    for position, type_ in enumerate(types):
        assert {values[position] for _, values in sequence} == set(EDGES[type_])


def test_they_depend_on_the_seed_and_the_name_and_nothing_else() -> None:
    one = derived_calls({"f": BINARY, "g": BINARY}, seed=1)
    assert one == derived_calls({"f": BINARY, "g": BINARY}, seed=1)
    assert one[1:] == derived_calls({"g": BINARY}, seed=1)
    assert one != derived_calls({"f": BINARY, "g": BINARY}, seed=2)
    assert [values for _, values in one[0]] != [values for _, values in one[1]]


def test_they_are_the_same_on_every_machine() -> None:
    """Pinned: a divergence that one machine found must be found by all."""
    assert derived_calls({"f": FunctionType(("i32", "i64"), ())}, seed=7, each=4) == [
        [("f", (1, 1)), ("f", (256, -1)), ("f", (65536, 1)), ("f", (255, -1))]
    ]


LIMITS = {"i32": (-(2**31), 2**31), "i64": (-(2**63), 2**63), "f32": (0, 2**32), "f64": (0, 2**64), "v128": (0, 2**128)}


@pytest.mark.parametrize("type_", EDGES)
def test_edges_are_values_of_the_engine_contract(type_: str) -> None:
    lowest, end = LIMITS[type_]
    assert len(set(EDGES[type_])) == len(EDGES[type_])
    assert all(lowest <= value < end for value in EDGES[type_])


def test_floats_have_zeros_of_both_signs_infinities_a_subnormal_and_a_nan() -> None:
    for type_, layout in (("f32", "<If"), ("f64", "<Qd")):
        floats = [str(struct.unpack(layout[0] + layout[2], struct.pack(layout[:2], bits))[0]) for bits in EDGES[type_]]
        assert {"0.0", "-0.0", "inf", "-inf", "nan"} <= set(floats)
        assert 1 in EDGES[type_], "the smallest subnormal"


@pytest.mark.parametrize("isolation", ["process"])
def test_the_text_of_a_call_has_python_s_values(fake: Connection) -> None:
    wasm = module(exports={"f": function("i32 f32 f64 ->", [])})
    exported = cast("Any", make(fake, wasm).exports.f)
    assert call_text(exported, (-1, 0x3F800000, 0x7FF0000000000000)) == "f(-1, 1.0, inf)"


@pytest.mark.parametrize("type_", EDGES)
def test_many_edges_are_values_of_the_engine_contract_the_plain_ones_first(type_: str) -> None:
    lowest, end = LIMITS[type_]
    edges = many_edges(type_, pages=17)
    assert tuple(edges[: len(EDGES[type_])]) == EDGES[type_]
    assert len(set(edges)) == len(edges)
    assert all(lowest <= value < end for value in edges)


def test_many_edges_have_powers_of_two_and_ends_of_pages() -> None:
    assert {1 << 20, (1 << 20) - 1, -(1 << 20), 65533, 2 * 65536 - 4, 17 * 65536 - 1} <= {*many_edges("i32", pages=17)}
    assert {1 << 62, -(2**62), 65536 - 8} <= {*many_edges("i64")}


def test_python_holds_each_of_them() -> None:
    """A signalling f32 NaN it could not; a signalling f64 NaN is among them."""
    for type_ in EDGES:
        converter = Converter([type_], str)
        for bits in many_edges(type_):
            assert converter.to_bits(converter.from_bits((bits,))) == (bits,)
    assert 0x7FF0000000000001 in many_edges("f64")
