"""Traps by kind, on every compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.traps import Trap, TrapKind
from tests import fake_engine
from tests.fake_engine import function
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

WAT = """
(module $traps
  (type $getter (func (result i32)))
  (type $other (func (param i64)))
  (memory (export "memory") 1 2)
  (data $passive "abc")
  (table $table 4 funcref)
  (elem (i32.const 0) $answer $other)
  (elem $segment func $answer)
  (global $state (export "state") (mut i32) (i32.const 0))
  (func $answer (export "answer") (result i32) i32.const 42)
  (func $other (param i64))
  (func (export "unreachable") unreachable)
  (func (export "div_s") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "rem_u") (param i64 i64) (result i64) (i64.rem_u (local.get 0) (local.get 1)))
  (func (export "rem_s") (param i32 i32) (result i32) (i32.rem_s (local.get 0) (local.get 1)))
  (func (export "trunc") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func (export "trunc_u") (param f32) (result i64) (i64.trunc_f32_u (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "far") (param i32) (result i64) (i64.load offset=0xfffffff8 (local.get 0)))
  (func (export "store") (param i32) (i64.store (local.get 0) (i64.const -1)))
  (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 1) (local.get 1)))
  (func (export "copy") (param i32 i32) (memory.copy (local.get 0) (i32.const 0) (local.get 1)))
  (func (export "init") (param i32) (memory.init $passive (local.get 0) (i32.const 0) (i32.const 3)))
  (func (export "call") (param i32) (result i32) (call_indirect (type $getter) (local.get 0)))
  (func (export "table_get") (param i32) (drop (table.get $table (local.get 0))))
  (func (export "table_init") (param i32) (table.init $segment (local.get 0) (i32.const 0) (i32.const 1)))
  (func $deep (export "deep") (param i32) (result i32)
    (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
  (func $nested (export "nested") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then unreachable)
      (else (i32.add (i32.const 1) (call $nested (i32.sub (local.get 0) (i32.const 1))))))))
"""
CASES = [
    ("unreachable", (), TrapKind.UNREACHABLE),
    ("div_s", (1, 0), TrapKind.INTEGER_DIVIDE_BY_ZERO),
    ("rem_u", (1, 0), TrapKind.INTEGER_DIVIDE_BY_ZERO),
    ("rem_s", (1, 0), TrapKind.INTEGER_DIVIDE_BY_ZERO),
    ("div_s", (-(2**31), -1), TrapKind.INTEGER_OVERFLOW),
    ("trunc", (2.0**31,), TrapKind.INTEGER_OVERFLOW),
    ("trunc", (float("-inf"),), TrapKind.INTEGER_OVERFLOW),
    ("trunc_u", (-1.0,), TrapKind.INTEGER_OVERFLOW),
    ("trunc", (float("nan"),), TrapKind.INVALID_CONVERSION_TO_INTEGER),
    ("trunc_u", (float("nan"),), TrapKind.INVALID_CONVERSION_TO_INTEGER),
    ("load", (65533,), TrapKind.MEMORY_OUT_OF_BOUNDS),
    ("load", (2**32 - 1,), TrapKind.MEMORY_OUT_OF_BOUNDS),
    ("far", (2**32 - 1,), TrapKind.MEMORY_OUT_OF_BOUNDS),
    ("store", (65529,), TrapKind.MEMORY_OUT_OF_BOUNDS),
    ("fill", (65536, 1), TrapKind.MEMORY_OUT_OF_BOUNDS),
    ("copy", (65530, 7), TrapKind.MEMORY_OUT_OF_BOUNDS),
    ("init", (65534,), TrapKind.MEMORY_OUT_OF_BOUNDS),
    ("call", (4,), TrapKind.TABLE_OUT_OF_BOUNDS),
    ("call", (-1,), TrapKind.TABLE_OUT_OF_BOUNDS),
    ("table_get", (4,), TrapKind.TABLE_OUT_OF_BOUNDS),
    ("table_init", (4,), TrapKind.TABLE_OUT_OF_BOUNDS),
    ("call", (2,), TrapKind.INDIRECT_CALL_TO_NULL),
    ("call", (1,), TrapKind.BAD_SIGNATURE),
]
FIRST_LINES = {TrapKind.TABLE_OUT_OF_BOUNDS: "undefined element: out of bounds table access"}


@pytest.mark.parametrize(
    ("name", "arguments", "kind"), CASES, ids=[f"{name}{arguments}" for name, arguments, _ in CASES]
)
def test_every_kind(native: Connection, name: str, arguments: tuple[Any, ...], kind: TrapKind) -> None:
    exports = make(native, WAT).exports
    with pytest.raises(Trap) as trapped:
        exports[name](*arguments)
    trap = trapped.value
    assert trap.kind is kind
    assert trap.function == name
    assert trap.text.splitlines()[0] == str(trap).splitlines()[0] == FIRST_LINES.get(kind, kind.value)
    assert repr(trap) == f"<Trap {kind.name} in {name}>"
    assert exports.answer() == 42
    assert exports.div_s(7, 2) == 3


def test_the_cases_are_all_kinds_but_two() -> None:
    assert {kind for _, _, kind in CASES} == {*TrapKind} - {TrapKind.STACK_OVERFLOW, TrapKind.UNKNOWN}


def test_what_does_not_trap(native: Connection) -> None:
    exports = make(native, WAT).exports
    assert exports.rem_s(-(2**31), -1) == 0
    assert exports.trunc(-2147483648.9) == -(2**31)
    assert exports.call(0) == 42
    assert exports.load(65532) == 0
    exports.fill(65536, 0)


def test_a_stack_overflow(native: Connection) -> None:
    """The engine's own text has a line per frame: 8 to 19 MB of it."""
    exports = make(native, WAT).exports
    with pytest.raises(Trap) as trapped:
        exports.deep(0)
    trap = trapped.value
    assert (trap.kind, trap.function) == (TrapKind.STACK_OVERFLOW, "deep")
    assert trap.text.splitlines()[0] == "call stack exhausted"
    assert len(trap.text.splitlines()) <= 21
    assert len(trap.text) < 5000
    assert exports.answer() == 42


def test_the_text_is_at_most_20_frames(native: Connection) -> None:
    with pytest.raises(Trap) as trapped:
        make(native, WAT).exports.nested(200)
    first, *frames = trapped.value.text.splitlines()
    assert first == "unreachable"
    assert 1 <= len(frames) <= 20
    assert "nested (traps[" in frames[0]
    if native.backend != "singlepass":  # which shows one frame only
        assert len(frames) == 20
        assert frames[-1] == "    ... more frames"


def test_few_frames_are_all_shown(native: Connection) -> None:
    with pytest.raises(Trap) as trapped:
        make(native, WAT).exports.nested(3)
    _, *frames = trapped.value.text.splitlines()
    assert len(frames) == (1 if native.backend == "singlepass" else 4)
    assert all("nested" in frame for frame in frames)


def test_state_written_before_a_trap_stays(native: Connection) -> None:
    wat = """(module (memory (export "memory") 1) (global $g (export "g") (mut i32) (i32.const 0))
      (func (export "f") (global.set $g (i32.const 5)) (i32.store8 (i32.const 3) (i32.const 7)) unreachable))"""
    instance = make(native, wat)
    with pytest.raises(Trap):
        instance.exports.f()
    assert (instance.exports.g.value, instance.memory[3]) == (5, 7)


def test_many_traps_in_a_row(native: Connection) -> None:
    exports = make(native, WAT).exports
    for _ in range(50):
        with pytest.raises(Trap):
            exports.load(-1)
    assert exports.answer() == 42


# While an instance is made


def test_a_start_function_that_traps(native: Connection) -> None:
    module = load(native, "(module (func $start unreachable) (start $start))")
    for _ in range(2):
        with pytest.raises(Trap) as trapped:
            module.instantiate()
        assert (trapped.value.kind, trapped.value.function) == (TrapKind.UNREACHABLE, "")
        assert trapped.value.text.splitlines()[0] == "unreachable"
        assert repr(trapped.value) == "<Trap UNREACHABLE>"


@pytest.mark.parametrize(
    ("wat", "kind", "text"),
    [
        ('(module (memory 1) (data (i32.const 65536) "x"))', "MEMORY_OUT_OF_BOUNDS", "out of bounds memory access"),
        ('(module (memory 0) (data (i32.const -1) "x"))', "MEMORY_OUT_OF_BOUNDS", "out of bounds memory access"),
        (
            "(module (table 1 funcref) (func $f) (elem (i32.const 1) $f))",
            "TABLE_OUT_OF_BOUNDS",
            "undefined element: out of bounds table access",
        ),
    ],
    ids=["data", "data-negative", "elem"],
)
def test_a_segment_out_of_range(native: Connection, wat: str, kind: str, text: str) -> None:
    with pytest.raises(Trap) as trapped:
        make(native, wat)
    assert (trapped.value.kind, trapped.value.text) == (TrapKind[kind], text)


def test_segments_before_the_one_out_of_range_are_written(native: Connection) -> None:
    memory = Memory(1)
    wat = """(module (import "e" "m" (memory 1))
      (data (i32.const 10) "written") (data (i32.const 65530) "too long") (data (i32.const 20) "never"))"""
    with pytest.raises(Trap) as trapped:
        make(native, wat, {"e": {"m": memory}})
    assert trapped.value.kind is TrapKind.MEMORY_OUT_OF_BOUNDS
    assert memory[10:17] == b"written"
    assert memory[20:25] == bytes(5)
    assert memory[65530:65536] == bytes(6)


# Kinds that no compiler has


def test_an_unknown_kind_is_unknown(fake: Connection) -> None:
    wasm = fake_engine.module({"f": function(" -> ", [["trap", "SOMETHING_NEW"]])})
    with pytest.raises(Trap) as trapped:
        make(fake, wasm).exports.f()
    assert trapped.value.kind is TrapKind.UNKNOWN
    assert str(trapped.value) == "something_new on fake-a"


def test_a_trap_of_one_s_own() -> None:
    trap = Trap(TrapKind.UNREACHABLE)
    assert (str(trap), repr(trap), trap.text, trap.function) == ("unreachable", "<Trap UNREACHABLE>", "", "")
    assert trap.args == (TrapKind.UNREACHABLE, "", "")
