"""Instances and their exports: what is found by name, and what is said where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.wasm.errors import MissingExport
from pytest_wasmer.wasm.function import Function
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType, TableType
from pytest_wasmer.wasm.variables import Global, Table
from tests import fake_engine
from tests.fake_engine import function, memory, table, variable
from tests.wasm.workbench import make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.instance import Instance

RETURN = [["return"]]
CALC = fake_engine.module(
    {
        "add": function("i32 i32 -> i32", ["sum"]),
        "subtract": function("i32 i32 -> i32", ["sum"]),
        "memory": memory(1),
        "counter": variable("i32", 5),
        "fixed": variable("i64", 6, mutable=False),
        "table": table(3),
        "__data_end": variable("i32", 1024, mutable=False),
        "odd name!": function(" -> ", RETURN),
        "": function(" -> ", RETURN),
        "get": function(" -> ", RETURN),
        "keys": function(" -> ", RETURN),
    }
)
WAT = """
(module
  (memory (export "memory") 1)
  (table (export "table") 3 9 funcref)
  (table (export "externs") 1 externref)
  (global (export "i32") (mut i32) (i32.const -1))
  (global (export "i64") (mut i64) (i64.const 0x7fffffffffffffff))
  (global (export "f32") (mut f32) (f32.const nan:0x412345))
  (global (export "f64") (mut f64) (f64.const -nan:0x4000000000001))
  (global (export "fixed") i32 (i32.const 7))
  (global (export "reference") (mut funcref) (ref.null func))
  (func (export "\\e2\\9c\\93 odd") (result i32) i32.const 1)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
"""


@pytest.fixture
def calc(fake: Connection) -> Instance:
    return make(fake, CALC, path="calc.wasm")


# By name


def test_exports_by_attribute_and_by_any_name(calc: Instance) -> None:
    assert calc.exports.add(1, 2) == calc.exports["add"](1, 2) == 3
    assert calc.exports.add is calc.exports["add"]
    assert calc.exports["odd name!"]() is calc.exports[""]() is None
    assert calc.exports.get() is calc.exports.keys() is None, "a mapping's methods hide no export"


def test_the_kinds_of_exports(native: Connection) -> None:
    exports = make(native, WAT).exports
    assert {name: type(exports[name]) for name in ("add", "memory", "table", "externs", "i32")} == {
        "add": Function,
        "memory": Memory,
        "table": Table,
        "externs": Table,
        "i32": Global,
    }
    assert exports["✓ odd"]() == 1
    assert {name: exports[name].type for name in exports} == {
        "memory": MemoryType(1, None),
        "table": TableType("funcref", 3, 9),
        "externs": TableType("externref", 1, None),
        "i32": GlobalType("i32", True),
        "i64": GlobalType("i64", True),
        "f32": GlobalType("f32", True),
        "f64": GlobalType("f64", True),
        "fixed": GlobalType("i32", False),
        "reference": GlobalType("funcref", True),
        "✓ odd": FunctionType((), ("i32",)),
        "add": FunctionType(("i32", "i32"), ("i32",)),
    }
    assert (exports.table.size, len(exports.table), exports.externs.size) == (3, 3, 1)


def test_exports_iterate_over_names_in_the_module_s_order(calc: Instance) -> None:
    names = ["add", "subtract", "memory", "counter", "fixed", "table", "__data_end", "odd name!", "", "get", "keys"]
    assert list(calc.exports) == names
    assert len(calc.exports) == 11
    assert "add" in calc.exports
    assert "ad" not in calc.exports
    assert set(dir(calc.exports)) == {*names} - {"odd name!", ""}
    assert repr(calc.exports) == f"<Exports of calc.wasm: {', '.join(names)}>"


def test_what_things_say_of_themselves(calc: Instance) -> None:
    assert repr(calc) == "<Instance of calc.wasm on fake-a>"
    assert [repr(calc.exports[name]) for name in ("counter", "fixed", "table")] == [
        "<Global 'counter' mutable global of type i32>",
        "<Global 'fixed' immutable global of type i64>",
        "<Table 'table' table of 3 or more elements of type funcref>",
    ]


# What there is not


def test_a_missing_export_lists_what_there_is_and_suggests(calc: Instance) -> None:
    with pytest.raises(MissingExport) as missing:
        calc.exports.substract(1, 2)
    assert str(missing.value) == (
        "calc.wasm has no export 'substract'; did you mean 'subtract'?\n"
        "It exports add (function), subtract (function), memory (memory), counter (global), fixed (global), "
        "table (table), __data_end (global), odd name! (function),  (function), get (function), keys (function)"
    )
    with pytest.raises(MissingExport, match=r"^calc\.wasm has no export 'zzz'\nIt exports add"):
        calc.exports["zzz"]


def test_it_is_an_attribute_error_and_a_key_error(calc: Instance) -> None:
    assert not hasattr(calc.exports, "nope")
    assert getattr(calc.exports, "nope", 5) == 5
    with pytest.raises(AttributeError):
        _ = calc.exports.nope
    with pytest.raises(KeyError):
        _ = calc.exports["nope"]


def test_names_that_are_no_names(calc: Instance) -> None:
    with pytest.raises(KeyError, match=r"^calc\.wasm has no export 0\nIt exports add"):
        calc.exports[0]  # type: ignore[index]


class TestWithinAClass:
    def test_python_s_name_mangling_is_explained(self, calc: Instance) -> None:
        with pytest.raises(MissingExport) as missing:
            _ = calc.exports.__data_end
        assert str(missing.value).splitlines()[0] == (
            "calc.wasm has no export '_TestWithinAClass__data_end'; within a class Python changes such names: "
            "say exports['__data_end']"
        )
        assert calc.exports["__data_end"].value == 1024


def test_many_exports_are_not_all_listed(fake: Connection) -> None:
    instance = make(fake, fake_engine.module({f"f{number}": function(" -> ", RETURN) for number in range(25)}))
    with pytest.raises(MissingExport) as missing:
        instance.exports["other"]
    listed = ", ".join(f"f{number} (function)" for number in range(20))
    assert str(missing.value) == f"m.wat has no export 'other'\nIt exports {listed} and 5 more"


def test_no_exports_at_all(fake: Connection) -> None:
    instance = make(fake, fake_engine.module())
    with pytest.raises(MissingExport) as missing:
        instance.exports["add"]
    assert str(missing.value) == "m.wat has no export 'add': it exports nothing"
    assert (list(instance.exports), len(instance.exports)) == ([], 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory", "memory of 1 or more pages"),
        ("counter", "mutable global of type i32"),
        ("fixed", "immutable global of type i64"),
        ("table", "table of 3 or more elements of type funcref"),
    ],
)
def test_what_is_no_function_cannot_be_called(calc: Instance, name: str, said: str) -> None:
    for arguments in ((), (1, 2)):
        with pytest.raises(TypeError) as refused:
            calc.exports[name](*arguments)
        article = "an" if said[0] in "aeiou" else "a"
        assert str(refused.value) == f"{name!r} of calc.wasm is {article} {said}, not a function"


# The memory


def test_the_memory_is_the_exported_one(fake: Connection) -> None:
    for names in (["memory"], ["heap"], ["stack", "memory"]):
        instance = make(fake, fake_engine.module({name: memory(1) for name in names}))
        assert instance.memory is instance.exports["memory" if "memory" in names else names[0]]


def test_or_the_imported_one(fake: Connection) -> None:
    given = Memory(1)
    wasm = fake_engine.module({}, [("env", "memory", ["memory", 1, None])])
    assert make(fake, wasm, {"env": {"memory": given}}).memory is given


def test_no_memory_or_a_choice(fake: Connection) -> None:
    with pytest.raises(AttributeError) as refused:
        _ = make(fake, fake_engine.module()).memory
    assert str(refused.value) == (
        "m.wat neither exports nor imports a memory; name the one that is meant: instance.exports['...']"
    )
    with pytest.raises(AttributeError) as refused:
        _ = make(fake, fake_engine.module({"a": memory(1), "b": memory(1)})).memory
    assert str(refused.value) == ("m.wat exports 2 memories: a, b; name the one that is meant: instance.exports['...']")


# Globals


def test_globals_keep_their_bits(native: Connection) -> None:
    from pytest_wasmer.wasm.values import f32_bits, f32_from_bits, f64_bits, f64_from_bits

    exports = make(native, WAT).exports
    assert (exports.i32.value, exports.i64.value, exports.fixed.value) == (-1, 2**63 - 1, 7)
    assert f32_bits(exports.f32.value) == 0x7FC12345
    assert f64_bits(exports.f64.value) == 0xFFF4000000000001
    exports.i32.value, exports.i64.value = 2**32 - 2, -(2**63)
    exports.f32.value, exports.f64.value = f32_from_bits(0xFFC00001), f64_from_bits(0x7FF0000000000001)
    assert (exports.i32.value, exports.i64.value) == (-2, -(2**63))
    assert f32_bits(exports.f32.value) == 0xFFC00001
    assert f64_bits(exports.f64.value) == 0x7FF0000000000001


def test_an_immutable_global_cannot_be_written(native: Connection) -> None:
    exports = make(native, WAT).exports
    with pytest.raises(AttributeError) as refused:
        exports.fixed.value = 8
    assert str(refused.value) == "global 'fixed' of m.wat is immutable (i32): it cannot be set"
    assert exports.fixed.value == 7


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            2**32,
            OverflowError,
            "the value of i32 (mutable global of type i32) must be in -2147483648 .. 4294967295, not 4294967296",
        ),
        (1.5, TypeError, "the value of i32 (mutable global of type i32) must be an int, not 1.5 (float)"),
        (None, TypeError, "the value of i32 (mutable global of type i32) must be an int, not None (NoneType)"),
    ],
    ids=["range", "float", "none"],
)
def test_values_that_do_not_fit_a_global(native: Connection, value: Any, error: type[Exception], message: str) -> None:
    exports = make(native, WAT).exports
    with pytest.raises(error) as refused:
        exports.i32.value = value
    assert str(refused.value) == message
    assert exports.i32.value == -1


def test_references_do_not_cross(native: Connection) -> None:
    reference = make(native, WAT).exports.reference
    with pytest.raises(TypeError) as refused:
        _ = reference.value
    assert str(refused.value) == (
        "'reference' of m.wat is a mutable global of type funcref: the engine does not pass references to Python"
    )
    with pytest.raises(TypeError) as refused:
        reference.value = None
    assert str(refused.value) == (
        "'reference' of m.wat is a mutable global of type funcref: the engine does not take references from Python"
    )


def test_a_vector_global(capable: Connection) -> None:
    wat = '(module (global (export "g") (mut v128) (v128.const i64x2 1 2)))'
    variable_ = make(capable, wat).exports.g
    assert variable_.value == 1 + (2 << 64)
    variable_.value = 2**128 - 1
    assert variable_.value == 2**128 - 1
