"""Python functions that Wasm imports: how they are typed, called, and what their results must be."""

from __future__ import annotations

import math
import operator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import pytest

import pytest_wasmer
from pytest_wasmer import Caller
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm.errors import LinkError
from pytest_wasmer.wasm.host import takes_caller
from pytest_wasmer.wasm.values import f32_bits, f32_from_bits, f64_bits, f64_from_bits
from tests import fake_engine
from tests.fake_engine import function, memory
from tests.wasm import annotated
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.instance import Instance

BINARY = """
(module
  (import "env" "f" (func $f (param i32 i32) (result i32)))
  (func (export "call") (param i32 i32) (result i32) (call $f (local.get 0) (local.get 1))))
"""
TYPES = """
(module
  (import "env" "i32" (func $i32 (param i32) (result i32)))
  (import "env" "i64" (func $i64 (param i64) (result i64)))
  (import "env" "f32" (func $f32 (param f32) (result f32)))
  (import "env" "f64" (func $f64 (param f64) (result f64)))
  (import "env" "none" (func $none))
  (func (export "i32") (param i32) (result i32) (call $i32 (local.get 0)))
  (func (export "i64") (param i64) (result i64) (call $i64 (local.get 0)))
  (func (export "f32") (param i32) (result i32) (i32.reinterpret_f32 (call $f32 (f32.reinterpret_i32 (local.get 0)))))
  (func (export "f64") (param i64) (result i64) (i64.reinterpret_f64 (call $f64 (f64.reinterpret_i64 (local.get 0)))))
  (func (export "none") (call $none)))
"""
MULTI = """
(module
  (import "env" "swap" (func $swap (param i32 f64) (result f64 i32)))
  (import "env" "vector" (func $vector (param v128) (result v128)))
  (func (export "swap") (param i32 f64) (result f64 i32) (call $swap (local.get 0) (local.get 1)))
  (func (export "vector") (param v128) (result v128) (call $vector (local.get 0))))
"""
CALLER = """
(module
  (import "env" "write" (func $write (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "call") (param i32) (result i32) (call $write (local.get 0))))
"""
# The known miscompile of wasmer 2.1: a float argument of a host function that is called through a table.
INDIRECT = """
(module
  (type $t (func (param f64) (result f64)))
  (import "env" "f" (func $f (type $t)))
  (table funcref (elem $f))
  (func (export "direct") (param f64) (result f64) (call $f (local.get 0)))
  (func (export "indirect") (param f64) (result f64) (call_indirect (type $t) (local.get 0) (i32.const 0))))
"""
# Another one: Singlepass's code reads a float result of a host function from xmm0, where nothing puts it. What it finds
# there depends on what Wasmer did last: often the result, with this many parameters never.
MANY = 30
FLOAT_RESULT = f"""
(module
  (import "env" "f" (func $f (param {"i32 " * MANY}) (result f64)))
  (func (export "call") (result f64) (call $f {"(i32.const 1) " * MANY})))
"""
BAD_FLOAT_RESULTS = ("singlepass",)


def minus(left: int, right: int) -> int:
    return left - right


class Minus:
    def __call__(self, left: int, right: int) -> int:
        return left - right

    def method(self, left: int, right: int) -> int:
        return left - right

    @classmethod
    def of_class(cls, left: int, right: int) -> int:
        return left - right

    @staticmethod
    def static(left: int, right: int) -> int:
        return left - right


CALLABLES: dict[str, Callable[..., int]] = {
    "function": minus,
    "lambda": lambda left, right: left - right,
    "partial": partial(lambda nothing, left, right: left - right, None),
    "builtin": operator.sub,
    "slot": int.__sub__,
    "bound": Minus().method,
    "object": Minus(),
    "class": Minus.of_class,
    "static": Minus.static,
    "star": lambda *values: values[0] - values[1],
    "default": lambda left, right, unused=None: left - right,
}


@pytest.mark.parametrize("host", CALLABLES.values(), ids=list(CALLABLES))
def test_any_callable_is_typed_by_the_import_section(native: Connection, host: Callable[..., int]) -> None:
    call = make(native, BINARY, {"env": {"f": host}}).exports.call
    assert call(5, 3) == 2
    assert call(3, 2**32 - 2) == 5


def test_a_class_is_a_callable_too(native: Connection) -> None:
    wat = '(module (import "e" "f" (func $f (param i64) (result i64))) (func (export "f") (param i64) (result i64) '
    assert make(native, wat + "(call $f (local.get 0))))", {"e": {"f": int}}).exports.f(-7) == -7


def test_values_cross_both_ways_with_their_bits(native: Connection) -> None:
    seen: list[Any] = []

    def same(value: Any) -> Any:
        seen.append(value)
        return value

    exports = make(native, TYPES, {"env": {**dict.fromkeys(["i32", "i64", "f32", "f64"], same), "none": list}}).exports
    assert [exports.i32(value) for value in (-(2**31), -1, 2**31 - 1)] == [-(2**31), -1, 2**31 - 1]
    assert [exports.i64(value) for value in (-(2**63), 2**63 - 1)] == [-(2**63), 2**63 - 1]
    f32 = [0x80000000, 0x7F800000, 1, 0x7FC12345, 0xFFFFFFFF]
    came_back = [exports.f32(bits) & 0xFFFFFFFF for bits in f32]
    f64 = [1 << 63, 1, 0x7FF8000000000123, 0x7FF0000000000001, 0xFFF7FFFFFFFFFFFF]
    came_back += [exports.f64(bits) & 0xFFFFFFFFFFFFFFFF for bits in f64]
    if native.backend not in BAD_FLOAT_RESULTS:
        assert came_back == f32 + f64
    assert seen[:5] == [-(2**31), -1, 2**31 - 1, -(2**63), 2**63 - 1]
    assert [f32_bits(value) for value in seen[5:10]] == f32
    assert [f64_bits(value) for value in seen[10:]] == f64


def test_a_signalling_f32_nan_reaches_python_quiet(native: Connection) -> None:
    seen: list[float] = []
    hosts = dict.fromkeys(["i32", "i64", "f64", "none"], list)
    exports = make(native, TYPES, {"env": {**hosts, "f32": lambda value: seen.append(value) or 0.0}}).exports
    exports.f32(0x7F800001)
    assert [f32_bits(value) for value in seen] == [0x7FC00001]


def test_unsigned_and_bool_and_int_results(native: Connection) -> None:
    hosts = {"i32": lambda _: 2**32 - 1, "i64": lambda _: True, "f32": lambda _: 1, "f64": lambda _: 2**70}
    exports = make(native, TYPES, {"env": {**hosts, "none": lambda: None}}).exports
    assert exports.i32(0) == -1
    assert exports.i64(0) == 1
    floats = f32_from_bits(exports.f32(0)), f64_from_bits(exports.f64(0))
    if native.backend not in BAD_FLOAT_RESULTS:
        assert floats == (1.0, 2.0**70)
    assert exports.none() is None


def test_several_results_and_vectors(capable: Connection) -> None:
    hosts = {"swap": lambda left, right: (right, left), "vector": lambda value: value ^ (2**128 - 1)}
    exports = make(capable, MULTI, {"env": hosts}).exports
    assert exports.swap(3, 0.5) == (0.5, 3)
    assert exports.vector(1) == 2**128 - 2
    listed = make(capable, MULTI, {"env": {**hosts, "swap": lambda left, right: [right, left]}}).exports
    assert listed.swap(3, 0.5) == (0.5, 3)


# Results that do not fit


def importing(results: str) -> bytes:
    return fake_engine.module(
        {"call": function(f" -> {results}", [["host", 0]])}, [("env", "read", ["func", [], results.split()])]
    )


@pytest.mark.parametrize(
    ("results", "result", "error", "message"),
    [
        ("i32", None, TypeError, "result 1 (i32) of host function env.read must be an int, not None (NoneType)"),
        ("i32", "7", TypeError, "result 1 (i32) of host function env.read must be an int, not '7' (str)"),
        ("i32", 1.0, TypeError, "result 1 (i32) of host function env.read must be an int, not 1.0 (float)"),
        ("i32", (7,), TypeError, "result 1 (i32) of host function env.read must be an int, not (7,) (tuple)"),
        ("f64", "x", TypeError, "result 1 (f64) of host function env.read must be a float, not 'x' (str)"),
        (
            "i32",
            2**32,
            OverflowError,
            "result 1 (i32) of host function env.read must be in -2147483648 .. 4294967295, not 4294967296",
        ),
        ("f32", 1e39, OverflowError, "result 1 (f32) of host function env.read must fit an f32, not 1e+39 (float)"),
        ("", 7, TypeError, "host function env.read() -> () must return None, not 7 (int)"),
        ("", (), TypeError, "host function env.read() -> () must return None, not () (tuple)"),
        (
            "i32 f64",
            (1, 2.0, 3),
            TypeError,
            "host function env.read() -> (i32, f64) must return a tuple of 2, not (1, 2.0, 3) (tuple)",
        ),
        (
            "i32 f64",
            None,
            TypeError,
            "host function env.read() -> (i32, f64) must return a tuple of 2, not None (NoneType)",
        ),
        ("i32 f64", "ab", TypeError, "host function env.read() -> (i32, f64) must return a tuple of 2, not 'ab' (str)"),
        ("i32 i64", (1, "x"), TypeError, "result 2 (i64) of host function env.read must be an int, not 'x' (str)"),
    ],
    ids=[
        *["none", "str", "float", "tuple-for-one", "str-for-float", "range", "f32-range", "value-for-none"],
        *["tuple-for-none", "tuple-length", "none-for-two", "str-for-two", "second"],
    ],
)
def test_wrong_results_name_the_import(
    fake: Connection, results: str, result: object, error: type[Exception], message: str
) -> None:
    call = make(fake, importing(results), {"env": {"read": lambda: result}}).exports.call
    with pytest.raises(error) as refused:
        call()
    assert str(refused.value) == message


def test_wrong_results_do_not_reach_the_engine(native: Connection) -> None:
    results: list[object] = [None, "x", 2**40, (1, 2), 7]
    call = make(native, BINARY, {"env": {"f": lambda left, right: results.pop(0)}}).exports.call
    for error in (TypeError, TypeError, OverflowError, TypeError):
        with pytest.raises(error, match=r"host function env\.f"):
            call(1, 2)
    assert call(1, 2) == 7


def test_a_function_of_other_parameters_fails_as_python_says(fake: Connection) -> None:
    call = make(fake, importing("i32"), {"env": {"read": lambda one, two: 0}}).exports.call
    with pytest.raises(TypeError, match=r"missing 2 required positional arguments: 'one' and 'two'"):
        call()


def test_references_cannot_cross(fake: Connection) -> None:
    wasm = fake_engine.module({}, [("env", "f", ["func", ["funcref", "i32"], ["externref"]])])
    with pytest.raises(LinkError) as refused:
        make(fake, wasm, {"env": {"f": lambda *_: None}})
    assert str(refused.value) == (
        "m.wat: import env.f(funcref, i32) -> (externref) cannot be a Python function: the engine does not pass "
        "externref and funcref"
    )


# Caller


def as_string(caller: Caller, offset: int) -> int:
    return annotated.write(caller, offset)


def as_dotted_string(caller: pytest_wasmer.Caller, offset: int) -> int:
    return annotated.write(caller, offset)


@wraps(annotated.write)
def decorated(*arguments: Any) -> int:
    return annotated.write(*arguments)


WRITERS: dict[str, Callable[..., int]] = {
    "object": annotated.write,
    "string": as_string,
    "dotted": as_dotted_string,
    "method": annotated.Writer().method,
    "static": annotated.Writer.static,
    "callable": annotated.Writer(),
    "decorated": decorated,
    "partial": partial(lambda nothing, caller, offset: annotated.write(caller, offset), None),
}
WRITERS["partial"].func.__annotations__["caller"] = Caller  # type: ignore[attr-defined]


@pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))
def test_who_is_annotated_caller_gets_the_instance(native: Connection, write: Callable[..., int]) -> None:
    instance = make(native, CALLER, {"env": {"write": write}})
    assert instance.exports.call(100) == 100
    assert instance.memory[100:107] == b"written"


def test_the_caller_is_the_instance_that_imports(fake: Connection) -> None:
    wasm = fake_engine.module(
        {"call": function("i32 -> i32", [["host", 0]]), "memory": memory(1)},
        [("env", "f", ["func", ["i32"], ["i32"]])],
    )
    seen: list[Instance] = []

    def host(caller: Caller, value: int) -> int:
        seen.append(caller.instance)
        assert list(caller.exports) == ["call", "memory"]
        assert caller.memory.size == 65536
        return value

    first, second = (make(fake, wasm, {"env": {"f": host}}) for _ in range(2))
    assert (first.exports.call(1), second.exports.call(2)) == (1, 2)
    assert seen == [first, second]


def test_the_caller_is_there_when_only_an_export_is_held(native: Connection) -> None:
    call = make(native, CALLER, {"env": {"write": annotated.write}}).exports.call
    assert call(5) == 5


def test_a_caller_can_be_called_back(native: Connection) -> None:
    def host(caller: Caller, value: int) -> int:
        return int(caller.exports.call(value - 1)) + 1 if value else 100

    assert make(native, CALLER, {"env": {"write": host}}).exports.call(5) == 105


def test_a_start_function_has_no_instance_yet(native: Connection) -> None:
    wat = '(module (import "env" "f" (func $f)) (memory (export "memory") 1) (start $f))'
    errors: list[WasmError] = []

    def host(caller: Caller) -> None:
        for look in (lambda: caller.instance, lambda: caller.memory, lambda: caller.exports):
            with pytest.raises(WasmError) as refused:
                look()
            errors.append(refused.value)

    make(native, wat, {"env": {"f": host}})
    assert [str(error) for error in errors] == [
        "host function env.f was called by a start function: its instance is still being made"
    ] * 3


@pytest.mark.parametrize("host", [*CALLABLES.values(), int, print, dict.get], ids=[*CALLABLES, "int", "print", "get"])
def test_others_do_not_take_a_caller(host: Callable[..., Any]) -> None:
    assert not takes_caller(host)


# What the engine itself gets wrong


def test_singlepass_passes_wrong_floats_to_host_functions_called_through_a_table(native: Connection) -> None:
    """A miscompile of Wasmer 2.1 that authors want to see: nothing here hides it."""
    seen: list[float] = []
    exports = make(native, INDIRECT, {"env": {"f": lambda value: seen.append(value) or value}}).exports
    exports.direct(1.5)
    assert seen == [1.5]
    exports.indirect(1.5)
    assert math.isclose(seen[1], 1.5) is (native.backend != "singlepass")


def test_singlepass_does_not_take_float_results_of_host_functions(native: Connection) -> None:
    call = make(native, FLOAT_RESULT, {"env": {"f": lambda *_: 1.5}}).exports.call
    assert (call() == 1.5) is (native.backend not in BAD_FLOAT_RESULTS)
