"""Exceptions of host functions cross Wasm unchanged."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_wasmer.wasm.traps import Trap, TrapKind
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

WAT = """
(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1)
  (global $after (export "after") (mut i32) (i32.const 0))
  (func (export "call") (param i32) (result i32)
    (call $f (local.get 0))
    (global.set $after (i32.const 1)))
  (func (export "trap") unreachable)
  (func (export "fill") (memory.fill (i32.const 65535) (i32.const 1) (i32.const 2))))
"""
START = '(module (import "env" "f" (func $f)) (start $f))'


class OfMyOwn(BaseException):
    pass


class Slotted(Exception):
    __slots__ = ("detail",)


EXCEPTIONS = [
    *[ValueError("mine", 7), AssertionError("mine"), KeyboardInterrupt("mine"), SystemExit(3), GeneratorExit()],
    *[StopIteration(5), OfMyOwn("mine"), Slotted(), MemoryError(), OSError(2, "mine"), EOFError(), BrokenPipeError()],
    # What the engines raise themselves, or the transports look for.
    *[RuntimeError("unreachable"), RuntimeError("RuntimeError: integer divide by zero"), RecursionError("mine")],
    *[Trap(TrapKind.UNREACHABLE, "mine"), LookupError("mine"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "mine")],
]


def host_function_that_raises(error: BaseException) -> NoReturn:
    raise error


def frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: f"{type(error).__name__}")
def test_any_exception_is_the_same_object(native: Connection, error: BaseException) -> None:
    arguments, context = error.args, error.__context__
    error.__traceback__ = None
    results: list[Any] = [lambda: host_function_that_raises(error), lambda: 5]
    exports = make(native, WAT, {"env": {"f": lambda _: results.pop(0)()}}).exports
    with pytest.raises(type(error)) as raised:
        exports.call(1)
    assert raised.value is error
    assert (error.args, error.__context__, error.__cause__) == (arguments, context, None)
    assert frames(error)[0] == "test_any_exception_is_the_same_object"
    assert frames(error)[-1] == "host_function_that_raises"
    assert exports.after.value == 0, "the rest of the Wasm function must not run"
    assert exports.call(1) == 5


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), OfMyOwn()], ids=lambda error: type(error).__name__
)
def test_also_out_of_a_start_function(native: Connection, error: BaseException) -> None:
    error.__traceback__ = None
    module = load(native, START)
    with pytest.raises(type(error)) as raised:
        module.instantiate({"env": {"f": lambda: host_function_that_raises(error)}})
    assert raised.value is error
    assert frames(error)[-1] == "host_function_that_raises"
    assert module.instantiate({"env": {"f": lambda: None}}) is not None


def test_through_several_layers_of_wasm(native: Connection) -> None:
    error = LookupError("mine")
    exports: list[Any] = []

    def host(depth: int) -> int:
        return int(exports[0].call(depth - 1)) if depth else host_function_that_raises(error)

    exports.append(make(native, WAT, {"env": {"f": host}}).exports)
    with pytest.raises(LookupError) as raised:
        exports[0].call(5)
    assert raised.value is error
    assert frames(error).count("host") == 6
    assert frames(error)[-1] == "host_function_that_raises"


def test_a_host_function_may_catch_what_an_inner_call_raises(native: Connection) -> None:
    exports: list[Any] = []
    caught: list[BaseException] = []

    def host(depth: int) -> int:
        if depth == 0:
            raise LookupError("inner")
        with pytest.raises(LookupError) as raised:
            exports[0].call(depth - 1)
        caught.append(raised.value)
        return 42

    exports.append(make(native, WAT, {"env": {"f": host}}).exports)
    assert exports[0].call(1) == 42
    assert [str(error) for error in caught] == ["inner"]


def test_a_host_function_may_catch_a_trap(native: Connection) -> None:
    exports: list[Any] = []
    kinds: list[TrapKind] = []

    def host(which: int) -> int:
        with pytest.raises(Trap) as trapped:
            exports[0]["trap" if which else "fill"]()
        kinds.append(trapped.value.kind)
        return 7

    exports.append(make(native, WAT, {"env": {"f": host}}).exports)
    assert [exports[0].call(1), exports[0].call(0)] == [7, 7]
    assert kinds == [TrapKind.UNREACHABLE, TrapKind.MEMORY_OUT_OF_BOUNDS]


def test_an_uncaught_trap_of_an_inner_call_names_the_inner_function(native: Connection) -> None:
    exports: list[Any] = []
    exports.append(make(native, WAT, {"env": {"f": lambda _: exports[0].trap()}}).exports)
    with pytest.raises(Trap) as trapped:
        exports[0].call(1)
    assert (trapped.value.kind, trapped.value.function) == (TrapKind.UNREACHABLE, "trap")
    assert "<lambda>" in frames(trapped.value)


def test_the_context_is_what_the_host_function_made_it(native: Connection) -> None:
    def host(_: int) -> int:
        try:
            return {}["missing"]  # type: ignore[no-any-return]
        except KeyError:
            raise ValueError("second") from None

    call = make(native, WAT, {"env": {"f": host}}).exports.call
    with pytest.raises(ValueError, match="second") as raised:
        call(1)
    assert type(raised.value.__context__) is KeyError
    assert raised.value.__cause__ is None


def test_the_same_exception_twice(native: Connection) -> None:
    error = ValueError("mine")
    call = make(native, WAT, {"env": {"f": lambda _: host_function_that_raises(error)}}).exports.call
    for _ in range(2):
        with pytest.raises(ValueError, match="mine") as raised:
            call(1)
        assert raised.value is error


def test_nothing_is_kept_of_exceptions_that_have_passed(fake: Connection, native: Connection) -> None:
    call = make(native, WAT, {"env": {"f": lambda _: host_function_that_raises(ValueError("mine"))}}).exports.call
    for _ in range(10):
        with pytest.raises(ValueError, match="mine"):
            call(1)
    assert native.hosts._raised == {}
    assert native.hosts.depth == 0
