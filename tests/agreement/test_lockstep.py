"""Host calls of several backends at once happen once; and what comes between leaves all of them in step."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import (
    Caller,
    Divergence,
    EngineLost,
    InstanceLost,
    NotComparable,
    Trap,
    WasmError,
    WrongBackend,
    f32_bits,
)
from pytest_wasmer.runtime import wire
from tests.agreement.workbench import G, H, Workbench, lines, odd
from tests.fake_engine import function, memory, module

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_wasmer.runtime.pool import EnginePool

HOST = module(
    imports=[H, G],
    exports={
        "memory": memory(),
        "f": function("i32 -> i32", ["host"]),
        "twice": function("i32 -> i32", [["host", 0], ["host", 1]]),
        "sum": function("i32 -> i32", ["sum"]),
        "odd": function("i32 -> i32", odd([["return", 1]], [["return", 2]])),
        "trap": function("i32 -> i32", [["host", 0], ["trap", "UNREACHABLE"]]),
        "stubborn": function("i32 -> i32", ["stubborn"]),
        "other_argument": function("i32 -> i32", odd([["host_with", 0, 9]], ["host"])),
        "other_import": function("i32 -> i32", odd([["host", 1]], ["host"])),
        "none": function("i32 -> i32", odd([["return", 4]], ["host"])),
        "one_more": function("i32 -> i32", odd([["host"], ["host"]], ["host"])),
        "one_only": function("i32 -> i32", odd(["sum"], ["sum"])),
        "trap_first": function("i32 -> i32", odd([["trap", "UNREACHABLE"]], ["host"])),
        "overflow": function("i32 -> i32", odd([["trap", "STACK_OVERFLOW"]], ["host"])),
        "die": function("i32 -> i32", odd([["signal", "SIGABRT"]], ["host"])),
        "die_later": function("i32 -> i32", odd([["host"], ["signal", "SIGKILL"]], ["host"])),
        "hang": function("i32 -> i32", odd(["hang"], ["sum"])),
        "hang_all": function("i32 -> i32", ["hang"]),
        "hang_or_host": function("i32 -> i32", odd(["hang"], ["host"])),
        "stubborn_b": function("i32 -> i32", odd(["stubborn"], ["sum"])),
    },
)


class Log:
    """A host function that notes its arguments."""

    def __init__(self, then: Callable[[int], int] = lambda value: value + 1) -> None:
        self.calls: list[int] = []
        self._then = then

    def __call__(self, value: int) -> int:
        self.calls.append(value)
        return self._then(value)


def test_host_functions_are_called_once(make: Workbench) -> None:
    h, g = Log(), Log(lambda value: value * 10)
    instance = make(HOST, {"env": {"h": h, "g": g}})
    assert [instance.exports.f(number) for number in range(3)] == [1, 2, 3]
    assert instance.exports.twice(5) == 50
    assert instance.exports.f.map([(7,), (8,)]) == [8, 9]
    with pytest.raises(Trap):
        instance.exports.trap(9)
    assert (h.calls, g.calls) == ([0, 1, 2, 5, 7, 8, 9], [5])


@pytest.mark.parametrize(
    ("name", "shown", "calls"),
    [
        ("other_argument", "host call env.h(9)", []),
        ("other_import", "host call env.g(7)", []),
        ("none", "4                   0x00000004  0b00000000000000000000000000000100", []),
        ("one_more", "host call env.h(7)", [7]),
        ("trap_first", "trap UNREACHABLE", []),
    ],
)
def test_another_host_call_is_a_divergence(
    make: Workbench, isolation: str, name: str, shown: str, calls: Sequence[int]
) -> None:
    h = Log()
    instance = make(HOST, {"env": {"h": h, "g": h}})
    with pytest.raises(Divergence) as error:
        instance.exports[name](7)
    first, about, *table = lines(error)
    assert (first, about) == ("fake-b against fake-a and fake-c:", f"call of '{name}' of m.wasm with (7):")
    assert table[0] == f"    fake-b  {shown}"
    if name != "one_more":
        assert table[1:] == ["    fake-a  host call env.h(7)", "    fake-c  host call env.h(7)"]
    # By direct call the first backend has been asked before anything is known.
    assert h.calls == (calls if isolation == "process" else [7])
    assert instance.exports.f(1) == 2  # and all is well again
    assert instance.exports.sum(4) == 4


def test_host_calls_at_the_other_levels(make: Workbench) -> None:
    nan = odd([["host_with", 0, 0xFFC00000]], [["host_with", 0, 0x7FC00001]])
    wasm = module(imports=[("env", "h", ["func", ["f32"], []])], exports={"f": function("->", nan)})
    seen: list[int] = []
    exports = make(wasm, {"env": {"h": lambda value: seen.append(f32_bits(value))}}).exports
    exports.f()
    assert seen == [0x7FC00001]
    make.level("strict")
    with pytest.raises(Divergence, match=r"host call env\.h\(nan\)"):
        exports.f()
    make.level("off")
    h = Log()
    others = make(HOST, {"env": {"h": h, "g": h}}).exports
    assert others.other_argument(7) == 8
    assert h.calls == [7]
    with pytest.raises(Divergence):  # there is nothing to answer
        others.none(7)


def test_an_exhausted_stack_before_a_host_call(make: Workbench) -> None:
    exports = make(HOST, {"env": {"h": Log(), "g": int}}).exports
    with pytest.raises(NotComparable, match="exhausted on fake-b"):
        exports.overflow(1)
    assert exports.f(1) == 2


class Own(BaseException):
    """Of the test."""


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, StopIteration, Own])
def test_an_exception_is_the_same_object_and_the_last_host_call(make: Workbench, kind: type[BaseException]) -> None:
    error = kind("mine")

    def fails(value: int) -> int:
        if value == 3:
            raise error
        return value

    h = Log(fails)
    exports = make(HOST, {"env": {"h": h, "g": h}}).exports
    with pytest.raises(kind) as raised:
        exports.f(3)
    assert raised.value is error
    assert exports.twice(4) == 4
    assert h.calls == [3, 4, 4]


def test_a_wrong_result_of_a_host_function(make: Workbench) -> None:
    exports = make(HOST, {"env": {"h": lambda value: "text", "g": int}}).exports
    with pytest.raises(TypeError, match="result 1"):
        exports.f(3)


def test_the_caller_is_everywhere(make: Workbench) -> None:
    def h(caller: Caller, value: int) -> int:
        before = caller.memory[0]
        caller.memory.write(0, bytes([value]))
        assert caller.memory[0] == value
        assert caller.memory.size == 65536
        with pytest.raises(IndexError):
            caller.memory.read(65536, 1)
        return int(before)

    instance = make(HOST, {"env": {"h": h, "g": h}})
    assert (instance.exports.f(5), instance.exports.twice(6)) == (0, 6)
    assert instance.memory[0] == 6
    kept = instance.exports.f
    del instance
    gc.collect()
    assert kept(7) == 6


def test_what_a_host_function_reads_is_compared(make: Workbench) -> None:
    wasm = module(
        imports=[H],
        exports={"memory": memory(data={"fake-c": "01", "*": "00"}), "f": function("i32 -> i32", ["host"])},
    )
    read: list[int] = []

    def h(caller: Caller, value: int) -> int:
        read.append(caller.memory[0])
        return 1

    instance = make(wasm, {"env": {"h": h}})
    with pytest.raises(Divergence, match=r"fake-c against|fake-a against fake-c"):
        instance.exports.f(1)
    assert instance.memory.read(1, 1) == b"\0"
    make.level("off")
    assert instance.exports.f(1) == 1


def test_during_a_start_function(make: Workbench) -> None:
    h = Log()
    make(module(imports=[H], start=[["host_with", 0, 5]]), {"env": {"h": h}})
    assert h.calls == [5]


def test_a_divergence_in_a_nested_call_reaches_the_test(piped: Workbench) -> None:
    exports: list[Any] = []
    caught: list[BaseException] = []

    def h(value: int) -> int:
        try:
            return int(exports[0].odd(value))
        except Divergence as error:
            caught.append(error)
            raise

    exports.append(piped(HOST, {"env": {"h": h, "g": int}}).exports)
    with pytest.raises(Divergence) as error:
        exports[0].f(1)
    assert caught == [error.value]
    assert exports[0].sum(4) == 4


def test_by_direct_call_they_are_refused(pools: dict[str, EnginePool]) -> None:
    bench = Workbench(pools["none"])
    exports: list[Any] = []
    exports.append(bench(HOST, {"env": {"h": lambda value: exports[0].sum(value), "g": int}}).exports)
    with pytest.raises(WasmError, match=r"call of 'sum' of m\.wasm in a host function") as error:
        exports[0].f(1)
    assert lines(error)[-1] == "Use --wasm-isolation=process."
    assert exports[0].sum(4) == 4
    with pytest.raises(WasmError, match=r"instantiation of m\.wasm in a host function"):
        bench(HOST, {"env": {"h": lambda value: bench(module()) and 1, "g": int}}).exports.f(1)


def test_what_is_dropped_in_a_host_function_is_released_later(piped: Workbench) -> None:
    """Else an instance could be freed under its own frames."""
    gc.collect()
    others = [piped(HOST, {"env": {"h": int, "g": int}})]
    left: list[int] = []

    def h(value: int) -> int:
        others.clear()
        gc.collect()
        exports.sum(1)
        left.extend(len(member.releases) for member in piped.everywhere.members)
        return value

    exports = piped(HOST, {"env": {"h": h, "g": int}}).exports
    exports.sum(1)
    assert exports.f(1) == 1
    assert left == [2, 2, 2]  # instance and module
    exports.sum(1)
    assert [len(member.releases) for member in piped.everywhere.members] == [0, 0, 0]


# Trouble


def test_a_test_of_other_backends(make: Workbench) -> None:
    exports = make(HOST, {"env": {"h": int, "g": int}}).exports
    make.pool.only(["fake-a", "fake-c"])
    try:
        with pytest.raises(WrongBackend, match="it was made on fake-b, this test runs on fake-a, fake-c"):
            exports.sum(1)
    finally:
        make.pool.only(None)
    assert exports.sum(1) == 1


def test_an_interrupt_by_direct_call_is_no_outcome(pools: dict[str, EnginePool]) -> None:
    bench = Workbench(pools["none"])
    exports = bench(module(exports={"f": function("->", odd([["signal", "SIGINT"]], [["return"]]))})).exports
    with pytest.raises(KeyboardInterrupt):
        exports.f()


def pids(bench: Workbench) -> list[int]:
    return [member.pid for member in bench.connect().members]  # type: ignore[attr-defined]


def check(bench: Workbench) -> None:
    """A new instance works, and its answers are its own."""
    h = Log()
    exports = bench(HOST, {"env": {"h": h, "g": h}}).exports
    assert [exports.sum(number) for number in range(5)] == [*range(5)]
    assert [exports.f(number) for number in range(5)] == [1, 2, 3, 4, 5]
    assert h.calls == [*range(5)]


@pytest.mark.parametrize(("name", "cause"), [("die", "SIGABRT"), ("die_later", "SIGKILL")])
def test_a_crash_names_the_backend_and_spares_the_others(piped: Workbench, name: str, cause: str) -> None:
    h = Log()
    before = pids(piped)
    exports = piped(HOST, {"env": {"h": h, "g": h}}).exports
    with pytest.raises(EngineLost, match=f"the fake-b engine process was lost: killed by {cause}"):
        exports[name](3)
    with pytest.raises(InstanceLost, match="its fake-b engine process was lost earlier"):
        exports.sum(1)
    with pytest.raises(InstanceLost):
        _ = exports.memory.size
    assert [loss.backend for loss in piped.pool.take()[1]] == ["fake-b"]
    assert [new == old for new, old in zip(pids(piped), before, strict=True)] == [True, False, True]
    check(piped)


def test_a_crash_that_a_host_function_hides(piped: Workbench) -> None:
    inner = piped(HOST, {"env": {"h": int, "g": int}}).exports

    def hides(value: int) -> int:
        with pytest.raises(EngineLost):
            inner.die(value)
        return 1

    before = pids(piped)
    exports = piped(HOST, {"env": {"h": hides, "g": int}}).exports
    with pytest.raises(EngineLost, match="the fake-b engine process was lost: killed by SIGABRT"):
        exports.f(2)
    assert [loss.backend for loss in piped.pool.take()[1]] == ["fake-b"]
    assert [new == old for new, old in zip(pids(piped), before, strict=True)] == [True, False, True]
    check(piped)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (wire.HEADER.pack(4, wire.DONE, 9999) + bytes(4), "an answer to request 9999 instead of"),
        (wire.HEADER.pack(5, wire.DONE, 0), "a message stopped in the middle"),
        (wire.HEADER.pack(4, 77, 0) + bytes(4), "an answer to request 0"),
    ],
    ids=["another sequence number", "cut off", "another operation"],
)
def test_nonsense_of_one_spares_the_others(piped: Workbench, frame: bytes, said: str) -> None:
    before = pids(piped)
    wasm = module(exports={"f": function("-> i32", odd([["say", frame.hex()]], [["return", 1]]))})
    with pytest.raises(
        EngineLost, match=f"the fake-b engine process was lost: it sent nonsense and was killed: {said}"
    ):
        piped(wasm).exports.f()
    assert [new == old for new, old in zip(pids(piped), before, strict=True)] == [True, False, True]
    check(piped)


def test_one_that_goes_on_after_an_exception_is_killed(piped: Workbench) -> None:
    before = pids(piped)
    exports = piped(HOST, {"env": {"h": Log(), "g": int}}).exports
    with pytest.raises(Divergence):
        exports.stubborn_b(1)
    assert [loss.backend for loss in piped.pool.take()[1]] == ["fake-b"]
    assert [new == old for new, old in zip(pids(piped), before, strict=True)] == [True, False, True]
    check(piped)
