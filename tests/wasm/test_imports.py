"""Imports that are missing, misspelt or of another type: each message names the import and what to give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.wasm.errors import LinkError
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.variables import Global
from tests import fake_engine
from tests.fake_engine import function, memory, table, variable
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

WANTED: dict[str, list[Any]] = {
    "log": ["func", ["i32", "i32"], []],
    "now": ["func", [], ["i64"]],
    "memory": ["memory", 1, 4],
    "counter": ["global", "i64", True],
    "limit": ["global", "f32", False],
    "table": ["table", "funcref", 2, None],
}
NEEDY = fake_engine.module({}, [("env", name, type_) for name, type_ in WANTED.items()])


def one(name: str) -> bytes:
    return fake_engine.module({}, [("env", name, WANTED[name])])


def refusal(fake: Connection, wasm: bytes, imports: Any) -> str:
    with pytest.raises(LinkError) as refused:
        load(fake, wasm, "app.wasm").instantiate(imports)
    return str(refused.value)


@pytest.mark.parametrize("imports", [None, {}, {"env": {}}, {"other": {"log": print}}])
def test_all_that_is_missing_is_listed(fake: Connection, imports: Any) -> None:
    assert refusal(fake, NEEDY, imports) == (
        "app.wasm imports what it is not given:\n"
        "    env.log: function (i32, i32) -> ()\n"
        "    env.now: function () -> (i64)\n"
        "    env.memory: memory of 1 to 4 pages\n"
        "    env.counter: mutable global of type i64\n"
        "    env.limit: immutable global of type f32\n"
        "    env.table: table of 2 or more elements of type funcref\n"
        "Give it by imports={'env': {'log': lambda *arguments: ...}}"
    )


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("log", "lambda *arguments: ..."),
        ("memory", "Memory(1, maximum=4)"),
        ("counter", 'Global("i64", 0, mutable=True)'),
        ("limit", 'Global("f32", 0)'),
        ("table", "another_instance.exports.table"),
    ],
)
def test_the_last_line_is_one_to_type(fake: Connection, name: str, remedy: str) -> None:
    assert refusal(fake, one(name), {}).splitlines()[-1] == f"Give it by imports={{'env': {{{name!r}: {remedy}}}}}"


def test_a_misspelt_field(fake: Connection) -> None:
    assert refusal(fake, one("log"), {"env": {"lug": print, "now": print}}) == (
        "app.wasm imports what it is not given:\n"
        "    env.log: function (i32, i32) -> ()  (did you mean 'log' by 'lug'?)\n"
        "Give it by imports={'env': {'log': lambda *arguments: ...}}"
    )


def test_a_misspelt_module(fake: Connection) -> None:
    assert refusal(fake, one("log"), {"emv": {"log": print}}) == (
        "app.wasm imports what it is not given:\n"
        "    env.log: function (i32, i32) -> ()  (did you mean 'env' by 'emv'?)\n"
        "Give it by imports={'env': {'log': lambda *arguments: ...}}"
    )


def test_a_misspelt_export_of_another_instance(fake: Connection) -> None:
    library = make(fake, fake_engine.module({"logs": function("i32 i32 -> ", [["return"]])}))
    assert "(did you mean 'log' by 'logs'?)" in refusal(fake, one("log"), {"env": library})
    assert "(did you mean 'log' by 'logs'?)" in refusal(fake, one("log"), {"env": library.exports})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "log",
            7,
            "import env.log is a function (i32, i32) -> (), given 7 (int)\n"
            "Give a Python function, or a function that another instance exports.",
        ),
        (
            "log",
            None,
            "import env.log is a function (i32, i32) -> (), given None (NoneType)\n"
            "Give a Python function, or a function that another instance exports.",
        ),
        (
            "memory",
            bytearray(3),
            "import env.memory is a memory of 1 to 4 pages, given bytearray(b'\\x00\\x00\\x00') (bytearray)\n"
            "Give Memory(1, maximum=4), or a memory that another instance exports.",
        ),
        (
            "counter",
            7,
            "import env.counter is a mutable global of type i64, given 7 (int)\n"
            'Give Global("i64", value, mutable=True), or a global that another instance exports.',
        ),
        (
            "limit",
            1.5,
            "import env.limit is an immutable global of type f32, given 1.5 (float)\n"
            'Give Global("f32", value), or a global that another instance exports.',
        ),
        (
            "table",
            [],
            "import env.table is a table of 2 or more elements of type funcref, given [] (list)\n"
            "Give a table that another instance exports: the wasmer wheels cannot make tables.",
        ),
        (
            "memory",
            abs,
            "import env.memory is a memory of 1 to 4 pages, given <built-in function abs> (builtin_function_or_method)\n"  # noqa: E501
            "Give Memory(1, maximum=4), or a memory that another instance exports.",
        ),
    ],
    ids=["int-for-function", "none-for-function", "bytes", "int-for-global", "float-for-global", "list", "callable"],
)
def test_what_is_of_no_kind_that_fits(fake: Connection, name: str, given: object, message: str) -> None:
    assert refusal(fake, one(name), {"env": {name: given}}) == f"app.wasm: {message}"


REMEDIES = {
    "log": "Give a Python function, or a function that another instance exports.",
    "memory": "Give Memory(1, maximum=4), or a memory that another instance exports.",
    "counter": 'Give Global("i64", value, mutable=True), or a global that another instance exports.',
    "limit": 'Give Global("f32", value), or a global that another instance exports.',
    "table": "Give a table that another instance exports: the wasmer wheels cannot make tables.",
}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("log", "add", "a function (i32, i32) -> (), given a function (i32, i32) -> (i32)"),
        ("log", "memory", "a function (i32, i32) -> (), given a memory of 1 or more pages"),
        ("memory", "add", "a memory of 1 to 4 pages, given a function (i32, i32) -> (i32)"),
        ("memory", "counter", "a memory of 1 to 4 pages, given a mutable global of type i32"),
        ("counter", "counter", "a mutable global of type i64, given a mutable global of type i32"),
        ("counter", "fixed", "a mutable global of type i64, given an immutable global of type i64"),
        ("limit", "float", "an immutable global of type f32, given a mutable global of type f32"),
        ("table", "memory", "a table of 2 or more elements of type funcref, given a memory of 1 or more pages"),
        ("memory", "table", "a memory of 1 to 4 pages, given a table of 3 or more elements of type funcref"),
    ],
)
def test_exports_of_another_type(fake: Connection, name: str, given: str, message: str) -> None:
    library = make(
        fake,
        fake_engine.module(
            {
                "add": function("i32 i32 -> i32", ["sum"]),
                "memory": memory(1),
                "counter": variable("i32", 0),
                "fixed": variable("i64", 0, mutable=False),
                "float": variable("f32", 0),
                "table": table(3),
            }
        ),
    )
    assert refusal(fake, one(name), {"env": {name: library.exports[given]}}) == (
        f"app.wasm: import env.{name} is {message}\n{REMEDIES[name]}"
    )


def test_what_the_host_made_of_another_type(fake: Connection) -> None:
    assert refusal(fake, one("counter"), {"env": {"counter": Global("i64", 5)}}) == (
        "app.wasm: import env.counter is a mutable global of type i64, given an immutable global of type i64\n"
        + REMEDIES["counter"]
    )
    assert refusal(fake, one("counter"), {"env": {"counter": Memory(1)}}) == (
        "app.wasm: import env.counter is a mutable global of type i64, given a memory of 1 or more pages\n"
        + REMEDIES["counter"]
    )


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        ({"env": print}, "imports['env'] is <built-in function print> (builtin_function_or_method)"),
        ({"env": 5}, "imports['env'] is 5 (int)"),
        ({"env": None}, "imports['env'] is None (NoneType)"),
        ({"env": ["log"]}, "imports['env'] is ['log'] (list)"),
        ({"env": "log"}, "imports['env'] is 'log' (str)"),
        ([print], "imports is [<built-in function print>] (list)"),
        (print, "imports is <built-in function print> (builtin_function_or_method)"),
    ],
    ids=["function", "int", "none", "list", "str", "list-for-all", "function-for-all"],
)
def test_imports_of_the_wrong_shape(fake: Connection, imports: Any, message: str) -> None:
    with pytest.raises((LinkError, TypeError)) as refused:
        load(fake, one("log"), "app.wasm").instantiate(imports)
    assert str(refused.value).startswith(f"app.wasm: {message}")


def test_an_export_may_be_called_exports(fake: Connection) -> None:
    """As may one that has the name of a mapping's method."""
    names = ["exports", "get", "keys", "items"]
    library = make(fake, fake_engine.module({name: function(" -> i32", [["return", 5]]) for name in names}))
    wanted: list[tuple[str, str, Any]] = [("library", name, ["func", [], ["i32"]]) for name in names]
    wasm = fake_engine.module({"call": function(" -> i32", [["host", 0]])}, wanted)
    for given in (library, library.exports):
        assert make(fake, wasm, {"library": given}).exports.call() == 5


def test_nothing_is_made_or_registered_for_a_refused_instance(fake: Connection) -> None:
    wasm = fake_engine.module({}, [("env", "memory", ["memory", 1, None]), ("env", "log", ["func", [], []])])
    given = Memory(1)
    given.write(0, b"mine")
    with pytest.raises(LinkError):
        make(fake, wasm, {"env": {"memory": given}})
    assert given.grow.__self__ is given
    assert given._waiting is not None, "it must stay free for another backend"


def test_the_same_on_real_compilers(native: Connection) -> None:
    wat = '(module (import "env" "f" (func (param i32) (result i64))) (import "env" "g" (global (mut i32))))'
    fine: dict[str, Any] = {"f": lambda value: value, "g": Global("i32", 1, mutable=True)}
    for name, wrong in (("f", 5), ("g", 5), ("g", Global("i32", 1)), ("g", Memory(1))):
        with pytest.raises(LinkError, match=rf"^m\.wat: import env\.{name} is a "):
            make(native, wat, {"env": {**fine, name: wrong}})
    for name in fine:
        with pytest.raises(LinkError, match=rf"^m\.wat imports what it is not given:\n    env\.{name}: "):
            make(native, wat, {"env": {key: value for key, value in fine.items() if key != name}})
    make(native, wat, {"env": fine})
