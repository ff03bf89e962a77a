"""Fuzzing: what it finds, makes small and says; what is no finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.agreement.fuzzing import fuzz as fuzzing
from pytest_wasmer.agreement.fuzzing.fuzz import Fuzzed, fuzz
from pytest_wasmer.agreement.fuzzing.generate import Generator
from pytest_wasmer.agreement.fuzzing.lanes import Batch, Lanes, Plan
from pytest_wasmer.agreement.fuzzing.pasteable import literal, pasteable_test
from pytest_wasmer.agreement.fuzzing.shrink import Sequence, shrunk
from pytest_wasmer.agreement.steps import Call, Write
from pytest_wasmer.engines.registry import COMPILERS, Registry
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType
from tests.agreement import miscompiles
from tests.conftest import FAKES, needs_wheels
from tests.fake_engine import function, memory, module, variable
from tests.wasm.test_host_functions import FLOAT_RESULT
from tests.wasm.workbench import FRESH

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_wasmer.agreement.fuzzing.finding import Finding
    from pytest_wasmer.engines.registry import BackendSpec

# As many as find what is to be found here; a second or two.
PLANS = 60
Beside = Callable[..., Any]


@pytest.fixture
def beside(cache: Path) -> Iterator[Callable[..., Lanes]]:
    """Makes lanes of fake backends, or of compilers."""
    pool = EnginePool("process", cache)

    def make(source: bytes | str, specs: list[BackendSpec] = FAKES) -> Lanes:
        loader = Loader()
        wasm, wat = (source, None) if isinstance(source, bytes) else (None, source)
        modules = [
            loader.load(spec.name, partial(pool.connection, spec), Source("m.wat", wasm, wat), FRESH) for spec in specs
        ]
        return Lanes(modules)

    yield make
    pool.close()


@contextmanager
def of(lanes: Lanes, **options: Any) -> Iterator[Fuzzed]:
    with lanes:
        yield fuzz(lanes, **{"seconds": 60.0, "plans": PLANS, **options})


def found(fuzzed: Fuzzed) -> Finding:
    assert fuzzed.finding is not None
    return fuzzed.finding


def odd(one: Any, other: Any) -> dict[str, Any]:
    return {"fake-b": one, "*": other}


# What is found


def test_another_result(beside: Beside) -> None:
    exports = {"even": function("i32 -> i32", [["sum"]]), "odd": function("i32 -> i32", odd([["return", 9]], ["sum"]))}
    with of(beside(module(exports))) as fuzzed:
        finding = found(fuzzed)
    assert finding.sequence == Sequence([Call("odd", (0,))], 0)
    assert finding.lines() == [
        "fake-b against fake-a and fake-c:",
        "call odd(0) (event 3):",
        "    fake-b  9  0x00000009  0b00000000000000000000000000001001",
        "    fake-a  0  0x00000000  0b00000000000000000000000000000000",
        "    fake-c  0  0x00000000  0b00000000000000000000000000000000",
    ]
    assert set(finding.observed) == {"fake-a", "fake-b", "fake-c"}
    assert [event[0] for event in finding.observed["fake-b"].events] == ["new", "made", "call", "result"]


def test_another_trap_a_trap_against_a_value_and_a_panic(beside: Beside) -> None:
    for steps, said in (
        (odd([["trap", "UNREACHABLE"]], [["trap", "INTEGER_OVERFLOW"]]), "    fake-b  trap UNREACHABLE"),
        (odd([["trap", "UNREACHABLE"]], [["return", 1]]), "    fake-b  trap UNREACHABLE"),
        (odd([["panic", "oh"]], [["return", 1]]), "    fake-b  refused panic"),
    ):
        with of(beside(module({"f": function("-> i32", steps)}))) as fuzzed:
            assert found(fuzzed).lines()[2].startswith(said)


def test_other_host_calls(beside: Beside) -> None:
    wasm = module(
        {"f": function("i32 -> i32", odd([["return", 0]], [["host"], ["return", 0]]))},
        [("env", "h", ["func", ["i32"], ["i32"]])],
    )
    with of(beside(wasm)) as fuzzed:
        finding = found(fuzzed)
    assert finding.sequence == Sequence([Call("f", (0,))], 0)
    assert "    fake-a  host call env.h(0)" in [line.rstrip() for line in finding.lines()]


def test_a_start_that_traps_on_one(beside: Beside) -> None:
    with of(beside(module({"f": function("->", [])}, start=odd([["trap", "UNREACHABLE"]], [])))) as fuzzed:
        assert found(fuzzed).lines()[0] == "fake-b against fake-a and fake-c:"


def test_a_lost_process_where_the_others_returned(beside: Beside) -> None:
    exports = {"even": function("i32 -> i32", [["sum"]]), "die": function("i32 ->", odd([["signal", "SIGSEGV"]], []))}
    with of(beside(module(exports))) as fuzzed:
        finding = found(fuzzed)
    assert finding.sequence.steps == [Call("die", (0,))]
    assert finding.verdict.outcomes["fake-b"] == ("end", "killed by SIGSEGV")
    assert finding.lost == {"fake-b": "killed by SIGSEGV"}
    assert finding.lines() == [
        "fake-b's engine process was lost (killed by SIGSEGV) where fake-a and fake-c returned:",
        "    Call(name='die', arguments=(0,))",
    ]


# What is none


def nothing(fuzzed: Fuzzed) -> Fuzzed:
    assert fuzzed.finding is None
    assert not fuzzed.unconfirmed
    return fuzzed


def test_agreement(beside: Beside) -> None:
    exports = {
        "sum": function("i32 i32 -> i32", ["sum"]),
        "trap": function("->", [["trap", "UNREACHABLE"]]),
        "m": memory(1),
        "g": variable("i32", 7),
    }
    with of(beside(module(exports))) as fuzzed:
        assert nothing(fuzzed).calls > 1000
        assert fuzzed.skipped == {}


def test_nan_bits(beside: Beside) -> None:
    with of(
        beside(module({"f": function("-> f32", odd([["return", 0x7FC00000]], [["return", 0xFFC00001]]))}))
    ) as fuzzed:
        nothing(fuzzed)


def test_nan_bits_that_a_program_can_see_are_counted(beside: Beside) -> None:
    steps = odd([["return", 0x7FC00000]], [["return", 0xFFC00001 - 2**32]])
    with of(beside(module({"f": function("-> i32", steps)})), plans=2) as fuzzed:
        assert fuzzed.finding is None
        assert fuzzed.unconfirmed == 2


def test_traps_that_an_engine_does_not_tell_apart(beside: Beside) -> None:
    steps = odd([["trap", "UNKNOWN"]], [["trap", "UNREACHABLE"]])
    with of(beside(module({"f": function("->", steps)}))) as fuzzed:
        nothing(fuzzed)


def test_an_exhausted_stack_is_left_alone(beside: Beside) -> None:
    exports = {"sum": function("i32 -> i32", ["sum"]), "deep": function("->", odd([["trap", "STACK_OVERFLOW"]], []))}
    with of(beside(module(exports))) as fuzzed:
        assert nothing(fuzzed).skipped == {"deep": "it exhausts the stack"}


def test_what_does_not_end_is_left_alone(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "LIMIT", 0.5)
    exports = {"sum": function("i32 -> i32", ["sum"]), "hang": function("->", odd([["hang"]], []))}
    with of(beside(module(exports)), plans=20) as fuzzed:
        assert nothing(fuzzed).skipped == {"hang": "it did not end within 0.5 s"}
        assert fuzzed.calls > 20


def test_a_process_that_is_lost_on_each_is_left_alone(beside: Beside) -> None:
    exports = {"sum": function("i32 -> i32", ["sum"]), "die": function("->", [["exit", 3]])}
    with of(beside(module(exports)), plans=10) as fuzzed:
        assert nothing(fuzzed).skipped == {"die": "each engine process was lost in it"}


def test_nothing_left_to_call(beside: Beside) -> None:
    with of(beside(module({"die": function("->", [["exit", 3]])}))) as fuzzed:
        assert nothing(fuzzed).calls == 0


# The same again


def test_equal_seeds_do_the_same(beside: Beside) -> None:
    lanes = beside(module({"sum": function("i32 i32 -> i32", ["sum"]), "m": memory(2)}))
    with lanes:
        first, second = (fuzz(lanes, seed=3, seconds=60, plans=20) for _ in range(2))
        assert first == second
        assert fuzz(lanes, seed=4, seconds=60, plans=20).calls != 0
    plans = [[Generator(lanes.types, seed).plan(number) for number in range(5)] for seed in (3, 3, 4)]
    assert plans[0] == plans[1] != plans[2]


TYPES = {
    "f": FunctionType(("i32", "i64", "f32", "f64", "v128"), ()),
    "none": FunctionType((), ()),
    "m": MemoryType(1, 2),
}


def test_plans_fit_the_types() -> None:
    generator = Generator({**TYPES, "g": GlobalType("i32", True), "r": FunctionType(("funcref",), ())}, 0)
    sizes = set()
    for number in range(60):
        plan = generator.plan(number)
        assert isinstance(plan, Plan)
        for step in plan.steps:
            if isinstance(step, Batch):
                assert step.name in ("f", "none")
                assert {len(row) for row in step.rows} == {len(TYPES[step.name].params)}  # type: ignore[union-attr]
                sizes.add(len(step.rows))
            else:
                assert 0 <= step.offset < step.offset + len(step.data) <= 65536
    assert min(sizes) == 2
    assert max(sizes) == 2048


# Making it small


def test_steps_that_do_not_matter_are_dropped() -> None:
    steps = [Call("none", ()), Write("m", 0, b"x"), *[Call("none", ())] * 40, Call("f", (9, 0, 1.5, 2.5, 7))]

    def shows(sequence: Sequence) -> bool:
        written = any(isinstance(step, Write) for step in sequence.steps)
        return written and isinstance(sequence.steps[-1], Call) and sequence.steps[-1].name == "f"

    assert shrunk(Sequence([*steps], 77), TYPES, shows) == Sequence(
        [Write("m", 0, b"\0"), Call("f", (0, 0, 0.0, 0.0, 0))], 0
    )


@pytest.mark.parametrize(
    ("value", "shows", "expected"),
    [
        ((-5, 0, 0.0, 0.0, 0), lambda row: row[0] < 0 or row[0] > 1000, (-1, 0, 0.0, 0.0, 0)),
        ((2**31 - 1, 0, 0.0, 0.0, 0), lambda row: row[0] > 65532, (65533, 0, 0.0, 0.0, 0)),
        ((0, -(2**63), 0.0, 0.0, 0), lambda row: abs(row[1]) > 99, (0, 100, 0.0, 0.0, 0)),
        ((0, 0, 0.0, 123.75, 0), lambda row: row[3] > 100, (0, 0, 0.0, float("inf"), 0)),
        ((0, 0, 0.0, 123.75, 0), lambda row: 100 < row[3] < 200, (0, 0, 0.0, 123.0, 0)),
        ((0, 0, 0.0, 0.0, 2**100 + 5), lambda row: row[4] % 2, (0, 0, 0.0, 0.0, 1)),
    ],
)
def test_values_become_plain(value: Any, shows: Any, expected: Any) -> None:
    sequence = Sequence([Call("f", value)], 0)
    small = shrunk(sequence, TYPES, lambda one: bool(one.steps) and bool(shows(one.steps[0].arguments)))  # type: ignore[union-attr]
    assert small.steps == [Call("f", expected)]


def test_writes_become_short() -> None:
    sequence = Sequence([Write("m", 100, bytes(range(200)))], 0)
    small = shrunk(sequence, TYPES, lambda one: any(b"\x50" in step.data for step in one.steps))  # type: ignore[union-attr]
    assert small.steps == [Write("m", 180, b"\x50")]


# A test to paste


def test_the_test_has_what_was_done_and_what_the_host_answered() -> None:
    imports = {
        ("env", "log"): FunctionType(("i32",), ()),
        ("env", "read"): FunctionType((), ("f64",)),
        ("env", "pair"): FunctionType((), ("i32", "f32")),
        ("my env", "memory"): MemoryType(1, 3),
        ("my env", "g"): GlobalType("i64", True),
    }
    exports = {**TYPES, "two words": FunctionType(("f32", "v128"), ())}
    events = [
        *[("host", "env.read", ""), ("return", "f64", 0x3FF0000000000000)],
        *[("host", "env.read", ""), ("return", "f64", 0x7FF8000000000001)],
    ]
    steps = [
        Write("m", 3, b"ab"),
        Write("m", 9, bytes(12)),
        Call("none", ()),
        Call("none", ()),
        Call("two words", (float("inf"), 2**127)),
    ]
    text = pasteable_test("some/My lexer.wasm", steps, exports, imports, [[], events])
    assert (
        text
        == """\
from pytest_wasmer import Global, Memory, f64_from_bits


def test_my_lexer(wasm_instance):
    imports = {
        'env': {
            'log': lambda *_: None,
            'read': lambda *_, answers=iter([1.0, f64_from_bits(0x7ff8000000000001)]): next(answers, 0.0),
            'pair': lambda *_: (0, 0.0),
        },
        'my env': {
            'memory': Memory(1, maximum=3),
            'g': Global("i64", 0, mutable=True),
        },
    }
    instance = wasm_instance('My lexer.wasm', imports=imports)
    instance.exports.m.write(3, b'ab')
    instance.exports.m.write(9, b'\\x00' * 12)
    instance.exports.none.map([(), ()])
    instance.exports['two words'].map([(float("inf"), 0x80000000000000000000000000000000)])
"""
    )


def test_literals() -> None:
    assert literal("f32", float("nan")) == "f32_from_bits(0x7fc00000)"
    assert literal("f64", float("-inf")) == 'float("-inf")'
    assert literal("f64", -0.0) == "-0.0"
    assert literal("i32", -7) == "-7"
    assert literal("v128", 1) == "1"


# Real compilers


LLVM, SINGLEPASS = "llvm against singlepass and cranelift:", "singlepass against cranelift and llvm:"
MISCOMPILES = {
    "llvm_oob_load_sunk_into_branch": (miscompiles.LOAD_SUNK, COMPILERS, LLVM),
    "llvm_global_lost": (miscompiles.GLOBAL_LOST, COMPILERS, LLVM),
    "cranelift_v128_select": (miscompiles.V128_SELECT, COMPILERS[1:], "cranelift against llvm: they disagree"),
    "singlepass_host_float_indirect": (miscompiles.FLOAT_INDIRECT, COMPILERS, SINGLEPASS),
    "singlepass_host_float_result": (FLOAT_RESULT, COMPILERS, SINGLEPASS),
}


@needs_wheels
@pytest.mark.parametrize("name", MISCOMPILES)
def test_real_miscompiles_are_found(beside: Beside, cache: Path, name: str) -> None:
    wat, compilers, who = MISCOMPILES[name]
    registry = Registry([], cache)
    with of(beside(wat, [registry.spec(compiler) for compiler in compilers]), plans=400) as fuzzed:
        finding = found(fuzzed)
    assert finding.lines()[0] == who
    assert len(finding.sequence.steps) <= 2
