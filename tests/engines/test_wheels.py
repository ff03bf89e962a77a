"""The adapter of the wheels: what their exceptions mean, values as bits, and artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_wasmer.engines import wheels
from pytest_wasmer.engines.api import Engine, HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.engines.wheels import failure_of, from_bits, is_panic, plain, result_bits, to_bits, trap_of
from pytest_wasmer.runtime.sigactions import Sigactions
from pytest_wasmer.wasm.traps import TrapKind
from tests.conftest import FAKES, HERE, needs_wheels
from tests.fake_engine import FakeEngine, function, module

WAT = """
(module $m
  (import "env" "host" (func $host (param i32) (result i32)))
  (memory (export "memory") 1 2)
  (global (export "global") (mut f32) (f32.const 1.5))
  (func (export "call") (param i32) (result i32) (call $host (local.get 0)))
  (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5))))
"""


class PanicException(BaseException):
    """As PyO3's, which cannot be imported."""


# Messages


@pytest.mark.parametrize(
    ("text", "expected"),
    [("RuntimeError: unreachable", "unreachable"), ("RuntimeError: RuntimeError: x", "x"), ("x", "x"), ("", "")],
)
def test_plain_takes_the_names_of_exceptions_off(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(("first", "kind"), wheels.TRAP_KINDS.items(), ids=list(wheels.TRAP_KINDS.values()))
def test_the_first_line_says_the_kind(first: str, kind: str) -> None:
    trap = trap_of(RuntimeError(f"RuntimeError: {first}\n    at f (<module>[0]:0x20)"))
    assert trap is not None
    assert (trap.kind, trap.text) == (kind, f"{first}\n    at f (<module>[0]:0x20)")
    assert trap_of(RuntimeError(first)) is not None


def test_the_kinds_are_those_of_the_user_s_traps() -> None:
    assert set(wheels.TRAP_KINDS.values()) == {kind.name for kind in TrapKind} - {"UNKNOWN"}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(""),
        RuntimeError("something else\nunreachable"),
        RuntimeError("unreachable code"),
        RuntimeError("Insufficient resources: Failed to create memory"),
        RecursionError("unreachable"),
        NotImplementedError("unreachable"),
    ],
    ids=["empty", "second-line", "prefix", "resources", "recursion", "subclass"],
)
def test_other_errors_are_no_traps(error: RuntimeError) -> None:
    assert trap_of(error) is None
    assert failure_of(error) is error


def text_with(frames: int, width: int = 30) -> str:
    return "\n".join(
        ["RuntimeError: unreachable", *[f"    at {'f' * width} (m[{number}]:0x1)" for number in range(frames)]]
    )


@pytest.mark.parametrize(("frames", "shown"), [(0, 0), (1, 1), (20, 20)])
def test_few_frames_are_kept(frames: int, shown: int) -> None:
    trap = trap_of(RuntimeError(text_with(frames)))
    assert trap is not None
    assert trap.text == plain(text_with(shown))


@pytest.mark.parametrize("frames", [21, 22, 1000, 300_000])
def test_many_frames_are_cut(frames: int) -> None:
    trap = trap_of(RuntimeError(text_with(frames)))
    assert trap is not None
    assert trap.text.splitlines() == [*plain(text_with(19)).splitlines(), "    ... more frames"]


def test_frames_with_long_names_are_cut_too() -> None:
    trap = trap_of(RuntimeError(text_with(3, width=3000)))
    assert trap is not None
    assert len(trap.text) <= wheels.TEXT_LIMIT + 30
    assert trap.text.endswith("    ... more frames")


def test_the_memory_of_a_stack_overflow_s_text_is_given_back() -> None:
    error = RuntimeError(text_with(1000).replace("unreachable", "call stack exhausted"))
    trap = trap_of(error)
    assert trap is not None
    assert trap.kind == "STACK_OVERFLOW"
    assert error.args == ()
    wheels.give_back_memory()


def test_a_panic_is_known_by_its_name() -> None:
    assert is_panic(PanicException("index out of bounds"))
    assert not is_panic(RuntimeError("index out of bounds"))
    refused = failure_of(PanicException("index out of bounds"))
    assert isinstance(refused, Refused)
    assert (refused.stage, refused.text) == ("panic", "index out of bounds")
    assert isinstance(failure_of(RuntimeError("unreachable")), Trapped)
    interrupt = KeyboardInterrupt()
    assert failure_of(interrupt) is interrupt


# Bits


def test_integers_pass_as_they_are() -> None:
    assert from_bits(["i32", "i64", "v128"]) is to_bits(["i32", "i64", "v128"]) is None
    assert from_bits([]) is None


def test_floats_are_bits() -> None:
    there, back = from_bits(["f32", "i32", "f64"]), to_bits(["f32", "i32", "f64"])
    assert there is not None
    assert back is not None
    assert there((0x3FC00000, -7, 1 << 63)) == (1.5, -7, -0.0)
    assert back((1.5, -7, -0.0)) == (0x3FC00000, -7, 1 << 63)
    for bits in (0x7FC12345, 0xFFC00000):
        assert back(there((bits, 0, 0x7FF8000000000001))) == (bits, 0, 0x7FF8000000000001)


def test_results() -> None:
    assert result_bits([])(None) == ()
    assert result_bits(["i32"])(5) == (5,)
    assert result_bits(["f32"])(1.5) == (0x3FC00000,)
    assert result_bits(["i32", "i64"])([1, 2]) == (1, 2)
    assert result_bits(["i32", "f64"])([1, -0.0]) == (1, 1 << 63)


# The default of the contract


def test_the_default_mapper_keeps_traps_in_their_places() -> None:
    engine = FakeEngine("fake-a")
    wasm = module({"add": function("i32 i32 -> i32", ["sum"])})
    _, (add,) = engine.instantiate(engine.compile(wasm), [])
    assert type(engine).mapper is Engine.mapper
    assert engine.mapper(add, ("i32", "i32"), ("i32",))([(1, 2), (3, 4)]) == [(3,), (7,)]
    assert engine.mapper(add, ("i32", "i32"), ("i32",))(iter([])) == []

    def odd(values: tuple[int, ...]) -> tuple[int, ...]:
        if values[0] % 2:
            raise Trapped("UNREACHABLE", f"trap {values[0]}")
        return values

    outcomes = engine.mapper(odd, ("i32",), ("i32",))([(number,) for number in range(4)])
    assert [outcome.text if isinstance(outcome, Trapped) else outcome for outcome in outcomes] == [
        *[(0,), "trap 1", (2,), "trap 3"]
    ]


@pytest.mark.parametrize("error", [HostRaised(1), Refused("panic", "x"), ValueError(), KeyboardInterrupt()], ids=repr)
def test_anything_else_ends_the_default_mapper(error: BaseException) -> None:
    calls: list[int] = []

    def call(values: tuple[int, ...]) -> tuple[int, ...]:
        calls.append(values[0])
        if values[0] == 1:
            raise error
        return ()

    with pytest.raises(type(error)) as raised:
        FakeEngine("fake-a").mapper(call, ("i32",), ())([(0,), (1,), (2,)])
    assert raised.value is error
    assert calls == [0, 1]


def test_the_contract_is_abstract() -> None:
    engine: Any = Engine()
    for name, arguments in {
        "compile": 1,
        "serialize": 1,
        "deserialize": 1,
        "describe": 1,
        "instantiate": 2,
        "caller": 3,
        "make_function": 3,
        "make_memory": 2,
        "make_global": 3,
        "read": 3,
        "write": 3,
        "memory_pages": 1,
        "grow": 2,
        "get_global": 2,
        "set_global": 3,
        "table_size": 1,
    }.items():
        with pytest.raises(NotImplementedError):
            getattr(engine, name)(*[None] * arguments)
    assert FAKES[0].engine == "fake_engine:FakeEngine"


# The real thing, without anything above it


@pytest.fixture
def engine(compiler: str) -> Any:
    """In this process: these calls crash nothing."""
    return Sigactions.around(lambda: wheels.WheelsEngine(compiler))


LATER_ENGINE = """
import faulthandler, sys
from pathlib import Path
from pytest_wasmer.engines.registry import Registry
from pytest_wasmer.runtime.direct import DirectConnection
from tests.wasm.workbench import make

faulthandler.enable()
registry = Registry([], Path(sys.argv[1]))
found = []
for name in ("singlepass", "cranelift", "llvm"):
    wat = '(module (memory 1) (func (export "load") (result i32) (i32.load (i32.const -1))))'
    exports = make(DirectConnection(registry.spec(name), Path(sys.argv[1])), wat).exports
    try:
        exports.load()
    except Exception as trap:
        found.append(trap.kind.name)
    # As a run of pytest within this one does at its end and at its start.
    faulthandler.disable()
    faulthandler.enable()
print(found)
"""


@needs_wheels
def test_an_engine_made_later_finds_the_handlers_of_the_first(tmp_path: Path) -> None:
    """Wasmer installs them once in a process; whoever takes what is there later for Wasmer's dies at the first trap."""
    done = subprocess.run(
        [sys.executable, "-c", LATER_ENGINE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    assert (done.stdout, done.stderr[-500:]) == (f"{['MEMORY_OUT_OF_BOUNDS'] * 3}\n", "")


def test_an_artifact_runs_as_the_module_does(engine: Any) -> None:
    first = engine.compile(wheels.wat_to_wasm(WAT))
    artifact = engine.serialize(first)
    assert type(artifact) is bytes
    assert len(artifact) > 500
    second = engine.deserialize(artifact)
    assert engine.serialize(second) == artifact
    assert engine.describe(second) == engine.describe(first)
    for native in (first, second):
        host = engine.make_function(("i32",), ("i32",), lambda values: (values[0] * 3,))
        _, (memory, variable, call, half) = engine.instantiate(native, [host])
        assert engine.caller(call, ("i32",), ("i32",))((14,)) == (42,)
        assert engine.caller(half, ("f64",), ("f64",))((0x4008000000000000,)) == (0x3FF8000000000000,)
        engine.write(memory, 5, b"abc")
        assert engine.read(memory, 4, 5) == b"\0abc\0"
        assert engine.get_global(variable, "f32") == 0x3FC00000
        engine.set_global(variable, "f32", 0x7FC12345)
        assert engine.get_global(variable, "f32") == 0x7FC12345
        assert (engine.grow(memory, 1), engine.memory_pages(memory)) == (1, 2)


def test_a_description_is_primitive(engine: Any) -> None:
    assert engine.describe(engine.compile(wheels.wat_to_wasm(WAT))) == (
        "m",
        [("env", "host", ("func", ("i32",), ("i32",)))],
        [
            ("memory", ("memory", 1, 2)),
            ("global", ("global", "f32", True)),
            ("call", ("func", ("i32",), ("i32",))),
            ("half", ("func", ("f64",), ("f64",))),
        ],
    )


def test_refusals_by_stage(engine: Any) -> None:
    for artifact in (b"", b"x", b"not an artifact at all"):
        with pytest.raises(Refused, match="incompatible binary") as refused:
            engine.deserialize(artifact)
        assert refused.value.stage == "validate"
    with pytest.raises(Refused) as refused:
        engine.compile(b"\0asm\1\0\0\0\x01\x01\x05")
    assert refused.value.stage == "validate"
    with pytest.raises(Refused) as refused:
        engine.grow(engine.make_memory(1, 2), 5)
    assert refused.value.stage == "grow"
    with pytest.raises(Refused) as refused:
        engine.make_memory(2, 1)
    assert refused.value.stage == "instantiate"


def test_bounds_are_the_adapter_s_to_check(engine: Any) -> None:
    memory = engine.make_memory(1, None)
    for reach in (lambda: engine.read(memory, 65535, 2), lambda: engine.write(memory, 65535, b"ab")):
        with pytest.raises(OutOfBounds) as outside:
            reach()
        assert outside.value.size == 65536
    assert engine.read(memory, 65535, 1) == b"\0"


@needs_wheels
def test_wat_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(Refused, match=r"--> <anon>:1:2") as refused:
        wheels.wat_to_wasm("(nonsense)")
    assert refused.value.stage == "convert"


def test_without_the_wheel_no_wat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasmer", None)
    with pytest.raises(Refused) as refused:
        wheels.wat_to_wasm("(module)")
    assert refused.value.text == (
        "the WAT converter is in the `wasmer` wheel, which cannot be imported: "
        "import of wasmer halted; None in sys.modules"
    )


def test_the_adapter_needs_the_standard_library_only() -> None:
    """Engine processes import it: typing alone would cost a tenth of their start."""
    package = Path(wheels.__file__).parents[1]
    text = (
        "import sys; package = type(sys)('pytest_wasmer'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['pytest_wasmer'] = package\n"
        "import pytest_wasmer.engines.wheels, pytest_wasmer.engines.libtinfo\n"
        "loaded = {name.partition('.')[0] for name in sys.modules} - {'pytest_wasmer', '__main__'}\n"
        "print(sorted(loaded - sys.stdlib_module_names), 'typing' in sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", text, str(package)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[] False\n"
