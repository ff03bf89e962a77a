"""Arguments and results of each operation on the wire: what goes in comes out."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.executor import Executor
from pytest_wasmer.runtime.wire import IS_HANDLE, IS_HOST

property_settings = settings(max_examples=12, deadline=None, derandomize=True, database=None)

handles = st.integers(0, 2**32 - 1)
sizes = st.integers(0, 2**64 - 1)
texts = st.text(max_size=30)
value_types = st.sampled_from(["i32", "i64", "f32", "f64", "v128", "funcref", "externref"])
signature = st.lists(value_types, max_size=4).map(tuple)
pages = st.integers(0, 2**32)
extern_types = st.one_of(
    st.tuples(st.just("func"), signature, signature),
    st.tuples(st.just("memory"), pages, st.none() | pages),
    st.tuples(st.just("global"), value_types, st.booleans()),
    st.tuples(st.just("table"), value_types, pages, st.none() | pages),
)
descriptions = st.tuples(
    texts,
    st.lists(st.tuples(texts, texts, extern_types), max_size=4),
    st.lists(st.tuples(texts, extern_types), max_size=4),
)
blobs = st.binary(max_size=100)
seconds = st.floats(0, 1e6)
global_values = st.integers(-(2**63), 2**128 - 1)

ARGUMENTS: dict[str, list[st.SearchStrategy[Any]]] = {
    "convert": [texts],
    "compile": [blobs],
    "serialize": [handles],
    "instantiate": [handles, st.lists(st.tuples(st.sampled_from([IS_HANDLE, IS_HOST]), handles), max_size=5)],
    "make_memory": [handles, st.none() | pages],
    "read": [handles, sizes, sizes],
    "write": [handles, sizes, blobs],
    "digest": [handles],
    "memory_pages": [handles],
    "grow": [handles, sizes],
    "make_global": [st.sampled_from(["i32", "i64", "f32", "f64", "v128"]), st.booleans(), global_values],
    "get_global": [handles],
    "set_global": [handles, global_values],
    "table_size": [handles],
    "release": [st.lists(handles, max_size=20)],
    "watch": [texts],
    "states": [st.lists(handles, max_size=20)],
    "load": [texts, blobs, blobs],
    "store": [texts, blobs, blobs, blobs],
    "reload": [blobs],
    "deserialize": [blobs],
    "custom_sections": [handles, texts],
}
RESULTS: dict[str, st.SearchStrategy[Any]] = {
    "convert": blobs,
    "compile": st.tuples(handles, descriptions),
    "serialize": blobs,
    "instantiate": handles,
    "make_memory": handles,
    "read": blobs,
    "write": st.none(),
    "digest": blobs,
    "memory_pages": sizes,
    "grow": sizes,
    "make_global": handles,
    "get_global": global_values,
    "set_global": st.none(),
    "table_size": sizes,
    "release": st.none(),
    "watch": st.none(),
    "states": st.lists(texts, max_size=5),
    "load": st.tuples(handles, seconds, descriptions),
    "store": st.tuples(handles, seconds, texts, descriptions),
    "reload": st.tuples(handles, seconds, texts, descriptions),
    "deserialize": st.tuples(handles, descriptions),
    "custom_sections": st.lists(blobs, max_size=4),
}


@pytest.mark.parametrize("name", wire.OPERATIONS)
def test_arguments_come_back(name: str) -> None:
    operation = wire.OPERATIONS[name]

    @given(st.tuples(*ARGUMENTS[name]))
    @property_settings
    def check(arguments: tuple[Any, ...]) -> None:
        assert operation.arguments.unpack(operation.arguments.pack(*arguments)) == arguments

    check()


@pytest.mark.parametrize("name", wire.OPERATIONS)
def test_result_comes_back(name: str) -> None:
    operation = wire.OPERATIONS[name]

    @given(RESULTS[name])
    @property_settings
    def check(result: Any) -> None:
        sent = result
        if name == "load":  # whose description comes from the store as it is
            *others, description = result
            sent = (*others, wire.pack_description(description))
        assert operation.unpack_result(operation.pack_result(sent)) == result

    check()


def test_operations_are_the_executors_methods() -> None:
    """With as many arguments each."""
    own = {"type_of", "caller", "call", "map", "version", "finish"}
    public = {name for name in vars(Executor) if not name.startswith("_")} - own
    assert public == set(wire.OPERATIONS)
    for name in wire.OPERATIONS:
        parameters = list(inspect.signature(getattr(Executor, name)).parameters)[1:]
        assert len(parameters) == len(ARGUMENTS[name]), name


def test_lone_surrogates_travel() -> None:
    """WAT text from Python may hold them; the converter is to refuse them, not the pipe."""
    operation = wire.OPERATIONS["convert"]
    assert operation.arguments.unpack(operation.arguments.pack("(module \ud800)")) == ("(module \ud800)",)
    assert wire.unpack_texts(wire.pack_texts("\ud800", "", "x")) == ["\ud800", "", "x"]


def test_codes_are_distinct() -> None:
    answers = [wire.HELLO, wire.DONE, wire.TRAPPED, wire.REFUSED, wire.OUT_OF_BOUNDS, wire.RAISED, wire.FAULT]
    codes = [*answers, wire.HOST, wire.RETURN, wire.WAKE, wire.CALL, wire.MAP, *wire.BY_CODE]
    assert len(set(codes)) == len(codes) == 10 + 2 + len(wire.OPERATIONS)
    assert all(0 < code < 256 for code in codes)
