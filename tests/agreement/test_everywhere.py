"""Several backends as one: what they must agree on, and what is raised at the very call where they do not."""

from __future__ import annotations

import gc
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import (
    Divergence,
    Global,
    LinkError,
    Memory,
    NotComparable,
    Trap,
    TrapKind,
    WasmError,
    f32_bits,
)
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests import fake_engine
from tests.agreement.workbench import FRESH, H, Workbench, lines, odd
from tests.fake_engine import function, memory, module, table, variable

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_the_agreed_value_is_returned(make: Workbench) -> None:
    exports = make(module(exports={"add": function("i32 i32 -> i32", ["sum"])})).exports
    assert exports.add(1, 2) == 3
    assert exports["add"](-1, 0) == -1
    assert exports.add.map([(1, 2), (3, 4)]) == [3, 7]
    with pytest.raises(TypeError, match="takes 2 arguments, 1 was given"):
        exports.add(1)
    with pytest.raises(AttributeError, match="did you mean 'add'"):
        _ = exports.ad


def test_another_result_is_a_divergence_at_the_very_call(make: Workbench) -> None:
    exports = make(module(exports={"f": function("i32 i32 -> i32", odd([["return", 43]], [["return", 42]]))})).exports
    with pytest.raises(Divergence) as error:
        exports.f(7, -1)
    assert lines(error) == [
        "fake-b against fake-a and fake-c:",
        "call of 'f' of m.wasm with (7, -1):",
        "    fake-b  43  0x0000002b  0b00000000000000000000000000101011",
        "    fake-a  42  0x0000002a  0b00000000000000000000000000101010",
        "    fake-c  42  0x0000002a  0b00000000000000000000000000101010",
    ]
    assert isinstance(error.value, AssertionError)
    assert isinstance(error.value, WasmError)
    assert error.value.outcomes["fake-b"] == ("result", "i32", 43)


@pytest.mark.parametrize("who", fake_engine.NAMES)
def test_whoever_is_alone_is_named(make: Workbench, who: str) -> None:
    exports = make(module(exports={"f": function("-> i32", {who: [["return", 1]], "*": [["return", 0]]})})).exports
    others = [name for name in fake_engine.NAMES if name != who]
    with pytest.raises(Divergence, match=f"^{who} against {others[0]} and {others[1]}:"):
        exports.f()


def test_values_at_all_levels(make: Workbench) -> None:
    nans = {"fake-a": [["return", 0x7FC00000]], "fake-b": [["return", 0xFFC00001]], "*": [["return", 0x7FC00002]]}
    wasm = module(exports={"nan": function("-> f32", nans), "f": function("-> i32", odd([["return", 1]]))})
    exports = make(wasm).exports
    assert f32_bits(exports.nan()) == 0x7FC00000  # the first backend's
    assert math.isnan(exports.nan.map([()])[0])
    make.level("strict")
    with pytest.raises(Divergence, match="against"):
        exports.nan()
    with pytest.raises(Divergence, match="row 0: nan"):
        exports.nan.map([()])
    make.level("off")
    assert math.isnan(exports.nan())
    assert exports.f() == 0
    assert exports.f.map([(), ()]) == [0, 0]


def test_map_compares_row_by_row(make: Workbench) -> None:
    exports = make(module(exports={"f": function("i32 -> i32", odd([["return", 5]], ["sum"]))})).exports
    assert exports.f.map([(5,), (5,)]) == [5, 5]
    with pytest.raises(Divergence) as error:
        exports.f.map([(5,), (6,)])
    assert lines(error) == [
        "fake-b against fake-a and fake-c:",
        "map of call of 'f' of m.wasm:",
        "    fake-b  row 1: 5",
        "    fake-a  row 1: 6",
        "    fake-c  row 1: 6",
    ]


def test_map_of_more_rows_than_a_message_holds(make: Workbench) -> None:
    exports = make(module(exports={"f": function("i32 -> i32", ["sum"])})).exports
    rows = [(number,) for number in range(40_000)]
    assert exports.f.map(rows) == [number for (number,) in rows]


# Traps


def test_a_trap_of_all_is_raised(make: Workbench) -> None:
    exports = make(module(exports={"t": function("->", [["trap", "UNREACHABLE"]])})).exports
    with pytest.raises(Trap) as error:
        exports.t()
    assert error.value.kind is TrapKind.UNREACHABLE
    (outcome,) = exports.t.map([()])
    assert outcome.kind is TrapKind.UNREACHABLE


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([["return"]], "    fake-b  no result"),
        ([["trap", "INTEGER_OVERFLOW"]], "    fake-b  trap INTEGER_OVERFLOW"),
        ([["panic", "it broke"]], "    fake-b  refused panic"),
    ],
)
def test_another_outcome_than_a_trap_is_a_divergence(make: Workbench, steps: Sequence[Any], shown: str) -> None:
    exports = make(module(exports={"t": function("->", odd(steps, [["trap", "UNREACHABLE"]]))})).exports
    with pytest.raises(Divergence) as error:
        exports.t()
    assert lines(error)[2:] == [shown, "    fake-a  trap UNREACHABLE", "    fake-c  trap UNREACHABLE"]


@pytest.mark.parametrize("who", fake_engine.NAMES)
def test_an_engine_that_cannot_tell_traps_apart_contradicts_none(make: Workbench, who: str) -> None:
    steps = {who: [["trap", "UNKNOWN"]], "*": [["trap", "BAD_SIGNATURE"]]}
    exports = make(module(exports={"t": function("->", steps)})).exports
    with pytest.raises(Trap) as error:
        exports.t()
    assert error.value.kind is TrapKind.BAD_SIGNATURE
    (outcome,) = exports.t.map([()])
    assert outcome.kind.name in ("UNKNOWN", "BAD_SIGNATURE")


def test_it_does_not_hide_that_others_disagree(make: Workbench) -> None:
    steps = {"fake-a": [["trap", "UNKNOWN"]], "fake-b": [["trap", "UNREACHABLE"]], "*": [["trap", "BAD_SIGNATURE"]]}
    with pytest.raises(Divergence):
        make(module(exports={"t": function("->", steps)})).exports.t()


@pytest.mark.parametrize("other", [["return"], ["trap", "UNREACHABLE"], ["trap", "UNKNOWN"]])
def test_an_exhausted_stack_says_nothing(make: Workbench, other: Sequence[Any]) -> None:
    wasm = module(
        exports={
            "t": function("->", odd([["trap", "STACK_OVERFLOW"]], [[*other]])),
            "all": function("->", [["trap", "STACK_OVERFLOW"]]),
        }
    )
    exports = make(wasm).exports
    for work in (exports.t, lambda: exports.t.map([()])):
        with pytest.raises(
            NotComparable, match=r"the stack was exhausted on .*fake-b.*, at a depth that differs"
        ) as error:
            work()
        assert isinstance(error.value, WasmError)
        assert not isinstance(error.value, AssertionError)
    with pytest.raises(Trap) as trapped:
        exports.all()
    assert trapped.value.kind is TrapKind.STACK_OVERFLOW


# Memories, globals, tables


def test_memory_is_that_of_all(make: Workbench) -> None:
    instance = make(module(exports={"memory": memory(1, 4)}))
    mine = instance.memory
    mine.write(3, b"abc")
    mine[0] = 7
    mine.write_u32(8, 0xDEADBEEF)
    assert (mine.read(3, 3), mine[0], mine[3:6], mine.read_u32(8)) == (b"abc", 7, b"abc", 0xDEADBEEF)
    assert (mine.size, len(mine), mine.grow(1), mine.size) == (65536, 65536, 1, 131072)
    assert len(mine.digest()) == 64
    with pytest.raises(IndexError, match="outside memory 'memory', which has 131072 bytes"):
        mine.read(131072, 1)
    with pytest.raises(IndexError):
        mine.write(131071, b"xx")
    with pytest.raises(WasmError, match="cannot grow by 9 pages: the fake memory is full"):
        mine.grow(9)
    everywhere = make.everywhere
    (place,) = [place for place in everywhere._places.values() if place.type[0] == "memory"][-1:]
    for member, handle in zip(everywhere.members, place.handles, strict=True):
        assert member.read(handle, 3, 3, "") == b"abc"


def test_another_byte_is_a_divergence_that_shows_where(make: Workbench) -> None:
    same = "00" * 40
    mine = make(module(exports={"m": memory(data=odd([], [])) | {"data": {"fake-c": same + "2a", "*": same}}})).memory
    assert mine.read(0, 40) == bytes(40)
    with pytest.raises(Divergence) as error:
        mine.read(8, 40)
    assert lines(error) == [
        "fake-c against fake-a and fake-b:",
        "read of 'm' of m.wasm:",
        f"    fake-c  data 8 {'00' * 32}2a{'00' * 7}",
        f"    fake-a  data 8 {'00' * 40}",
        f"    fake-b  data 8 {'00' * 40}",
        "The first byte that differs is at 0x28; from 0x20:",
        "    fake-c  00 00 00 00 00 00 00 00 2a 00 00 00 00 00 00 00",
        "    fake-a  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    ]
    with pytest.raises(Divergence, match="The first byte that differs is at 0x28; from 0x20:"):
        mine.read(0, 65536)  # of which the event has a digest only
    for read in (mine.digest, partial(mine.read_u8, 40), partial(mine.read_u32, 40), lambda: mine[40]):
        with pytest.raises(Divergence):
            read()
    make.level("off")
    assert mine[40] == 0


def test_nans_in_memory(make: Workbench) -> None:
    data = {"fake-b": "010000000100c0ff", "*": "010000000000c07f"}
    mine = make(module(exports={"m": memory(data=data)})).memory
    assert mine.read(0, 8).hex() == "010000000000c07f"
    assert math.isnan(mine.read_f32(4))
    with pytest.raises(Divergence):
        mine.read(4, 3)  # not all of the word is at hand
    make.level("strict")
    with pytest.raises(Divergence):
        mine.read(0, 8)


def test_a_memory_that_grows_on_some_only(make: Workbench) -> None:
    instance = make(module(exports={"m": memory(1, full={"fake-b": True, "*": False})}))
    with pytest.raises(Divergence) as error:
        instance.memory.grow(1)
    assert lines(error) == [
        "fake-b against fake-a and fake-c:",
        "grow of 'm' of m.wasm:",
        "    fake-b  refused grow",
        "    fake-a  1",
        "    fake-c  1",
    ]
    with pytest.raises(Divergence, match="size of 'm'"):
        _ = instance.memory.size
    with pytest.raises(Divergence, match="out of bounds of 65536 bytes"):
        instance.memory.read(65536, 1)
    with pytest.raises(Divergence, match="write of 'm'"):
        instance.memory.write(65536, b"x")


def test_globals_and_tables(make: Workbench) -> None:
    wasm = module(
        exports={
            "g": variable("i64", 7),
            "odd": variable("f64", {"fake-b": 1, "*": 2}),
            "nan": variable("f32", {"fake-b": 0xFFC00000, "*": 0x7FC00000}),
            "t": table(3),
            "odd_t": table({"fake-b": 1, "*": 2}),
        }
    )
    exports = make(wasm).exports
    exports.g.value += 1
    assert exports.g.value == 8
    assert exports.t.size == len(exports.t) == 3
    assert math.isnan(exports.nan.value)
    with pytest.raises(Divergence, match=r"value of 'odd' of m\.wasm:\n    fake-b  5e-324  0x0000000000000001"):
        _ = exports.odd.value
    with pytest.raises(Divergence, match=r"size of 'odd_t' of m\.wasm:\n    fake-b  1\n    fake-a  2"):
        _ = exports.odd_t.size
    exports.odd.value = 0.5
    assert exports.odd.value == 0.5


# Instances


def test_a_start_that_traps(make: Workbench) -> None:
    with pytest.raises(Trap):
        make(module(start=[["trap", "UNREACHABLE"]]))
    handles = len(make.everywhere._places)
    with pytest.raises(Divergence) as error:
        make(module(start=odd([["trap", "UNREACHABLE"]], [["return"]])))
    assert lines(error)[:2] == ["fake-b against fake-a and fake-c:", "instantiation of m.wasm:"]
    assert lines(error)[2] == "    fake-b  trap UNREACHABLE"
    make.level("off")
    with pytest.raises(Divergence):  # there is no instance to go on with
        make(module(start=odd([["trap", "UNREACHABLE"]], [["return"]])))
    gc.collect()
    assert len(make.everywhere._places) == handles


def test_what_was_made_on_some_only_is_released(make: Workbench) -> None:
    for start in (odd([["trap", "UNREACHABLE"]], [["return"]]), odd([["host_with", 0, 1]], [["return"]])):
        with pytest.raises(Divergence):
            make(module(imports=[H], start=start), {"env": {"h": int}})
        first, second, third = [len(member.releases) for member in make.everywhere.members]
        assert first == third == second + 1


def test_instances_are_released(make: Workbench) -> None:
    gc.collect()
    instance = make(
        module(imports=[H], exports={"m": memory(), "f": function("i32 -> i32", ["host"])}), {"env": {"h": int}}
    )
    assert len(make.everywhere._places) == 4
    assert instance.exports.f(3) == 3
    del instance
    gc.collect()
    assert make.everywhere._places == {}
    released = [len(member.releases) for member in make.everywhere.members]
    assert released == [2, 2, 2]  # instance and module


def test_imports_made_by_the_host(make: Workbench) -> None:
    made, base = Memory(1, maximum=3), Global("i64", 7, mutable=True)
    made.write(0, b"before")
    wasm = module(imports=[("env", "m", ["memory", 1, 3]), ("env", "b", ["global", "i64", True])])
    instance = make(wasm, {"env": {"m": made, "b": base}})
    assert instance.memory is made
    assert made.read(0, 6) == b"before"
    made.write(0, b"after")
    base.value = -1
    again = make(wasm, {"env": {"m": made, "b": base}})
    assert (again.memory.read(0, 5), base.value, made.grow(1)) == (b"after", -1, 1)


def test_imports_from_another_instance(make: Workbench) -> None:
    library = make(module(exports={"h": function("i32 -> i32", ["sum"]), "g": variable("i32", 1)}))
    wasm = module(imports=[H, ("env", "g", ["global", "i32", True])], exports={"f": function("i32 -> i32", ["sum"])})
    assert make(wasm, {"env": library}).exports.f(2) == 2
    one = Loader().load("fake-a", lambda: make.everywhere.members[0], Source("one.wasm", wasm, None), FRESH)
    with pytest.raises(LinkError, match=r"is linked on fake-a, but 'h' of m\.wasm belongs to fake-a, fake-b, fake-c"):
        one.instantiate({"env": library.exports})


def test_what_each_backend_has_of_its_own_is_refused(make: Workbench) -> None:
    made = make(module())
    assert repr(made) == "<Instance of m.wasm on fake-a, fake-b, fake-c>"
    assert made.module.backend == "fake-a, fake-b, fake-c"
    with pytest.raises(WasmError, match="each backend has its own"):
        made.module.serialize()
    with pytest.raises(WasmError, match="not of all at once"):
        make.everywhere.another(None, {})
