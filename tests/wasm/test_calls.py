"""Calls of exported functions: their types, and what is refused before anything reaches the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime.errors import EngineFault, WrongThread
from pytest_wasmer.wasm.types import FunctionType
from tests import fake_engine
from tests.fake_engine import function
from tests.threads import in_thread
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.function import Function

ADD = fake_engine.module(
    {
        "add": function("i32 i32 -> i32", ["sum"]),
        "one": function("f32 -> ", [["return"]]),
        "none": function(" -> ", [["return"]]),
        "long": function("i64 -> i64", [["return", -5]]),
        "panics": function(" -> ", [["panic", "index out of range"]]),
        "fails": function(" -> ", [["fail", "a bug of the adapter"]]),
    }
)
REFERENCES = """
(module
  (func (export "take") (param funcref externref i32) (result i32) local.get 2)
  (func (export "give") (result externref) ref.null extern))
"""


@pytest.fixture
def add(fake: Connection) -> Function:
    found: Function = make(fake, ADD).exports.add
    return found


def test_a_function_knows_its_name_and_type(add: Function) -> None:
    assert add.name == "add"
    assert add.type == FunctionType(("i32", "i32"), ("i32",))
    assert str(add.type) == "(i32, i32) -> (i32)"
    assert repr(add) == "<Function 'add' (i32, i32) -> (i32)>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "add(i32, i32) -> (i32) takes 2 arguments, 0 were given"),
        ((1,), "add(i32, i32) -> (i32) takes 2 arguments, 1 was given"),
        ((1, 2, 3), "add(i32, i32) -> (i32) takes 2 arguments, 3 were given"),
        ((1, "2"), "argument 2 (i32) of add(i32, i32) -> (i32) must be an int, not '2' (str)"),
        ((1.0, 2), "argument 1 (i32) of add(i32, i32) -> (i32) must be an int, not 1.0 (float)"),
    ],
    ids=["none", "too-few", "too-many", "str", "float"],
)
def test_wrong_arguments_are_type_errors(add: Function, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(TypeError) as refused:
        add(*arguments)
    assert str(refused.value) == message
    assert add(1, 2) == 3


def test_other_counts_read_well(fake: Connection) -> None:
    exports = make(fake, ADD).exports
    with pytest.raises(TypeError) as refused:
        exports.one()
    assert str(refused.value) == "one(f32) -> () takes 1 argument, 0 were given"
    with pytest.raises(TypeError) as refused:
        exports.none(1)
    assert str(refused.value) == "none() -> () takes 0 arguments, 1 was given"


def test_keywords_are_refused_by_name(add: Function) -> None:
    with pytest.raises(TypeError) as refused:
        add(1, b=2, c=3)
    assert str(refused.value) == "add(i32, i32) -> (i32) takes no keyword arguments: b, c"
    with pytest.raises(TypeError) as refused:
        add(1, 2, carry=True)
    assert str(refused.value) == "add(i32, i32) -> (i32) takes no keyword arguments: carry"


@pytest.mark.parametrize("value", [2**32, -(2**31) - 1])
def test_integers_out_of_range_are_overflow_errors(add: Function, value: int) -> None:
    with pytest.raises(OverflowError) as refused:
        add(0, value)
    assert str(refused.value) == (
        f"argument 2 (i32) of add(i32, i32) -> (i32) must be in -2147483648 .. 4294967295, not {value}"
    )


def test_a_float_too_large_for_f32_is_an_overflow_error(fake: Connection) -> None:
    one = make(fake, ADD).exports.one
    with pytest.raises(OverflowError) as refused:
        one(1e39)
    assert str(refused.value) == "argument 1 (f32) of one(f32) -> () must fit an f32, not 1e+39 (float)"
    assert one(3e38) is None


def test_the_engine_sees_the_same_on_real_compilers(native: Connection) -> None:
    wat = '(module (func (export "f") (param i32 f32) (result i32) local.get 0))'
    f = make(native, wat).exports.f
    for arguments in ((), (1,), (1, 2, 3), ("1", 2)):
        with pytest.raises(TypeError):
            f(*arguments)
    for wrong in ((2**32, 0), (0, 1e39)):
        with pytest.raises(OverflowError):
            f(*wrong)
    assert f(7, 1) == 7


@pytest.mark.parametrize("call", [lambda f: f(1, 2, 3), lambda f: f.map([(1, 2, 3)])], ids=["call", "map"])
def test_references_cannot_cross(native: Connection, call: Callable[[Function], object]) -> None:
    exports = make(native, REFERENCES).exports
    with pytest.raises(TypeError) as refused:
        call(exports.take)
    assert str(refused.value) == (
        "take(funcref, externref, i32) -> (i32) cannot be called from Python: the engine does not pass externref "
        "and funcref\n"
        "Call it from Wasm: export a function that wraps it."
    )
    with pytest.raises(TypeError, match="does not pass externref\n"):
        exports.give()


def test_a_panic_is_an_engine_fault(fake: Connection) -> None:
    exports = make(fake, ADD).exports
    for call in (exports.panics, lambda: exports.panics.map([()])):
        with pytest.raises(EngineFault) as fault:
            call()
        assert str(fault.value) == "the fake-a engine panicked in 'panics' of m.wat: index out of range"
    assert exports.add(1, 2) == 3


def test_a_bug_of_the_adapter_is_an_engine_fault(fake: Connection) -> None:
    exports = make(fake, ADD).exports
    with pytest.raises(EngineFault, match=r"the fake-a engine failed: ValueError: a bug of the adapter"):
        exports.fails()
    assert exports.add(1, 2) == 3


def test_another_thread_is_refused(fake: Connection) -> None:
    instance = make(fake, fake_engine.module({"add": function("i32 i32 -> i32", ["sum"])}), path="calc.wasm")
    add = instance.exports.add
    for use in (lambda: add(1, 2), lambda: add.map([(1, 2)]), lambda: add(1)):
        error = in_thread(use)
        assert type(error) is WrongThread
        assert str(error) == (
            "function 'add' of calc.wasm belongs to thread 'MainThread', used in 'other'\nMake one instance per thread."
        )
    assert add(1, 2) == 3


def test_another_thread_is_refused_memories_globals_and_tables(native: Connection) -> None:
    wat = (
        '(module (memory (export "m") 1) (global (export "g") (mut i32) (i32.const 5)) (table (export "t") 1 funcref))'
    )
    exports = make(native, wat).exports
    memory, variable, table = exports.m, exports.g, exports.t
    uses = [
        *[lambda: memory.size, lambda: memory.read(0, 1), lambda: memory.write(0, b"x"), lambda: memory.grow(1)],
        *[lambda: variable.value, lambda: setattr(variable, "value", 6), lambda: table.size],
    ]
    assert [type(in_thread(use)) for use in uses] == [WrongThread] * len(uses)
    assert (memory.size, memory[0], variable.value, table.size) == (65536, 0, 5, 1)


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
def test_each_thread_may_have_its_own_instance(native: Connection) -> None:
    wat = '(module (func (export "f") (result i32) i32.const 42))'
    module = load(native, wat)
    found: list[int] = []
    assert in_thread(lambda: found.append(module.instantiate().exports.f())) is None
    assert found == [42]


@pytest.mark.parametrize("isolation", ["none"], indirect=True)
def test_without_isolation_the_engine_belongs_to_one_thread(fake: Connection) -> None:
    module = load(fake, ADD)
    error = in_thread(module.instantiate)
    assert type(error) is WrongThread
    assert str(error) == (
        "with --wasm-isolation=none the fake-a engine belongs to the thread that used it first\n"
        "Call it from there, or use --wasm-isolation=process."
    )
