"""What lives as long as what: the wheels keep nothing alive that an instance imports, the plugin must.

On a real engine a mistake here is a use-after-free: wrong values, or a lost engine process.
"""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm.errors import LinkError
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.traps import Trap
from pytest_wasmer.wasm.variables import Global
from tests import fake_engine
from tests.fake_engine import function, memory, table, variable
from tests.threads import in_thread
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.instance import Instance

direct = pytest.mark.parametrize("isolation", ["none"], indirect=True)
isolated = pytest.mark.parametrize("isolation", ["process"], indirect=True)

EXPORTER = """
(module
  (import "env" "host" (func $host (result i32)))
  (type $getter (func (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\\2a\\00\\00\\00")
  (global $own (mut i32) (i32.const 77))
  (global (export "global") (mut i64) (i64.const 1234567890123))
  (table (export "table") 4 funcref)
  (elem (i32.const 0) $own $load $host)
  (func $own (export "own") (result i32) global.get $own)
  (func $load (export "load") (result i32) (i32.load (i32.const 8)))
  (func (export "ask") (result i32) (call $host))
  (func (export "bump") (global.set $own (i32.add (global.get $own) (i32.const 1)))))
"""
IMPORTER = """
(module
  (import "a" "own" (func $own (result i32)))
  (import "a" "load" (func $load (result i32)))
  (import "a" "ask" (func $ask (result i32)))
  (import "a" "bump" (func $bump))
  (import "a" "memory" (memory 1))
  (import "a" "global" (global $global (mut i64)))
  (import "a" "table" (table 4 funcref))
  (type $getter (func (result i32)))
  (func (export "own") (result i32) (call $own))
  (func (export "load") (result i32) (call $load))
  (func (export "ask") (result i32) (call $ask))
  (func (export "bump") (call $bump))
  (func (export "peek") (result i32) (i32.load (i32.const 8)))
  (func (export "global") (result i64) (global.get $global))
  (func (export "at") (param i32) (result i32) (call_indirect (type $getter) (local.get 0)))
  (export "again" (func $own)) (export "memory" (memory 0)) (export "variable" (global 0)))
"""
JUNK = """
(module
  (memory (export "memory") 1) (data (i32.const 8) "\\63\\00\\00\\00")
  (global $g (export "g") (mut i32) (i32.const 99)) (global (mut i64) (i64.const 99)) (table 4 funcref)
  (elem (i32.const 0) $f $f $f $f)
  (func $f (export "f") (result i32) global.get $g))
"""
TABLE = """
(module
  (type $getter (func (result i32)))
  (table (export "table") 8 funcref)
  (func (export "at") (param i32) (result i32) (call_indirect (type $getter) (local.get 0))))
"""
FILLER = """
(module
  (import "a" "table" (table 8 funcref))
  (import "env" "host" (func $host (result i32)))
  (memory 1) (data (i32.const 8) "\\2a\\00\\00\\00")
  (global $own (mut i32) (i32.const 77))
  (func $f (result i32) global.get $own)
  (func $g (result i32) (i32.load (i32.const 8)))
  (elem (i32.const 0) $f $g $host))
"""


def allocate_others(connection: Connection) -> list[Instance]:
    """What takes the place of whatever was freed."""
    gc.collect()
    module = load(connection, JUNK)
    others = [module.instantiate() for _ in range(20)]
    assert {other.exports.f() for other in others} == {99}
    return others


@pytest.fixture
def without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# What is imported lives as long as the importer


@isolated
def test_an_importer_keeps_what_it_imports(native: Connection) -> None:
    exporter = make(native, EXPORTER, {"env": {"host": lambda: 5}})
    exports = make(native, IMPORTER, {"a": exporter.exports}).exports
    seen = weakref.ref(exporter)
    del exporter
    others = allocate_others(native)
    assert seen() is None, "the test would prove nothing"
    assert (exports.own(), exports.load(), exports.ask()) == (77, 42, 5)
    assert (exports.peek(), exports["global"]()) == (42, 1234567890123)
    assert [exports.at(index) for index in range(3)] == [77, 42, 5]
    exports.bump()
    assert exports.own() == 78
    assert len(others) == 20


SINGLE = {
    "function": ("own", "(func $x (result i32))", "(call $x)", 77),
    "host-function": ("ask", "(func $x (result i32))", "(call $x)", 5),
    "memory": ("memory", "(memory 1)", "(i32.load (i32.const 8))", 42),
    "global": ("global", "(global $x (mut i64))", "(i32.wrap_i64 (global.get $x))", 1234567890123 - (287 << 32)),
    "table": ("table", "(table 4 funcref)", "(call_indirect (type $getter) (i32.const 0))", 77),
}


def single(native: Connection, name: str, wanted: str, use: str, exporter: Instance) -> Instance:
    wat = f"""(module (type $getter (func (result i32))) (import "a" "{name}" {wanted})
      (func (export "use") (result i32) {use}))"""
    return make(native, wat, {"a": exporter})


@isolated
@pytest.mark.parametrize(("name", "wanted", "use", "expected"), SINGLE.values(), ids=list(SINGLE))
def test_each_kind_alone_is_enough(native: Connection, name: str, wanted: str, use: str, expected: int) -> None:
    importer = single(native, name, wanted, use, make(native, EXPORTER, {"env": {"host": lambda: 5}}))
    allocate_others(native)
    assert importer.exports.use() == expected


@isolated
@pytest.mark.parametrize(("name", "wanted", "use", "expected"), SINGLE.values(), ids=list(SINGLE))
def test_the_engine_s_side_keeps_it_too(native: Connection, name: str, wanted: str, use: str, expected: int) -> None:
    """Whatever the test process lets go of: a mistake there must not become a use-after-free."""
    exporter = make(native, EXPORTER, {"env": {"host": lambda: 5}})
    importer = single(native, name, wanted, use, exporter)
    native.releases.append(exporter._first)
    allocate_others(native)
    assert importer.exports.use() == expected


@isolated
def test_a_chain_of_importers(native: Connection) -> None:
    exporter: Instance | None = make(native, EXPORTER, {"env": {"host": lambda: 5}})
    first = make(native, IMPORTER, {"a": exporter.exports})  # type: ignore[union-attr]
    wat = """(module (import "b" "again" (func $f (result i32))) (import "b" "memory" (memory 1))
      (import "b" "variable" (global (mut i64)))
      (func (export "f") (result i32) (i32.add (call $f) (i32.load (i32.const 8))))
      (func (export "g") (result i64) (global.get 0)))"""
    last = make(native, wat, {"b": first})
    del exporter, first
    allocate_others(native)
    assert (last.exports.f(), last.exports.g()) == (77 + 42, 1234567890123)


@isolated
@pytest.mark.parametrize(
    ("hold", "use", "expected"),
    [
        (lambda instance: instance.exports.own, lambda held: held(), 77),
        (lambda instance: instance.exports.ask, lambda held: held(), 5),
        (lambda instance: instance.memory, lambda held: held.read_u32(8), 42),
        (lambda instance: instance.exports["global"], lambda held: held.value, 1234567890123),
        (lambda instance: instance.exports.table, lambda held: held.size, 4),
        (lambda instance: instance.exports, lambda held: held.load(), 42),
    ],
    ids=["function", "host", "memory", "global", "table", "exports"],
)
def test_an_export_alone_keeps_its_instance(
    native: Connection, hold: Callable[[Instance], Any], use: Callable[[Any], int], expected: int
) -> None:
    held = hold(make(native, EXPORTER, {"env": {"host": lambda: 5}}))
    allocate_others(native)
    assert use(held) == expected


@isolated
def test_a_reexported_import_keeps_whoever_made_it(native: Connection) -> None:
    exports = make(native, IMPORTER, {"a": make(native, EXPORTER, {"env": {"host": lambda: 5}})}).exports
    again, memory_, variable_ = exports.again, exports.memory, exports.variable
    del exports
    allocate_others(native)
    assert (again(), memory_.read_u32(8), variable_.value) == (77, 42, 1234567890123)


@isolated
def test_what_the_host_made_lives_as_long_as_its_importer(native: Connection) -> None:
    wat = """(module (import "e" "m" (memory 1)) (import "e" "g" (global (mut i64)))
      (func (export "m") (result i32) (i32.load (i32.const 8))) (func (export "g") (result i64) (global.get 0)))"""
    memory_ = Memory(1)
    memory_.write_u32(8, 42)
    instance = make(native, wat, {"e": {"m": memory_, "g": Global("i64", 2**40, mutable=True)}})
    del memory_
    allocate_others(native)
    for _ in range(5):
        make(native, wat, {"e": {"m": Memory(1), "g": Global("i64", 99, mutable=True)}})
    assert (instance.exports.m(), instance.exports.g()) == (42, 2**40)


# Functions that sit in a table of another instance


@isolated
def test_functions_left_in_a_shared_table_stay_callable(native: Connection) -> None:
    owner = make(native, TABLE)
    filler = make(native, FILLER, {"a": owner, "env": {"host": lambda: 5}})
    seen = weakref.ref(filler)
    del filler
    allocate_others(native)
    assert seen() is None
    assert [owner.exports.at(index) for index in range(3)] == [77, 42, 5]


@isolated
def test_also_where_the_table_came_through_another_instance(native: Connection) -> None:
    owner = make(native, TABLE)
    wat = '(module (import "a" "table" (table 8 funcref)) (export "table" (table 0)))'
    between = make(native, wat, {"a": owner})
    make(native, FILLER, {"a": between, "env": {"host": lambda: 5}})
    del between
    allocate_others(native)
    assert [owner.exports.at(index) for index in range(3)] == [77, 42, 5]


KEEPER = """
(module
  (type $getter (func (result i32)))
  (table 8 funcref)
  (global (export "global") (mut funcref) (ref.null func))
  {put}
  (func (export "take") (table.set (i32.const 0) (global.get 0)))
  (func (export "at") (param i32) (result i32) (call_indirect (type $getter) (local.get 0))))
"""


@isolated
def test_also_where_a_function_was_handed_over_in_a_global(native: Connection) -> None:
    keeper = make(native, KEEPER.format(put=""))
    giver = """(module (import "a" "global" (global (mut funcref))) (global $own (mut i32) (i32.const 77))
      (func $f (result i32) global.get $own) (elem declare func $f)
      (func (export "give") (global.set 0 (ref.func $f))))"""
    make(native, giver, {"a": keeper}).exports.give()
    keeper.exports.take()
    allocate_others(native)
    assert keeper.exports.at(0) == 77


@isolated
def test_also_where_a_function_was_handed_over_by_a_call(capable: Connection) -> None:
    """Singlepass has no function with a reference as a parameter."""
    put = '(func (export "put") (param i32 funcref) (table.set (local.get 0) (local.get 1)))'
    keeper = make(capable, KEEPER.format(put=put))
    giver = """(module (import "a" "put" (func $put (param i32 funcref))) (global $own (mut i32) (i32.const 78))
      (func $f (result i32) global.get $own) (elem declare func $f)
      (func (export "give") (call $put (i32.const 1) (ref.func $f))))"""
    make(capable, giver, {"a": keeper}).exports.give()
    allocate_others(capable)
    assert keeper.exports.at(1) == 78


FAILING = {
    "start-trap": "(func $start unreachable) (start $start)",
    "data-segment": '(data (i32.const 65536) "x")',
    "elem-segment": "(elem (i32.const 8) $f)",
    "host-exception": "(func $start (drop (call $host))) (start $start)",
}


@isolated
@pytest.mark.parametrize("failing", FAILING.values(), ids=list(FAILING))
def test_functions_left_by_an_instance_that_could_not_be_made(native: Connection, failing: str) -> None:
    """The specification keeps them (linking.wast); the wheels free them, so the table is not safe to use any more."""

    def host() -> int:
        raise LookupError("mine")

    owner = make(native, TABLE)
    other = make(native, '(module (import "a" "table" (table 8 funcref)) (func (export "f")))', {"a": owner})
    wat = FILLER.rpartition(")")[0].replace(" $host))", "))") + failing + ")"
    with pytest.raises((Trap, LookupError)):
        make(native, wat, {"a": owner, "env": {"host": host}})
    allocate_others(native)
    for use in (lambda: owner.exports.at(0), lambda: owner.exports.table.size, other.exports.f):
        with pytest.raises(WasmError, match=r"cannot be used any more: m\.wat failed to start and may have left "):
            use()
    assert make(native, TABLE).exports.table.size == 8


def broken(native: Connection) -> Instance:
    """An instance whose table holds functions of one that failed to start."""
    owner = make(native, TABLE)
    with pytest.raises(Trap):
        make(native, FILLER[: FILLER.rindex(")")] + FAILING["start-trap"] + ")", {"a": owner, "env": {"host": int}})
    return owner


@isolated
def test_such_a_table_cannot_be_imported_either(native: Connection) -> None:
    owner = broken(native)
    allocate_others(native)
    wat = """(module (import "a" "table" (table 8 funcref)) (type $getter (func (result i32)))
      (func (export "at") (result i32) (call_indirect (type $getter) (i32.const 0))))"""
    with pytest.raises(WasmError, match=r"cannot be used any more: m\.wat failed to start and may have left "):
        make(native, wat, {"a": owner})


@isolated
def test_nor_can_who_imported_a_function_of_its_owner_call_it(native: Connection) -> None:
    owner = make(native, TABLE)
    wat = """(module (import "a" "at" (func $at (param i32) (result i32)))
      (func (export "at") (result i32) (call $at (i32.const 0))) (export "again" (func $at)))"""
    importer = make(native, wat, {"a": owner})
    wat = """(module (import "b" "at" (func $at (result i32))) (func (export "at") (result i32) (call $at)))"""
    next_one = make(native, wat, {"b": importer})
    with pytest.raises(Trap):
        make(native, FILLER[: FILLER.rindex(")")] + FAILING["start-trap"] + ")", {"a": owner, "env": {"host": int}})
    allocate_others(native)
    for call in (importer.exports.at, lambda: importer.exports.again(0), next_one.exports.at):
        with pytest.raises(WasmError, match=r"cannot be used any more: m\.wat failed to start and may have left "):
            call()


WELL_BEFORE = {
    "missing": '(module (import "a" "table" (table 8 funcref)) (import "a" "nope" (func)))',
    "wrong-type": '(module (import "a" "table" (table 8 funcref)) (import "a" "at" (func (param f64))))',
    "engine-s-refusal": '(module (import "a" "table" (table 8 funcref)) (import "env" "m" (memory 2)))',
    "table-too-small": '(module (import "a" "table" (table 9 funcref)))',
}


@pytest.mark.parametrize("wat", WELL_BEFORE.values(), ids=list(WELL_BEFORE))
def test_what_fails_before_anything_runs_leaves_all_usable(native: Connection, wat: str) -> None:
    """Tests of bad imports share their fixtures with tests of good ones."""
    owner = make(native, TABLE)
    with pytest.raises(LinkError):
        make(native, wat, {"a": owner, "env": {"m": Memory(1)}})
    make(native, FILLER, {"a": owner, "env": {"host": lambda: 5}})
    assert [owner.exports.at(index) for index in range(3)] == [77, 42, 5]
    assert owner.exports.table.size == 8


def test_a_start_in_another_thread_leaves_all_usable(fake: Connection) -> None:
    owner = make(fake, fake_engine.module({"table": table(3)}))
    importer = load(fake, fake_engine.module({}, [("a", "table", ["table", "funcref", 3, None])]))
    in_thread(lambda: importer.instantiate({"a": owner}))
    assert owner.exports.table.size == 3


# What is dropped dies


def test_a_dropped_instance_dies_at_once(native: Connection, without_gc: None) -> None:
    instance = make(native, EXPORTER, {"env": {"host": lambda: 5}})
    seen = weakref.ref(instance)
    del instance
    assert seen() is None


USES: dict[str, Callable[[Instance], object]] = {
    "unused": lambda instance: None,
    "call": lambda instance: instance.exports.own(),
    "map": lambda instance: instance.exports.own.map([(), ()]),
    "memory": lambda instance: instance.memory.read(0, 4),
    "global": lambda instance: instance.exports["global"].value,
    "table": lambda instance: instance.exports.table.size,
    "host": lambda instance: instance.exports.ask(),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_its_engine_is_told_at_once(native: Connection, without_gc: None, use: Callable[[Instance], object]) -> None:
    """Without the garbage collector, which may not run for long: thousands of instances are one test's right."""
    native.releases.clear()
    module = load(native, EXPORTER)
    instance = module.instantiate({"env": {"host": lambda: 5}})
    use(instance)
    first = instance._first
    del instance
    assert native.releases == [first]


@direct
def test_the_engine_lets_go(native: Connection) -> None:
    executor: Any = native._executor  # type: ignore[attr-defined]
    module = load(native, EXPORTER)

    def held() -> list[int]:
        native.convert("(module)", "another")
        return [
            *[len(executor._natives), len(executor._types), len(executor._descriptions), len(executor._records)],
            *[len(executor._record_of), len(executor._callers), len(executor._mappers)],
        ]

    gc.collect()
    before = held()
    instances = [module.instantiate({"env": {"host": int}}) for _ in range(10)]
    for instance in instances:
        instance.exports.own()
        instance.exports.own.map([()])
    memories = [Memory(1) for _ in range(3)]
    importer = '(module (import "e" "m" (memory 1)))'
    instances += [make(native, importer, {"e": {"m": memory_}}) for memory_ in memories]
    during = held()
    assert during[0] > before[0] + 10
    del instances, instance, memories
    gc.collect()
    assert held() == before


@direct
def test_modules_are_let_go_of_too(fake: Connection) -> None:
    executor: Any = fake._executor  # type: ignore[attr-defined]
    module = load(fake, fake_engine.module({"f": function(" -> ", [["return"]])}))
    handle = module._code.loaded("").handle
    instance = module.instantiate()
    del module
    gc.collect()
    instance.exports.f()
    assert handle in executor._natives, "an instance keeps its module"
    del instance
    gc.collect()
    load(fake, fake_engine.module())
    assert handle not in executor._natives


def test_a_cycle_of_instance_and_host_function_is_collected(native: Connection) -> None:
    instance: Any = None

    def host() -> int:
        return 0 if instance is None else 1

    def tie() -> Callable[[], object]:
        made: list[Instance] = []
        made.append(make(native, EXPORTER, {"env": {"host": lambda: len(made)}}))
        assert made[0].exports.ask() == 1
        return weakref.ref(made[0])

    seen = tie()
    gc.collect()
    assert seen() is None
    assert host() == 0


def test_a_cycle_through_a_shared_table_is_collected(native: Connection) -> None:
    owner = make(native, TABLE)
    filler = make(native, FILLER, {"a": owner, "env": {"host": lambda: owner.exports.at(0)}})  # noqa: F821
    assert owner.exports.at(2) == 77
    owners = [weakref.ref(owner._owner), weakref.ref(filler._owner)]
    del owner, filler
    gc.collect()
    assert [seen() for seen in owners] == [None, None]


def test_an_exception_does_not_keep_an_instance_for_ever(native: Connection) -> None:
    instance = make(native, '(module (func (export "f") unreachable))')
    with pytest.raises(Trap):
        instance.exports.f()
    seen = weakref.ref(instance._owner)
    del instance
    gc.collect()
    assert seen() is None


@isolated
def test_thousands_of_instances_in_a_loop(native: Connection) -> None:
    """Each has a memory, of which a process can have 21,844 at once; each is tied to its host function."""
    module = load(
        native,
        '(module (import "e" "f" (func (result i32))) (memory (export "memory") 1) (export "f" (func 0)))',
    )

    def one(number: int) -> int:
        made: list[Instance] = []
        made.append(module.instantiate({"e": {"f": lambda: len(made) + number}}))
        return int(made[0].exports.f())

    assert [one(number) for number in range(700)] == [number + 1 for number in range(700)]
    gc.collect()
    native.convert("(module)", "a request that takes the releases along")
    assert native.releases == []


def test_the_fake_engine_obeys_the_same_rules(fake: Connection, without_gc: None) -> None:
    wasm = fake_engine.module(
        {
            "add": function("i32 -> i32", ["sum"]),
            "memory": memory(1),
            "global": variable("i32", 5),
            "table": table(3),
        }
    )
    instance = make(fake, wasm)
    exports = instance.exports
    assert (exports.add(1), exports.memory.size, exports["global"].value, exports.table.size) == (1, 65536, 5, 3)
    fake.releases.clear()
    first = instance._first
    del instance, exports
    assert first in fake.releases
