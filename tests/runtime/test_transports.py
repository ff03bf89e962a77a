"""Isolation is a transport: what an engine does looks the same through the pipe and by direct call."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.engines.api import HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.runtime.direct import DirectConnection
from pytest_wasmer.runtime.errors import EngineFault
from pytest_wasmer.runtime.host import NESTING_LIMIT
from pytest_wasmer.runtime.pipe import MAP_ROWS, PipeConnection
from tests.fake_engine import function, memory, module, table, variable
from tests.runtime.workbench import FAKE, instance, load, losses, outputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.runtime.pool import EnginePool

VALUES = {
    "i32": [-(2**31), -1, 0, 2**31 - 1],
    "i64": [-(2**63), -1, 0, 2**63 - 1],
    "f32": [0x80000000, 0x7FC00001, 0x7F800001, 1],
    "f64": [1 << 63, 0x7FF8000000000001, 0x7FF0000000000001, 1],
    "v128": [0, 2**64, 2**128 - 1],
}
EVERYTHING = module(
    imports=[("env", "h", ["func", ["i32"], ["i32"]])],
    exports={
        "sum": function("i32 i32 -> i32", ["sum"]),
        "none": function("->", []),
        "two": function("-> i32 i64", [["return", -1, -2]]),
        "trap": function("i32 -> i32", [["trap", "INTEGER_OVERFLOW"]]),
        "panic": function("->", [["panic", "assertion failed"]]),
        "fail": function("->", [["fail", "oh no"]]),
        "host": function("i32 -> i32", ["host"]),
        "m": memory(1, 2),
        "g": variable("i64", -1),
        "t": table(3),
    },
    name="everything",
)
NAMES = ["sum", "none", "two", "trap", "panic", "fail", "host", "m", "g", "t"]


class Everything:
    """An instance of it, with the handles of its exports."""

    def __init__(self, connection: Connection, host: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
        self.connection = connection
        self.host = Host(host)
        self.module, self.description = connection.compile(EVERYTHING, "compile")
        number = connection.hosts.register(self.host)
        self.instance = connection.instantiate(self.module, [(1, number)], "instantiation")

    def __getitem__(self, name: str) -> int:
        return self.instance + 1 + NAMES.index(name)

    def call(self, name: str, *values: int) -> tuple[int, ...]:
        types = dict(self.description[2])[name]
        return self.connection.caller(self[name], types[1], types[2], f"call of {name}")(values)

    def map(self, name: str, calls: list[tuple[int, ...]]) -> list[Any]:
        types = dict(self.description[2])[name]
        return self.connection.mapper(self[name], types[1], types[2], f"map of {name}")(calls)


class Host:
    name = "env.h"
    type = ("func", ("i32",), ("i32",))

    def __init__(self, work: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
        self.work = work

    def invoke(self, values: tuple[int, ...]) -> tuple[int, ...]:
        return self.work(values)


@pytest.fixture
def everything(fake: Connection) -> Everything:
    return Everything(fake, lambda values: (values[0] + 1,))


def test_where_it_is(pool: EnginePool, isolation: str) -> None:
    connection = pool.connection(FAKE)
    assert type(connection) is (PipeConnection if isolation == "process" else DirectConnection)
    assert connection.backend == "fake-a"


def test_one_connection_per_backend(pool: EnginePool) -> None:
    assert pool.connection(FAKE) is pool.connection(FAKE)


def test_description(everything: Everything) -> None:
    assert everything.description == (
        "everything",
        [("env", "h", ("func", ("i32",), ("i32",)))],
        [
            ("sum", ("func", ("i32", "i32"), ("i32",))),
            ("none", ("func", (), ())),
            ("two", ("func", (), ("i32", "i64"))),
            ("trap", ("func", ("i32",), ("i32",))),
            ("panic", ("func", (), ())),
            ("fail", ("func", (), ())),
            ("host", ("func", ("i32",), ("i32",))),
            ("m", ("memory", 1, 2)),
            ("g", ("global", "i64", True)),
            ("t", ("table", "funcref", 3, None)),
        ],
    )


def test_results(everything: Everything) -> None:
    assert everything.call("sum", 1, 2) == (3,)
    assert everything.call("none") == ()
    assert everything.call("two") == (-1, -2)
    assert everything.call("host", 41) == (42,)


@pytest.mark.parametrize("name", VALUES)
def test_values_of_every_type(pool: EnginePool, name: str) -> None:
    """As arguments, as results, and through a host function."""
    connection = pool.connection(FAKE)
    wasm = module(
        imports=[("env", "h", ["func", [name, name], [name, name]])],
        exports={"swap": function(f"{name} {name} -> {name} {name}", ["host"])},
    )
    host = Host(lambda values: (values[1], values[0]))
    host.type = ("func", (name, name), (name, name))  # type: ignore[assignment]
    handle, _ = connection.compile(wasm, "compile")
    first = connection.instantiate(handle, [(1, connection.hosts.register(host))], "instantiation")
    rows = [(value, other) for value in VALUES[name] for other in VALUES[name]]
    expected = [(other, value) for value, other in rows]
    call = connection.caller(first + 1, (name, name), (name, name), "call")
    assert [call(row) for row in rows] == expected
    assert connection.mapper(first + 1, (name, name), (name, name), "map")(rows) == expected
    for value in VALUES[name]:
        variable = connection.make_global(name, True, value, "make")
        assert connection.get_global(variable, "get") == value
        connection.set_global(variable, VALUES[name][0], "set")
        assert connection.get_global(variable, "get") == VALUES[name][0]


def test_a_trap(everything: Everything) -> None:
    with pytest.raises(Trapped) as trapped:
        everything.call("trap", 1)
    assert (trapped.value.kind, trapped.value.text) == ("INTEGER_OVERFLOW", "integer_overflow on fake-a")


def test_a_refusal(everything: Everything) -> None:
    with pytest.raises(Refused) as refused:
        everything.call("panic")
    assert (refused.value.stage, refused.value.text) == ("panic", "assertion failed")
    with pytest.raises(Refused) as refused:
        everything.connection.compile(module(refuse={"fake-a": ("compile", "no")}), "compile")
    assert (refused.value.stage, refused.value.text) == ("compile", "no")


def test_out_of_bounds(everything: Everything) -> None:
    connection, m = everything.connection, everything["m"]
    for work in (lambda: connection.read(m, 65535, 2, "read"), lambda: connection.write(m, 65535, b"ab", "write")):
        with pytest.raises(OutOfBounds) as error:
            work()
        assert error.value.size == 65536


def test_memory_global_table(everything: Everything) -> None:
    connection = everything.connection
    connection.write(everything["m"], 65534, b"ab", "write")
    assert connection.read(everything["m"], 65533, 3, "read") == b"\0ab"
    assert connection.read(everything["m"], 0, 0, "read") == b""
    assert connection.grow(everything["m"], 1, "grow") == 1
    assert connection.memory_pages(everything["m"], "size") == 2
    with pytest.raises(Refused, match="the fake memory is full"):
        connection.grow(everything["m"], 1, "grow")
    assert connection.get_global(everything["g"], "get") == -1
    connection.set_global(everything["g"], 2**63 - 1, "set")
    assert connection.get_global(everything["g"], "get") == 2**63 - 1
    assert connection.table_size(everything["t"], "size") == 3
    assert connection.serialize(everything.module, "serialize") == b"fake artifact of fake-a" + EVERYTHING


def test_an_unexpected_exception(everything: Everything) -> None:
    """The engine is still there."""
    for work in (
        lambda: everything.call("fail"),
        lambda: everything.map("fail", [()]),
        lambda: everything.connection.table_size(12345, "size"),
    ):
        with pytest.raises(EngineFault, match=r"^the fake-a engine failed: (ValueError: oh no|KeyError: 12345)"):
            work()
    assert everything.call("sum", 1, 2) == (3,)


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_map(everything: Everything, count: int) -> None:
    rows = [(number, 1) for number in range(count)]
    assert everything.map("sum", rows) == [(number + 1,) for number in range(count)]
    assert everything.map("none", [()] * count) == [()] * count


def test_map_of_more_rows_than_a_message_takes(everything: Everything) -> None:
    count = 2 * MAP_ROWS + 1
    outcomes = everything.map("sum", [(number, 1) for number in range(count)])
    assert outcomes == [(number + 1,) for number in range(count)]


def test_traps_in_a_map(pool: EnginePool) -> None:
    steps = {"fake-a": [["trap", "UNREACHABLE"]]}
    made = load(pool, module(exports={"f": function("i32 -> i32", steps)})).instantiate()
    outcomes = made.exports.f.map([(1,), (2,)])
    assert [str(outcome) for outcome in outcomes] == ["unreachable on fake-a"] * 2


# Exceptions of host functions


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, Falsy])
@pytest.mark.parametrize("by", ["call", "map"])
def test_the_very_exception_of_a_host_function(fake: Connection, kind: type[BaseException], by: str) -> None:
    error = kind("of the host function")

    def host(values: tuple[int, ...]) -> tuple[int, ...]:
        if values[0]:
            raise error
        return values

    everything = Everything(fake, host)
    with pytest.raises(kind) as raised:
        everything.call("host", 1) if by == "call" else everything.map("host", [(0,), (1,)])
    assert raised.value is error
    assert everything.call("host", 0) == (0,)
    assert fake.hosts.depth == 0
    assert fake.hosts._raised == {}


@pytest.mark.parametrize("depth", [1, 2, 20, 50])
def test_it_passes_through_many_calls(fake: Connection, depth: int) -> None:
    error = LookupError("at the bottom")
    depths = []

    def host(values: tuple[int, ...]) -> tuple[int, ...]:
        depths.append(fake.hosts.depth)
        if values[0] == depth:
            raise error
        return everything.call("host", values[0] + 1)

    everything = Everything(fake, host)
    with pytest.raises(LookupError) as raised:
        everything.call("host", 1)
    assert raised.value is error
    assert depths == list(range(1, depth + 1))
    assert fake.hosts.depth == 0
    assert everything.call("sum", 1, 2) == (3,)


def test_a_host_function_may_catch_what_came_from_below(fake: Connection) -> None:
    def host(values: tuple[int, ...]) -> tuple[int, ...]:
        if values[0]:
            raise LookupError
        try:
            return everything.call("host", 1)
        except LookupError:
            try:
                everything.call("trap", 1)
            except Trapped:
                return (7,)
        raise AssertionError

    everything = Everything(fake, host)
    assert everything.call("host", 0) == (7,)


def test_nesting_has_a_limit(pool: EnginePool) -> None:
    """The same over both transports, and before Python's own."""
    made = instance(pool, EVERYTHING, h=lambda value: made.exports.host(value + 1))
    with pytest.raises(RecursionError) as error:
        made.exports.host(0)
    assert str(error.value) == (f"Wasm and Python call each other more than {NESTING_LIMIT} deep, last through env.h")
    assert losses(pool) == []
    assert made.exports.sum(1, 2) == 3


def test_nesting_with_a_host_function_that_has_frames_of_its_own(pool: EnginePool) -> None:
    """Python's limit may come first then: also a RecursionError, and also not the end of the engine."""

    def nested(value: int, frames: int) -> int:
        if frames:
            return nested(value, frames - 1)
        answer: int = made.exports.host(value + 1)
        return answer

    made = instance(pool, EVERYTHING, h=lambda value: nested(value, 5))
    with pytest.raises(RecursionError):
        made.exports.host(0)
    assert load(pool, EVERYTHING).instantiate({"env": {"h": int}}).exports.sum(1, 2) == 3
    assert pool.connection(FAKE).hosts.depth == 0


def test_a_host_function_whose_instance_is_gone(fake: Connection) -> None:
    everything = Everything(fake, lambda values: values)
    del everything.host
    with pytest.raises(ReferenceError, match="Wasm called a host function whose instance is gone"):
        everything.call("host", 1)
    assert everything.call("sum", 1, 2) == (3,)


def test_a_start_function_that_calls_the_host(pool: EnginePool) -> None:
    wasm = module(imports=[("env", "h", ["func", [], []])], start=["host"])
    calls = []
    load(pool, wasm).instantiate({"env": {"h": lambda: calls.append(1)}})
    assert calls == [1]
    error = LookupError("in the start function")

    def host() -> None:
        raise error

    with pytest.raises(LookupError) as raised:
        load(pool, wasm).instantiate({"env": {"h": host}})
    assert raised.value is error


# The direct transport only


@pytest.mark.parametrize("isolation", ["none"])
def test_an_interrupt_in_the_engine_stays_what_it_is(pool: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = pool.connection(FAKE)

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection._executor._engine, "compile", interrupted)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        connection.compile(EVERYTHING, "compile")


@pytest.mark.parametrize("isolation", ["none"])
def test_an_unknown_token(pool: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = pool.connection(FAKE)

    def raising(*arguments: object) -> None:
        raise HostRaised(99)

    monkeypatch.setattr(connection._executor._engine, "compile", raising)  # type: ignore[attr-defined]
    with pytest.raises(HostRaised):
        connection.compile(EVERYTHING, "compile")


@pytest.mark.parametrize("isolation", ["none"])
def test_the_engine_is_in_this_process(pool: EnginePool, capfd: pytest.CaptureFixture[str]) -> None:
    wasm = module(exports={"say": function("->", [["print", "from the engine"]])})
    before = list(sys.path)
    load(pool, wasm).instantiate().exports.say()
    assert capfd.readouterr().out == "from the engine"
    assert outputs(pool) == {}
    assert losses(pool) == []
    assert sys.path[: len(before)] == before
    assert os.getpid()


# Native code


ADD = """(module
  (import "env" "h" (func $h (param i32) (result i32)))
  (memory (export "m") 1)
  (global (export "g") (mut i64) (i64.const -1))
  (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
  (func (export "div") (param i32 i32) (result i32) local.get 0 local.get 1 i32.div_s)
  (func (export "nop"))
  (func (export "store") (param i32) local.get 0 i32.const 1 i32.store)
  (func (export "host") (param i32) (result i32) local.get 0 call $h)
  (func (export "neg") (param f64) (result f64) local.get 0 f64.neg))"""


def test_a_native_engine(native: Connection) -> None:
    """Results, traps, and the very exception of a host function, with frames of native code in between."""
    error = LookupError("at the bottom")

    def host(values: tuple[int, ...]) -> tuple[int, ...]:
        if values[0] == 40:
            raise error
        return call_host((values[0] + 1,))

    kept = Host(host)
    handle, (_, _, exports) = native.compile(native.convert(ADD, "convert"), "compile")
    first = native.instantiate(handle, [(1, native.hosts.register(kept))], "instantiation")
    handles = {name: first + 1 + index for index, (name, _) in enumerate(exports)}
    types = dict(exports)

    def call(name: str, *values: int) -> tuple[int, ...]:
        return native.caller(handles[name], types[name][1], types[name][2], "call")(values)

    def call_host(values: tuple[int, ...]) -> tuple[int, ...]:
        return call("host", *values)

    assert call("add", 2**31 - 1, 1) == (-(2**31),)
    assert call("nop") == ()
    assert call("neg", 0x7FF0000000000001) == (0xFFF0000000000001,)
    with pytest.raises(Trapped) as trapped:
        call("div", 1, 0)
    assert trapped.value.kind == "INTEGER_DIVIDE_BY_ZERO"
    with pytest.raises(Trapped) as trapped:
        call("store", 65533)
    assert trapped.value.kind == "MEMORY_OUT_OF_BOUNDS"
    with pytest.raises(LookupError) as raised:
        call("host", 0)
    assert raised.value is error
    assert call("add", 1, 2) == (3,)
    outcomes = native.mapper(handles["div"], ("i32", "i32"), ("i32",), "map")([(6, 2), (1, 0), (8, 2)])
    assert [getattr(outcome, "kind", outcome) for outcome in outcomes] == [(3,), "INTEGER_DIVIDE_BY_ZERO", (4,)]
