"""Hypothesis strategies from the types of exports."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from pytest_wasmer.agreement.steps import Call, Write, run
from pytest_wasmer.agreement.strategies import arguments, calls, values
from pytest_wasmer.edges import EDGES, many_edges
from pytest_wasmer.wasm.traps import Trap
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType
from pytest_wasmer.wasm.values import Converter, f64_bits
from tests.fake_engine import function, memory, module
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

ALL_TYPES = FunctionType(tuple(EDGES), ("i32",))
# Fixtures of one test serve all its examples.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
FEW = settings(max_examples=2000, database=None, phases=[Phase.generate, Phase.shrink], deadline=None)


@given(row=arguments(ALL_TYPES))
@settings(deadline=None)
def test_arguments_are_values_that_a_function_accepts(row: tuple[Any, ...]) -> None:
    converter = Converter(ALL_TYPES.params, str)
    bits = converter.to_bits(row)
    # What Python holds is what Wasm gets: f32 is not rounded.
    assert [repr(value) for value in converter.from_bits(bits)] == [repr(value) for value in row]


def test_many_examples_are_edges() -> None:
    seen: list[int] = []

    @settings(max_examples=300, deadline=None, database=None, phases=[Phase.generate], derandomize=True)
    @given(values("i64"))
    def look(value: int) -> None:
        seen.append(value)

    look()
    edges = [value for value in seen if value in many_edges("i64") and not 0 <= value <= 100]
    assert len(edges) > 60


@pytest.mark.parametrize(
    ("value_type", "wanted"),
    [
        ("i32", lambda value: value in (65533, 65535, 65537)),
        ("i32", lambda value: value == 4 * 65536 - 1),
        ("i64", lambda value: value == -(2**63)),
        ("f32", lambda value: value == 2.0**31),
        ("f64", lambda value: f64_bits(value) == 0x7FF0000000000001),
        ("f64", lambda value: math.copysign(1, value) < 0 and value == 0),
        ("v128", lambda value: {value >> place & 0xFFFFFFFF for place in (0, 32, 64, 96)} == {0x80000000}),
    ],
    ids=["page end", "memory end", "limit", "above i32", "signalling NaN", "-0.0", "lanes"],
)
def test_values_that_nobody_guesses(value_type: str, wanted: Any) -> None:
    find(values(value_type, pages=4), wanted, settings=FEW)


def test_they_shrink_to_small_plain_values() -> None:
    assert find(arguments(ALL_TYPES), lambda row: True, settings=FEW) == (0, 0, 0.0, 0.0, 0)
    assert find(values("i32"), lambda value: value > 40, settings=FEW) == 41
    assert find(values("i32", pages=1), lambda value: value + 4 > 65536, settings=FEW) in (65533, 65534, 65535, 65536)


def test_no_strategy_of_references() -> None:
    with pytest.raises(TypeError, match=r"Python makes no externref"):
        arguments(FunctionType(("externref",), ()))


EXPORTS = {
    "f": FunctionType(("i32", "f64"), ("i32",)),
    "takes": FunctionType(("funcref",), ()),
    "m": MemoryType(2, None),
    "g": GlobalType("i32", True),
}


@given(steps=calls(EXPORTS))
@settings(deadline=None)
def test_calls_and_writes(steps: list[Call | Write]) -> None:
    assert len(steps) <= 20
    for step in steps:
        if isinstance(step, Write):
            assert step.memory == "m"
            assert step.data
            assert 0 <= step.offset <= step.offset + len(step.data) <= 2 * 65536
        else:
            assert step.name == "f"
            assert len(step.arguments) == 2


def test_a_sequence_shrinks_to_the_calls_that_matter() -> None:
    def shows(steps: list[Call | Write]) -> bool:
        written = [step for step in steps if isinstance(step, Write) and step.offset > 8]
        return bool(written) and any(isinstance(step, Call) and step.arguments[0] > 1000 for step in steps)

    small = find(calls(EXPORTS), shows, settings=FEW)
    assert sorted(map(type, small), key=str) == [Call, Write]


def test_nothing_to_call() -> None:
    with pytest.raises(ValueError, match="there is no function to call among the exports: g"):
        calls({"g": GlobalType("i32", True)})


WASM = module(
    exports={
        "f": function("i32 -> i32", [["return", 1]]),
        "m": memory(1),
        "t": function("->", [["trap", "UNREACHABLE"]]),
    }
)


@pytest.mark.parametrize("isolation", ["process"])
def test_from_a_module_an_instance_and_a_function(fake: Connection) -> None:
    """And from what has an instance's attributes, as what `wasm_all` makes."""
    instance = make(fake, WASM)

    class Everywhere:
        module = instance.module
        exports = instance.exports

    @SHARED
    @given(st.data())
    def look(data: st.DataObject) -> None:
        for source in (load(fake, WASM), instance, Everywhere()):
            steps = data.draw(calls(source))
            outcomes = run(steps, instance)
            for step, outcome in zip(steps, outcomes, strict=True):
                expected = {"f": "1", "t": "<Trap UNREACHABLE in t>"}
                assert repr(outcome) == (expected[step.name] if isinstance(step, Call) else "None")
        assert instance.exports.f(*data.draw(arguments(instance.exports.f))) == 1

    look()


@pytest.mark.parametrize("isolation", ["process"])
def test_steps_can_be_applied_one_by_one(fake: Connection) -> None:
    instance = make(fake, WASM)
    assert Call("f", (7,)).apply(instance) == 1
    assert isinstance(Call("t", ()).apply(instance), Trap)
    Write("m", 16, b"abc").apply(instance)
    Write("", 19, b"d").apply(instance)
    assert instance.memory[16:20] == b"abcd"


def test_without_hypothesis_the_error_says_what_to_type() -> None:
    code = "import sys; sys.modules['hypothesis'] = None; import pytest_wasmer.agreement.strategies"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: pytest_wasmer.agreement.strategies needs Hypothesis: "
        "pip install 'pytest-wasmer[hypothesis]'"
    )
