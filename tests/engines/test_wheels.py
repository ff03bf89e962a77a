"""The adapter of the wheels: what their exceptions mean, values as bits, and artifacts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.engines import wheels
from pytest_wasmer.engines.api import Engine, HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.engines.registry import COMPILERS, DYLIBS
from pytest_wasmer.engines.wheels import failure_of, from_bits, is_panic, plain, result_bits, to_bits, trap_of
from pytest_wasmer.runtime.sigactions import Sigactions
from pytest_wasmer.wasm.traps import TrapKind
from tests.conftest import FAKES, HERE, WHEELS_HERE, needs_wheels_here
from tests.fake_engine import FakeEngine, function, module

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_of_gcc_only_what_failed_is_told() -> None:
    """As Dylib's message for a program that cannot be linked (Debian 12, shortened)."""
    failed = "Compilation error: Shared object file generator failed with:"
    said = "Using built-in specs.\nCOLLECT_GCC=gcc\n /usr/lib/gcc/collect2 -o a.so a.o\n"
    error = "/usr/bin/ld: cannot find -lc\ncollect2: error: ld returned 1 exit status"
    assert wheels.quiet(f"{failed}\nstderr:{said}{error}\nstdout:") == f"{failed}\n{error}"
    assert wheels.quiet(f"{failed}\nstderr:{error}\nstdout:") == f"{failed}\n{error}"
    for other in ("", "Compilation error: not yet implemented", "two\n lines"):
        assert wheels.quiet(other) == other


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
        "custom_sections": 2,
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


@pytest.fixture(params=[*COMPILERS, *DYLIBS])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> wheels.WheelsEngine:
    """In this process: these calls crash nothing."""
    if not can_run(request.param):
        pytest.skip("neither the wasmer wheels nor gcc are everywhere")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return made(request.param)


def can_run(backend: str) -> bool:
    return WHEELS_HERE and (backend in COMPILERS or shutil.which("gcc") is not None)


def made(argument: str) -> wheels.WheelsEngine:
    return Sigactions.around(lambda: wheels.WheelsEngine(argument))


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


@needs_wheels_here
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


SECTIONS = b"\0\5\3oneA" + b"\0\5\3twoB" + b"\0\6\3oneCD" + b"\0\4\3nil"


def test_custom_sections_are_those_that_the_engine_keeps(engine: Any) -> None:
    """Wasmer keeps one of a name, the last, whether the module was stored or not."""
    compiled = engine.compile(wheels.wat_to_wasm("(module (func))") + SECTIONS)
    for native in (compiled, engine.deserialize(engine.serialize(compiled))):
        assert engine.custom_sections(native, "one") == [b"CD"]
        assert engine.custom_sections(native, "two") == [b"B"]
        assert engine.custom_sections(native, "nil") == [b""]
        assert engine.custom_sections(native, "three") == []


# Engines number types in the order in which they meet them: here the two modules' orders differ.
GIVES = """(module
  (type $first (func (param i64 i64)))
  (type $getter (func (result i32)))
  (table (export "table") 2 funcref)
  (elem (i32.const 0) $first $get)
  (func $first (type $first))
  (func $get (type $getter) (i32.const 42)))"""
TAKES = """(module
  (type $getter (func (result i32)))
  (import "e" "table" (table 2 funcref))
  (func (export "get") (type $getter) (call_indirect (type $getter) (i32.const 1)))
  (func (export "wrong") (type $getter) (call_indirect (type $getter) (i32.const 0))))"""


def test_deserialized_modules_call_each_other_through_a_table(engine: Any) -> None:
    modules = [engine.compile(wheels.wat_to_wasm(wat)) for wat in (GIVES, TAKES)]
    stored = [engine.deserialize(engine.serialize(native)) for native in modules]
    assert called_through_a_table(engine, *stored) == 42
    assert called_through_a_table(engine, modules[0], stored[1]) == 42
    assert called_through_a_table(engine, stored[0], modules[1]) == 42


def called_through_a_table(engine: Any, giving: Any, taking: Any) -> int:
    exporting, (table,) = engine.instantiate(giving, [])
    importing, (get, wrong) = engine.instantiate(taking, [table])
    with pytest.raises(Trapped):
        engine.caller(wrong, (), ("i32",))(())
    (value,) = engine.caller(get, (), ("i32",))(())
    del importing, exporting  # not before
    return int(value)


ALONE = """(module
  (import "e" "f" (func (param f64))) (import "e" "g" (global i32)) (import "e" "m" (memory 1))
  (table 4 funcref) (func (export "f") (param i32 i64 f32) (result f64) f64.const 0) (export "m" (memory 0)))"""
SHARING = {
    "table-import": '(module (import "e" "t" (table 1 funcref)))',
    "table-export": '(module (func (export "f")) (table (export "t") 1 funcref))',
    "global-import": '(module (import "e" "g" (global funcref)))',
    "global-export": '(module (global (export "g") externref (ref.null extern)))',
    "parameter": '(module (func (export "f") (param i32 externref)))',
    "result": '(module (func (export "f") (result funcref) (ref.null func)))',
    "function-import": '(module (import "e" "f" (func (param funcref))))',
}


@needs_wheels_here
@pytest.mark.parametrize("wat", [ALONE, *SHARING.values()], ids=["alone", *SHARING])
def test_deserialized_modules_that_exchange_references_share_a_store(wat: str) -> None:
    """The others do not: a shared store keeps their code for ever."""
    engine = made("cranelift")
    artifact = engine.serialize(engine.compile(wheels.wat_to_wasm(wat)))
    deserialize = engine._wasmer.Module.deserialize
    stores: list[object] = []

    def watched(store: object, content: bytes) -> Any:
        stores.append(store)
        return deserialize(store, content)

    deserialize_with(engine, watched)
    engine.deserialize(artifact)
    assert [store is engine._shared_store for store in stores] == ([False] if wat == ALONE else [False, True])


def deserialize_with(engine: wheels.WheelsEngine, deserialize: Callable[[object, bytes], Any]) -> None:
    """Stands in for the wheel's own."""
    engine._wasmer = SimpleNamespace(**{**vars(engine._wasmer), "Module": SimpleNamespace(deserialize=deserialize)})


@needs_wheels_here
def test_a_panic_of_deserialize_is_a_refusal() -> None:
    def panic(store: object, content: bytes) -> Any:
        raise PanicException("range end index 9 out of range")

    engine = made("singlepass")
    deserialize_with(engine, panic)
    with pytest.raises(Refused) as refused:
        engine.deserialize(b"damaged")
    assert (refused.value.stage, refused.value.text) == ("panic", "range end index 9 out of range")


@needs_wheels_here
@pytest.mark.parametrize("argument", ["headless", "headless-dylib"])
def test_without_a_compiler_nothing_is_compiled(argument: str) -> None:
    for wasm in (wheels.wat_to_wasm(WAT), b"no module"):
        with pytest.raises(Refused) as refused:
            made(argument).compile(wasm)
        assert (refused.value.stage, refused.value.text) == (
            "compile",
            "a headless engine has no compiler: it runs artifacts only",
        )


@needs_wheels_here
@pytest.mark.skipif(sys.platform == "win32", reason="gcc is a script of sh here")
@pytest.mark.parametrize("backend", DYLIBS)
def test_a_module_that_gcc_cannot_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    gcc = tmp_path / "gcc"
    gcc.write_text("#!/bin/sh\necho COLLECT_GCC=gcc >&2; echo ' collect2 -o a.so' >&2; echo 'ld: no' >&2; exit 1\n")
    gcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(Refused) as refused:
        made(backend).compile(wheels.wat_to_wasm(WAT))
    assert refused.value.stage == "compile"
    assert refused.value.text == "Compilation error: Shared object file generator failed with:\nld: no"


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


@needs_wheels_here
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
