"""Exports of one instance as imports of another, and what the host makes for instances to import."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.engines.registry import Registry
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm.errors import LinkError
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.traps import Trap, TrapKind
from pytest_wasmer.wasm.variables import Global, Table
from tests import fake_engine
from tests.conftest import FAKES, skip_without_wheels
from tests.fake_engine import function
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.runtime.pool import EnginePool

LIBRARY = """
(module
  (memory (export "memory") 1 4)
  (global $count (export "count") (mut i32) (i32.const 0))
  (global (export "fixed") f64 (f64.const 2.5))
  (table (export "table") 2 funcref)
  (elem (i32.const 0) $twice)
  (func $twice (export "twice") (param i32) (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.mul (local.get 0) (i32.const 2))))
"""
USER = """
(module
  (import "library" "twice" (func $twice (param i32) (result i32)))
  (import "library" "memory" (memory 1 4))
  (import "library" "count" (global $count (mut i32)))
  (import "library" "fixed" (global $fixed f64))
  (import "library" "table" (table 2 funcref))
  (type $unary (func (param i32) (result i32)))
  (func (export "both") (param i32) (result i32)
    (i32.add (call $twice (local.get 0)) (call_indirect (type $unary) (local.get 0) (i32.const 0))))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "reset") (global.set $count (i32.const -5)))
  (func (export "fixed") (result f64) (global.get $fixed)))
"""
HOSTED = """
(module
  (import "env" "memory" (memory 1 3))
  (import "env" "count" (global $count (mut i64)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "bump") (result i64)
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (global.get $count)))
"""


# Exports of instances


@pytest.mark.parametrize("whole", [True, False], ids=["instance", "exports"])
def test_an_instance_or_its_exports_are_imports(native: Connection, whole: bool) -> None:
    library = make(native, LIBRARY)
    user = make(native, USER, {"library": library if whole else library.exports})
    assert user.exports.both(3) == 12
    assert library.exports.count.value == 2
    user.exports.store(100, 0x01020304)
    assert library.memory[100:104] == b"\x04\x03\x02\x01"
    user.exports.reset()
    assert library.exports.count.value == -5
    library.exports.count.value = 7
    assert user.exports.both(0) == 0
    assert library.exports.count.value == 9
    assert user.exports.fixed() == 2.5


def test_single_exports_are_imports_under_any_name(native: Connection) -> None:
    library = make(native, LIBRARY)
    wat = """(module (type $unary (func (param i32) (result i32)))
      (import "x" "f" (func $f (type $unary))) (import "x" "g" (func $g (type $unary)))
      (func (export "go") (result i32) (i32.add (call $f (i32.const 1)) (call $g (i32.const 10)))))"""
    host = make(native, wat, {"x": {"f": library.exports.twice, "g": lambda value: value + 5}})
    assert host.exports.go() == 17


def test_the_memory_of_an_importer_is_the_imported_one(native: Connection) -> None:
    library = make(native, LIBRARY)
    user = make(native, USER, {"library": library})
    user.memory.write(5, b"shared")
    assert library.memory[5:11] == b"shared"


def test_extra_imports_are_not_looked_at(native: Connection) -> None:
    library = make(native, LIBRARY)
    given: Any = {"library": library, "other": {"f": object()}, "third": None}
    assert make(native, USER, given).exports.fixed() == 2.5


def test_the_same_import_twice(native: Connection) -> None:
    wat = """(module (import "e" "f" (func $a (result i32))) (import "e" "f" (func $b (result i32)))
      (func (export "go") (result i32) (i32.add (call $a) (call $b))))"""
    calls: list[int] = []
    exports = make(native, wat, {"e": {"f": lambda: calls.append(1) or len(calls)}}).exports
    assert exports.go() == 3


def test_empty_names(native: Connection) -> None:
    wat = '(module (import "" "" (func $f (result i32))) (func (export "") (result i32) (call $f)))'
    exports = make(native, wat, {"": {"": lambda: 5}}).exports
    assert exports[""]() == 5


@pytest.mark.parametrize("shared", ["import", "export"])
def test_types_are_compared_by_structure_across_modules(native: Connection, shared: str) -> None:
    """Each module numbers its types in its own order: the engine must not compare the numbers."""
    owner = make(
        native,
        """(module
          (type $three (func (param i64 i64 i64) (result i64)))
          (type $getter (func (result i32)))
          (type $other (func (param f64)))
          (table (export "table") 4 funcref)
          (func (export "get") (param i32) (result i32) (call_indirect (type $getter) (local.get 0)))
          (func (export "three") (param i32) (result i64)
            (call_indirect (type $three) (i64.const 1) (i64.const 2) (i64.const 3) (local.get 0)))
          (func (export "other") (param i32) (call_indirect (type $other) (f64.const 1) (local.get 0))))""",
    )
    user = """(module (type $getter (func (result i32))) (import "o" "table" (table 4 funcref))
      (import "o" "{name}" (func $imported (param i32) (result i32)))
      (func $f (type $getter) i32.const 42) (elem (i32.const 0) $f) {again})"""
    again = '(export "table" (table 0))' if shared == "export" else ""
    make(native, user.format(name="get", again=again), {"o": owner})
    assert owner.exports.get(0) == 42
    for name in ("three", "other"):
        with pytest.raises(Trap) as trapped:
            owner.exports[name](0)
        assert trapped.value.kind is TrapKind.BAD_SIGNATURE


def test_functions_of_others_in_a_table_of_one_s_own(native: Connection) -> None:
    """Nothing here exchanges references, so each module may have an engine with its own numbers for types."""
    library = """(module (type $first (func (param i64))) (type $second (func (param f32)))
      (func (export "f") (result i32) i32.const 42))"""
    user = """(module
      (type $getter (func (result i32)))
      (type $first (func (param i64)))
      (import "a" "f" (func $f (type $getter)))
      (table 2 funcref) (elem (i32.const 0) $f)
      (func (export "get") (result i32) (call_indirect (type $getter) (i32.const 0)))
      (func (export "first") (call_indirect (type $first) (i64.const 0) (i32.const 0))))"""
    for given in (make(native, library), {"f": lambda: 42}):
        exports = make(native, user, {"a": given}).exports
        assert exports.get() == 42
        with pytest.raises(Trap) as trapped:
            exports.first()
        assert trapped.value.kind is TrapKind.BAD_SIGNATURE


# Made by the host


def test_what_was_written_before_linking_is_there(native: Connection) -> None:
    memory, count = Memory(1, 3), Global("i64", 7, mutable=True)
    memory.write(10, b"before")
    memory.write_u32(100, 42)
    memory[200] = 9
    memory[201:203] = b"xy"
    count.value = 41
    assert (memory.size, memory.read(10, 6), memory[200], memory.read_u32(100)) == (65536, b"before", 9, 42)
    assert count.value == 41
    exports = make(native, HOSTED, {"env": {"memory": memory, "count": count}}).exports
    assert (exports.load(100), memory[10:16], memory[200], memory[201:203]) == (42, b"before", 9, b"xy")
    assert exports.bump() == 42
    assert count.value == 42


def test_two_instances_share_it(native: Connection) -> None:
    memory, count = Memory(1, 3), Global("i64", 0, mutable=True)
    first, second = (make(native, HOSTED, {"env": {"memory": memory, "count": count}}).exports for _ in range(2))
    first.store(8, 77)
    assert (second.load(8), memory.read_u32(8)) == (77, 77)
    memory.write_u32(8, 78)
    assert first.load(8) == second.load(8) == 78
    assert [first.bump(), second.bump(), count.value] == [1, 2, 2]
    count.value = -1
    assert second.bump() == 0


def test_a_grown_memory_is_grown_for_all(native: Connection) -> None:
    memory = Memory(1, 3)
    exports = make(native, HOSTED, {"env": {"memory": memory, "count": Global("i64", 0, mutable=True)}}).exports
    assert exports.grow(1) == 1
    assert memory.size == len(memory) == 2 * 65536
    assert memory.grow(1) == 2
    assert exports.grow(1) == -1
    exports.store(3 * 65536 - 4, 5)
    assert memory.read_u32(3 * 65536 - 4) == 5


@pytest.mark.parametrize("mutable", [True, False])
@pytest.mark.parametrize(
    ("value_type", "value"), [("i32", -1), ("i64", 2**63 - 1), ("f32", 0.5), ("f64", -0.0)], ids=lambda part: str(part)
)
def test_globals_of_all_number_types(native: Connection, value_type: str, value: float, mutable: bool) -> None:
    type_ = f"(mut {value_type})" if mutable else value_type
    wat = f"""(module (import "e" "g" (global $g {type_}))
      (export "again" (global $g)) (func (export "get") (result {value_type}) (global.get $g)))"""
    made = Global(value_type, value, mutable=mutable)
    exports = make(native, wat, {"e": {"g": made}}).exports
    for found in (exports.get(), exports.again.value, made.value):
        assert found == value
        assert math.copysign(1, found) == math.copysign(1, value)
    assert exports.again.type == made.type


def test_an_immutable_global_initializes_others(native: Connection) -> None:
    wat = """(module (import "e" "g" (global i32)) (global (export "copy") i32 (global.get 0))
      (memory (export "memory") 1) (data (global.get 0) "x"))"""
    instance = make(native, wat, {"e": {"g": Global("i32", 500)}})
    assert instance.exports.copy.value == 500
    assert instance.memory[500] == ord("x")


def test_limits_that_do_not_fit(native: Connection) -> None:
    module = load(native, HOSTED)
    count = Global("i64", 0, mutable=True)
    for memory, given in ((Memory(1, 4), "1 to 4"), (Memory(0, 3), "0 to 3"), (Memory(1), "1 or more")):
        with pytest.raises(LinkError) as refused:
            module.instantiate({"env": {"memory": memory, "count": count}})
        assert str(refused.value) == (
            f"m.wat cannot be linked on {native.backend}: import env.memory is a memory of 1 to 3 pages, "
            f"given a memory of {given} pages\n"
            "Give Memory(1, maximum=3), or a memory that another instance exports."
        )
    assert module.instantiate({"env": {"memory": Memory(2, 3), "count": count}}) is not None


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("3 funcref", "3 or more elements of type funcref"),
        ("1 4 funcref", "1 to 4 elements of type funcref"),
        ("1 externref", "1 or more elements of type externref"),
    ],
)
def test_tables_that_do_not_fit(native: Connection, wanted: str, said: str) -> None:
    library = make(native, '(module (memory (export "m") 1) (table (export "t") 2 5 funcref))')
    library.memory.grow(1)  # fits by its size now
    with pytest.raises(LinkError) as refused:
        make(native, f'(module (import "e" "m" (memory 2)) (import "e" "t" (table {wanted})))', {"e": library})
    assert str(refused.value) == (
        f"m.wat cannot be linked on {native.backend}: import e.t is a table of {said}, "
        "given a table of 2 to 5 elements of type funcref\n"
        "Give a table that another instance exports: the wasmer wheels cannot make tables."
    )


def test_one_name_for_two_types(native: Connection) -> None:
    """Valid Wasm that the wheels cannot link: they look imports up by name."""
    wat = '(module (import "e" "h" (func (result i32))) (import "e" "h" (func (result i64))))'
    with pytest.raises(LinkError) as refused:
        make(native, wat, {"e": {"h": lambda: 1}})
    assert str(refused.value) == (
        f"m.wat cannot be linked on {native.backend}: it imports e.h as a function () -> (i32) and as a function "
        "() -> (i64), and the wasmer wheels link one value per name\n"
        "Build the module with another name for one of them."
    )
    assert make(native, wat.replace("i64", "i32"), {"e": {"h": lambda: 1}}) is not None


def test_a_memory_that_has_grown_fits_by_its_size_now(native: Connection) -> None:
    memory = Memory(1, 3)
    make(native, '(module (import "e" "m" (memory 1 3)))', {"e": {"m": memory}})
    memory.grow(1)
    assert make(native, '(module (import "e" "m" (memory 2 3)))', {"e": {"m": memory}}).memory.size == 2 * 65536


@pytest.mark.parametrize(
    ("minimum", "maximum"), [(-1, None), (65537, None), (2, 1), (1, 65537)], ids=["negative", "huge", "less", "max"]
)
def test_memory_limits_that_make_no_sense(minimum: int, maximum: int | None) -> None:
    with pytest.raises(ValueError, match=r"^memory limits in pages: 0 <= ") as refused:
        Memory(minimum, maximum)
    assert str(refused.value) == f"memory limits in pages: 0 <= {minimum} <= {maximum} <= 65536 is not so"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("v128", 0), ValueError, "the host makes globals of i32, i64, f32 and f64, not of 'v128'"),
        (("funcref", None), ValueError, "the host makes globals of i32, i64, f32 and f64, not of 'funcref'"),
        (
            ("i32", 2**32),
            OverflowError,
            "the value of global made by the host (immutable global of type i32) must be in "
            "-2147483648 .. 4294967295, not 4294967296",
        ),
        (
            ("i64", 0.5),
            TypeError,
            "the value of global made by the host (immutable global of type i64) must be an int, not 0.5 (float)",
        ),
    ],
    ids=["v128", "funcref", "range", "type"],
)
def test_globals_that_cannot_be_made(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refused:
        Global(*arguments)
    assert str(refused.value) == message


def test_a_global_keeps_its_type_before_and_after_linking(native: Connection) -> None:
    made = Global("i32", 7, mutable=True)
    for _ in range(2):
        with pytest.raises(
            OverflowError, match=r"^the value of global made by the host \(mutable global of type i32\)"
        ):
            made.value = 2**32
        with pytest.raises(TypeError):
            made.value = "7"
        made.value = 2**32 - 1
        assert made.value == -1
        make(native, '(module (import "e" "g" (global (mut i32))))', {"e": {"g": made}})
    fixed = Global("i32", 7)
    with pytest.raises(AttributeError) as refused:
        fixed.value = 8
    assert str(refused.value) == "global made by the host is immutable (i32): it cannot be set"


def test_tables_cannot_be_made() -> None:
    for arguments in ((), (10,), ("funcref", 10)):
        with pytest.raises(TypeError) as refused:
            Table(*arguments)
        assert str(refused.value) == (
            "the wasmer wheels cannot make tables: take one from another instance's exports,\n"
            'or export it from a helper module: (module (table (export "table") 10 funcref))'
        )


def test_the_helper_module_of_that_message_works(native: Connection) -> None:
    helper = make(native, '(module (table (export "table") 10 funcref))')
    assert helper.exports.table.size == len(helper.exports.table) == 10
    user = make(
        native,
        '(module (import "e" "t" (table 10 funcref)) (export "t" (table 0)))',
        {"e": {"t": helper.exports.table}},
    )
    assert user.exports.t.size == 10


def test_a_memory_not_in_use_yet_does_not_grow() -> None:
    with pytest.raises(WasmError) as refused:
        Memory(1, 3).grow(1)
    assert str(refused.value) == "memory made by the host is not in use yet: import it first, or make it larger"


def test_what_is_not_in_use_yet_has_a_name_in_messages() -> None:
    memory = Memory(1)
    with pytest.raises(TypeError) as refused:
        memory()
    assert str(refused.value) == "memory made by the host is a memory of 1 or more pages, not a function"
    with pytest.raises(OverflowError, match=r"^300.* at offset 0 of memory made by the host: "):
        memory.write_u8(0, 300)
    with pytest.raises(
        TypeError, match=r"^global made by the host is an immutable global of type i32, not a function$"
    ):
        Global("i32", 1)()


# Another backend's


def test_what_belongs_to_another_backend_is_refused(pool: EnginePool, isolation: str) -> None:
    first, second = (pool.connection(spec) for spec in FAKES[:2])
    wasm = fake_engine.module({}, [("env", "memory", ["memory", 1, None])])
    memory = Memory(1)
    make(first, wasm, {"env": {"memory": memory}})
    with pytest.raises(LinkError) as refused:
        make(second, wasm, {"env": {"memory": memory}}, path="user.wasm")
    assert str(refused.value) == (
        "user.wasm: import env.memory is linked on fake-b, but memory made by the host belongs to fake-a\n"
        "Make both in the same test, on the same backend."
    )
    exporter = make(first, fake_engine.module({"f": function(" -> ", [["return"]])}), path="library.wasm")
    with pytest.raises(LinkError) as refused:
        make(second, fake_engine.module({}, [("env", "f", ["func", [], []])]), {"env": exporter}, path="user.wasm")
    assert str(refused.value) == (
        "user.wasm: import env.f is linked on fake-b, but 'f' of library.wasm belongs to fake-a\n"
        "Make both in the same test, on the same backend."
    )


def test_what_belongs_to_another_compiler_is_refused(pool: EnginePool, cache: Path, isolation: str) -> None:
    skip_without_wheels(isolation)
    registry = Registry([], cache)
    singlepass, llvm = (pool.connection(registry.spec(name)) for name in ("singlepass", "llvm"))
    library = make(singlepass, LIBRARY)
    with pytest.raises(LinkError, match=r"linked on llvm, but 'twice' of m\.wat belongs to singlepass"):
        make(llvm, USER, {"library": library})
    assert library.exports.twice(4) == 8
