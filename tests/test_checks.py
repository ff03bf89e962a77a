"""Round trips and reproducibility: good programs pass, and every lie is found, with the step where."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import Caller, Global, Memory, checks
from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.key import parts_of
from pytest_wasmer.artifacts.store import Shelf, Store
from pytest_wasmer.checks import (
    LINKED,
    REGISTERS,
    CheckFailed,
    Reproducibility,
    RoundTrip,
    check_reproducible,
    check_round_trip,
)
from pytest_wasmer.engines.registry import COMPILERS, DYLIBS, BackendSpec, Registry
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.errors import LinkError
from pytest_wasmer.wasm.loading import Reloaded
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests.conftest import HERE, needs_wheels, skip_without_wheels
from tests.fake_engine import function, memory, module, table, variable
from tests.wasm.workbench import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.loading import Loading
    from pytest_wasmer.wasm.module import Module

OWN = "reloaded in its own engine process"
SAME = "reloaded in the engine process that compiled it"
APART = "reloaded in a fresh engine process, in another directory"

ANSWER = module(
    name="honest",
    imports=[("env", "log", ["func", [], []])],
    exports={"answer": function("-> i32", [["return", 42]]), "counter": variable("i32", 7), "memory": memory(1)},
)


@pytest.fixture(scope="module")
def engines(cache: Path) -> Iterator[EnginePool]:
    """One engine process per backend for the whole file; each check starts its own."""
    pool = EnginePool("process", cache)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def liars(cache: Path) -> Iterator[EnginePool]:
    pool = EnginePool("process", cache)
    yield pool
    pool.close()


@pytest.fixture
def liar(liars: EnginePool) -> Callable[..., Module]:
    """A module on an engine that lies as told."""

    def make_liar(lie: str, wasm: bytes = ANSWER, backend: str = "") -> Module:
        spec = BackendSpec(backend or f"liar-{lie}", "lying_engine:LyingEngine", lie, import_path=str(HERE))
        return load(liars.connection(spec), wasm, "m.wasm")

    return make_liar


@pytest.fixture(params=[*COMPILERS, *DYLIBS])
def wheel(request: pytest.FixtureRequest, engines: EnginePool, cache: Path) -> Connection:
    """A connection to each compiler, with each of the wheels' engines."""
    skip_without_wheels("process")
    return engines.connection(Registry([], cache).spec(request.param))


# Round trips of honest engines

MODULES = {
    "empty": ("(module)", 0),
    "functions": (
        """(module $named
          (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
          (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5)))
          (func (export "div") (param i64 i64) (result i64) (i64.div_s (local.get 0) (local.get 1)))
          (func (export "none")))""",
        26,
    ),
    "host": (
        """(module
          (import "env" "log" (func $log (param i32) (result i64)))
          (import "env" "memory" (memory 1 2))
          (import "env" "base" (global $base i32))
          (import "env" "state" (global $state (mut i64)))
          (export "memory" (memory 0))
          (func (export "f") (param i32) (result i64)
            (i32.store8 (i32.const 8) (local.get 0))
            (global.set $state (i64.extend_i32_s (local.get 0)))
            (call $log (i32.add (local.get 0) (global.get $base)))))""",
        8,
    ),
    "state": (
        """(module
          (memory (export "memory") 1) (data (i32.const 4) "data")
          (table (export "table") 3 funcref) (elem (i32.const 1) $start)
          (global (export "counter") (mut i32) (i32.const 5))
          (global (export "pi") f64 (f64.const 3.14))
          (func $start (global.set 0 (i32.const 6)))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
          (start $start))""",
        16,
    ),
}


def with_custom_sections(wasm: bytes) -> bytes:
    def section(name: bytes, content: bytes) -> bytes:
        body = bytes([len(name)]) + name + content
        return bytes([0, len(body)]) + body

    return wasm[:8] + section(b"first", b"one") + wasm[8:] + section(b"last", b"")


@pytest.mark.parametrize("name", MODULES)
def test_what_the_compilers_store_is_the_same_program(wheel: Connection, name: str) -> None:
    wat, calls = MODULES[name]
    if (wheel.backend, name) == ("singlepass-dylib", "empty"):
        pytest.skip("singlepass with the Dylib engine cannot link a module without functions")
    wasm = with_custom_sections(wheel.convert(wat, "conversion"))
    done = check_round_trip(load(wheel, wasm))
    if wheel.backend in MUTE and name == "functions":
        assert 0 < done.calls < calls
        assert [text for text in done.unobserved if f"ended in UNKNOWN: {VARIES}" not in text] == []
    else:
        assert done == RoundTrip(calls, ())


# Those that do not tell why they trap.
MUTE = ("singlepass-dylib", "cranelift-dylib")
VARIES = "how deep a stack goes varies, so what that left, and later calls, are not compared"
DEEP = """(module
  (import "env" "log" (func $log))
  (global $depth (export "depth") (mut i32) (i32.const 0))
  (func $down (global.set $depth (i32.add (global.get $depth) (i32.const 1))) (call $down))
  (func (export "deep") (call $log) (call $down))
  (func (export "depth of it") (result i32) (global.get $depth)))"""


def test_what_an_exhausted_stack_leaves_is_not_compared(wheel: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LIMIT", checks.MORE)  # the trap of a deep stack takes its time on a busy machine
    kind = "UNKNOWN" if wheel.backend in MUTE else "STACK_OVERFLOW"
    deep = load(wheel, DEEP)
    said = f"deep: deep() ended in {kind}: {VARIES}"
    assert check_round_trip(deep) == RoundTrip(3, (said,))
    calls = [("depth of it",), ("deep",), ("depth of it",)]
    assert check_round_trip(deep, calls, imports={"env": {"log": lambda: None}}) == RoundTrip(2, (said,))


def test_an_exhausted_stack_is_compared_itself(liar: Callable[..., Module]) -> None:
    wasm = module(exports={"answer": function("-> i32", [["trap", "STACK_OVERFLOW"]])})
    failed = found(liar("in a fresh process", wasm))
    assert "as compiled: answer(): STACK_OVERFLOW\n    as reloaded: answer(): 43" in str(failed)


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_given_calls_are_made_in_order_on_one_instance(fake: Connection) -> None:
    """Also of a module in this process: the checks have engine processes of their own."""
    seen: list[int] = []
    wasm = module(imports=[("env", "log", ["func", ["i32"], []])], exports={"f": function("i32 ->", [["host"]])})
    done = check_round_trip(load(fake, wasm), [("f", 3), ("f", 1)], imports={"env": {"log": seen.append}})
    assert done == RoundTrip(2, ())
    assert seen == [3, 1] * 3


def test_imports_can_be_made_for_each_instance(liar: Callable[..., Module]) -> None:
    wasm = module(imports=[("env", "next", ["func", [], ["i32"]])], exports={"f": function("-> i32", [["host"]])})

    def imports() -> dict[str, Any]:
        numbers = iter(range(10))
        return {"env": {"next": lambda: next(numbers)}}

    honest = liar("none", wasm)
    assert check_round_trip(honest, [("f",), ("f",)], imports=imports) == RoundTrip(2, ())
    with pytest.raises(CheckFailed) as failed:  # one state for all instances: that is why
        check_round_trip(honest, [("f",), ("f",)], imports=imports())
    assert str(failed.value) == (
        f"m.wasm on liar-none, {SAME}, is another program (event 1)\n"
        "    as compiled: host call env.next: [], 0\n"
        "    as reloaded: host call env.next: [], 2"
    )


def test_host_functions_get_their_caller(wheel: Connection) -> None:
    wat = """(module (import "env" "log" (func $log (param i32)))
      (memory (export "memory") 1) (data (i32.const 0) "text")
      (func (export "f") (param i32) (call $log (local.get 0))))"""
    read = []

    def log(caller: Caller, length: int) -> None:
        read.append(caller.memory.read(0, length))

    done = check_round_trip(load(wheel, wat), [("f", 4)], imports={"env": {"log": log}})
    assert done == RoundTrip(1, ())
    assert read == [b"text"] * 3


def test_an_exception_of_a_host_function_is_compared(liar: Callable[..., Module]) -> None:
    wasm = module(imports=[("env", "f", ["func", [], []])], exports={"f": function("->", [["host"]])})
    texts = iter(["one", "one", "another"])

    def fail() -> None:
        raise KeyError(next(texts))

    with pytest.raises(CheckFailed) as failed:
        check_round_trip(liar("none", wasm), [("f",)], imports={"env": {"f": fail}})
    assert str(failed.value) == (
        f"m.wasm on liar-none, {APART}, is another program\n"
        "    as compiled: f(): KeyError, 'one'\n"
        "    as reloaded: f(): KeyError, 'another'"
    )


def test_memories_and_globals_are_made_for_each_instance(liar: Callable[..., Module]) -> None:
    wasm = module(imports=[("env", "m", ["memory", 1, None]), ("env", "g", ["global", "i32", True])])
    honest = liar("none", wasm)
    assert check_round_trip(honest, []) == RoundTrip(0, ())
    assert check_round_trip(honest, imports=lambda: {"env": {"m": Memory(1), "g": Global("i32", 1, mutable=True)}}) == (
        RoundTrip(0, ())
    )


def test_what_another_engine_process_made_is_refused(liar: Callable[..., Module]) -> None:
    """Its number could be that of anything in the check's own engine process."""
    lender = liar("none", module(exports={"f": function("-> i32", [["return", 1]])})).instantiate()
    wasm = module(imports=[("env", "f", ["func", [], ["i32"]])], exports={"g": function("-> i32", [["host"]])})
    with pytest.raises(LinkError) as failed:
        check_round_trip(liar("none", wasm), [("g",)], imports={"env": lender})
    assert str(failed.value).startswith("m.wasm: import env.f is linked in another engine process than ")


def test_imports_that_do_not_fit_are_what_instantiate_says(liar: Callable[..., Module]) -> None:
    with pytest.raises(LinkError, match="imports what it is not given"):
        check_round_trip(liar("none"), imports={})


def test_a_call_of_what_is_not_there_is_what_exports_say(liar: Callable[..., Module]) -> None:
    with pytest.raises(AttributeError, match="answe"):
        check_round_trip(liar("none"), [("answe",)])


def test_a_table_cannot_be_made_so_nothing_is_called(liar: Callable[..., Module]) -> None:
    wasm = module(imports=[("env", "t", ["table", "funcref", 1, None])], exports={"f": function("->", [])})
    done = check_round_trip(liar("none", wasm))
    reason = "its calls: it imports a table, which Python cannot make"
    assert done == RoundTrip(0, (reason,))
    with pytest.raises(WasmError) as failed:
        check_round_trip(liar("none", wasm), [("f",)])
    assert str(failed.value) == (
        f"m.wasm on liar-none: none of the given calls was observed, so that nothing was compared: {reason}"
    )


@pytest.mark.parametrize(
    ("type_", "said"),
    [
        (["global", "externref", False], "a global of type externref"),
        (["global", "v128", True], "a global of type v128"),
        (["func", ["externref"], []], "a function (externref) -> ()"),
    ],
)
def test_nor_can_globals_and_functions_of_some_types(liar: Callable[..., Module], type_: list[Any], said: str) -> None:
    wasm = module(imports=[("env", "it", type_)], exports={"f": function("->", []), "g": function("externref ->", [])})
    assert check_round_trip(liar("none", wasm)).unobserved == (
        "g: its type has references, which Python cannot pass: (externref) -> ()",
        f"its calls: it imports {said}, which Python cannot make",
    )
    assert check_round_trip(liar("none", module(imports=[("env", "it", type_)]))) == RoundTrip(0, ())


def test_functions_with_references_are_not_called(liar: Callable[..., Module]) -> None:
    wasm = module(exports={"f": function("->", []), "g": function("-> funcref", [])})
    assert check_round_trip(liar("none", wasm)) == RoundTrip(
        2, ("g: its type has references, which Python cannot pass: () -> (funcref)",)
    )


def test_calls_that_a_trap_in_the_start_prevents_are_not_counted(liar: Callable[..., Module]) -> None:
    wasm = module(start=[["trap", "UNREACHABLE"]], exports={"f": function("->", []), "g": function("i32 ->", [])})
    said = "its calls: its start trapped (UNREACHABLE)"
    assert check_round_trip(liar("none", wasm)) == RoundTrip(0, (said,))
    with pytest.raises(WasmError, match="none of the given calls was observed") as failed:
        check_round_trip(liar("none", wasm), [("f",)])
    assert not isinstance(failed.value, CheckFailed)
    assert str(failed.value).endswith(said)


def test_making_imports_is_not_the_time_of_the_calls(
    liar: Callable[..., Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MORE", 0.4)

    def imports() -> dict[str, Any]:
        time.sleep(0.5)
        return {"env": {"m": Memory(4)}}

    wasm = module(imports=[("env", "m", ["memory", 4, None])], exports={"f": function("->", [])})
    assert check_round_trip(liar("none", wasm), [("f",)], imports=imports) == RoundTrip(1, ())


def test_tables_and_constant_globals_are_looked_at(liar: Callable[..., Module]) -> None:
    wasm = module(exports={"t": table(3), "g": variable("f64", 1, mutable=False), "f": function("->", [])})
    assert check_round_trip(liar("none", wasm)) == RoundTrip(2, ())


# Round trips of liars


def found(lie: Module, *arguments: Any, **options: Any) -> CheckFailed:
    with pytest.raises(CheckFailed) as failed:
        check_round_trip(lie, *arguments, **options)
    return failed.value


STRUCTURE = "its name, imports, exports and custom sections"
TYPE = "('func', (), ('i32',))"
HONEST_EXPORTS = f"[('answer', {TYPE}), ('counter', ('global', 'i32', True)), ('memory', ('memory', 1, None))]"


@pytest.mark.parametrize(
    ("lie", "step", "compiled", "reloaded"),
    [
        ("in the process that compiled", SAME, "answer(): 42", "answer(): 43"),
        ("in a fresh process", APART, "answer(): 42", "answer(): 43"),
        ("hangs in a fresh process", APART, "answer(): 42", "it did not end"),
        ("traps", SAME, "answer(): 42", "answer(): UNREACHABLE"),
        ("crashes", SAME, "answer(): 42", "the engine process was lost: exit status 3"),
        ("calls the host once more", SAME, "answer(): 42", "host call env.log: [], None"),
        ("traps in its start", SAME, "answer(): 42", "the start: UNREACHABLE"),
        ("another global", SAME, "global 'counter': (7,)", "global 'counter': (8,)"),
    ],
)
def test_a_lie_about_what_it_does_is_found(
    liar: Callable[..., Module], monkeypatch: pytest.MonkeyPatch, lie: str, step: str, compiled: str, reloaded: str
) -> None:
    monkeypatch.setattr(checks, "MORE", 0.5)
    failed = found(liar(lie))
    assert failed.step == step
    event = {"another global": 3}.get(lie, 1)
    assert str(failed) == (
        f"m.wasm on liar-{lie}, {step}, is another program (event {event})\n"
        f"    as compiled: {compiled}\n    as reloaded: {reloaded}"
    )


@pytest.mark.parametrize(
    ("lie", "before", "after"),
    [
        ("drops an export", f"[('answer', {TYPE}), ('counter'", "[('counter'"),
        ("reorders exports", f"[('answer', {TYPE}), ('counter'", "[('memory'"),
        ("export of another type", f"('answer', {TYPE})", "('answer', ('func', (), ('i64',)))"),
        ("import of another type", "('env', 'log', ('func', (), ()))", "('env', 'log', ('func', ('i64',), ()))"),
        ("another name", f"{STRUCTURE}: honest", f"{STRUCTURE}: another"),
    ],
)
def test_a_lie_about_what_it_is_is_found_at_once(
    liar: Callable[..., Module], lie: str, before: str, after: str
) -> None:
    failed = found(liar(lie))
    assert failed.step == OWN
    first, compiled, reloaded = str(failed).splitlines()
    assert first == f"m.wasm on liar-{lie}, {OWN}, is another program"
    assert compiled.startswith(f"    as compiled: {STRUCTURE}: honest, [('env', 'log', ('func', (), ()))], ")
    assert before in compiled
    assert before not in reloaded
    assert after in reloaded


def test_a_lie_in_another_directory_is_found(liar: Callable[..., Module]) -> None:
    failed = found(liar(f"elsewhere than in {Path.cwd()}"))
    assert failed.step == APART
    assert str(failed).endswith("as reloaded: answer(): 43")


def test_a_lost_custom_section_is_found(liar: Callable[..., Module]) -> None:
    failed = found(liar("drops a custom section"))
    assert failed.step == OWN
    compiled, reloaded = str(failed).splitlines()[1:]
    assert "'fake': [b'" in compiled
    assert reloaded.endswith("{'fake': []}")


def test_other_bytes_are_found(liar: Callable[..., Module]) -> None:
    lie = "serializes to other bytes"
    failed = found(liar(lie))
    assert (failed.step, str(failed)) == (OWN, f"m.wasm on liar-{lie}, {OWN}: it serializes to other bytes")


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("refuses in a fresh process", "not today"),
        ("crashes in a fresh process", " engine process was lost: killed by SIGABRT"),
    ],
)
def test_what_cannot_be_loaded_is_found(liar: Callable[..., Module], lie: str, reason: str) -> None:
    failed = found(liar(lie))
    assert failed.step == APART
    assert str(failed).startswith(f"m.wasm on liar-{lie} cannot be {APART}: ")
    assert reason in str(failed)


def test_a_check_that_fails_is_an_assertion_and_ours(liar: Callable[..., Module]) -> None:
    assert isinstance(found(liar("in a fresh process")), AssertionError)
    assert isinstance(found(liar("in a fresh process")), WasmError)


def test_more_events_are_another_program(liar: Callable[..., Module]) -> None:
    one = ("f()", 1)
    with pytest.raises(CheckFailed) as failed:
        checks._compare(liar("none"), SAME, [one], [one, one])
    assert str(failed.value) == f"m.wasm on liar-none, {SAME}, is another program: 2 events instead of 1"


def test_long_events_are_cut(liar: Callable[..., Module]) -> None:
    exports = {f"export number {number}": function("->", []) for number in range(50)}
    failed = found(liar("another name", module(name="honest", exports=exports)))
    for line in str(failed).splitlines():
        assert len(line) < 530
    assert str(failed).endswith(" ...")


def test_the_liar_in_its_own_process_is_not_what_runs(liar: Callable[..., Module]) -> None:
    """What is checked is compiled anew: the module at hand may be a lie already."""
    honest = liar("in a fresh process")
    artifact = honest.serialize()
    assert check_round_trip(liar("none")) == RoundTrip(2, ())
    assert honest.serialize() == artifact


# What cannot be observed


def test_endless_loops_are_not_observed_and_the_others_are(
    liar: Callable[..., Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LIMIT", 0.15)
    exports = {f"loop{number}": function("i32 ->", [["hang"]]) for number in range(4)}
    wasm = module(exports={"first": function("-> i32", [["return", 1]]), **exports})
    done = check_round_trip(liar("none", wasm))
    said = "did not end within 0.15 s with arguments derived from its type"
    assert done == RoundTrip(
        2,
        (
            *[f"loop{number}: {said}" for number in range(3)],
            "loop3: after 3 that did not end no more were tried",
        ),
    )


def test_what_comes_after_an_endless_loop_is_compared(
    liar: Callable[..., Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LIMIT", 0.15)
    exports = {"loop": function("->", [["hang"]]), "answer": function("-> i32", [["return", 42]])}
    failed = found(liar("in a fresh process", module(exports=exports)))
    assert failed.step == APART
    assert "as reloaded: answer(): 43" in str(failed)


def test_given_calls_that_do_not_end_are_an_error(liar: Callable[..., Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was told otherwise that nothing was compared: `wasm_round_trip` would be green."""
    monkeypatch.setattr(checks, "MORE", 0.15)
    endless = liar("none", module(exports={"loop": function("->", [["hang"]])}))
    with pytest.raises(WasmError) as failed:
        check_round_trip(endless, [("loop",)])
    assert not isinstance(failed.value, CheckFailed)
    assert str(failed.value) == (
        "m.wasm on liar-none: the given calls did not end within 0.15 s, so that nothing was compared"
    )


def test_a_crash_of_fresh_code_is_an_event(liar: Callable[..., Module]) -> None:
    wasm = module(
        exports={
            "exits": function("->", [["exit", 3]]),
            "dies": function("->", [["signal", "SIGKILL"]]),
            "traps": function("->", [["trap", "UNREACHABLE"]]),
        }
    )
    assert check_round_trip(liar("none", wasm)) == RoundTrip(
        2,
        (
            "exits: the engine process was lost (exit status 3)",
            "dies: the engine process was lost (killed by SIGKILL)",
        ),
    )


def test_no_engine_process_is_left(liar: Callable[..., Module]) -> None:
    honest = liar("none")
    before = children()
    check_round_trip(honest)
    check_reproducible(honest)
    assert children() == before


def children() -> set[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


# Reproducibility


@pytest.mark.parametrize("name", MODULES)
def test_compiles_are_reproducible(wheel: Connection, name: str) -> None:
    if (wheel.backend, name) == ("singlepass-dylib", "empty"):
        pytest.skip("singlepass with the Dylib engine cannot link a module without functions")
    found = check_reproducible(load(wheel, MODULES[name][0]))
    if "dylib" in wheel.backend:
        assert found.equal or found.excuse
    else:
        assert found == Reproducibility(True)


@pytest.mark.parametrize(
    ("lie", "step"),
    [
        ("varies", "compiled twice in one process"),
        ("varies within a process", "compiled twice in one process"),
        ("varies by process", "compiled in another process"),
        ("varies by directory", "compiled in another directory"),
        ("varies by threads", "compiled with RAYON_NUM_THREADS=1"),
    ],
)
def test_what_varies_is_found_with_the_step(liar: Callable[..., Module], lie: str, step: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        check_reproducible(liar(lie))
    assert failed.value.step == step
    assert str(failed.value).startswith(f"m.wasm on liar-{lie} is not reproducible, {step}: ")


@pytest.mark.parametrize(
    ("backend", "excuse"),
    [("singlepass", REGISTERS), ("singlepass-dylib", REGISTERS), ("cranelift-dylib", LINKED), ("llvm-dylib", LINKED)],
)
@pytest.mark.parametrize("variant", ["", "-fresh", "-reloaded"])
def test_what_may_vary_is_said_and_no_failure_unless_strict(
    liar: Callable[..., Module], backend: str, excuse: str, variant: str
) -> None:
    varying = liar("varies within a process", backend=backend + variant)
    done = check_reproducible(varying)
    assert (done.equal, done.excuse) == (False, excuse)
    assert done.difference.startswith("compiled twice in one process: ")
    if not variant:
        with pytest.raises(CheckFailed, match="is not reproducible"):
            check_reproducible(varying, strict=True)


@pytest.mark.parametrize("backend", ["cranelift", "llvm"])
def test_the_others_have_no_excuse(liar: Callable[..., Module], backend: str) -> None:
    with pytest.raises(CheckFailed, match=f"m.wasm on {backend} is not reproducible, compiled twice"):
        check_reproducible(liar("varies within a process", backend=backend))


# Artifacts of the store that lie, on the three compilers. The MAC is what keeps them out.

WAT = """(module
  (memory (export "memory") 1)
  (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const {constant}))))"""
CONSTANT, OTHER = 0x12345678, 0x12345679


class Kept:
    """A store in which an artifact of one version of a module is, under the name of another."""

    def __init__(self, folder: Path, connection: Connection, cache: Path) -> None:
        backend = Registry([], cache).availability(connection.backend)
        self._connection = connection
        self.shelf = Shelf(Store(folder, b"k" * 32), parts_of(backend, {}))
        self.loadings: list[str] = []

    def load(self, constant: int) -> Module:
        wasm = self._connection.convert(WAT.format(constant=constant), "conversion")
        strategy = Reloaded(lambda _: self.shelf, self._note, pytest.fail)
        source = Source("m.wat", wasm, None)
        return Loader().load(self._connection.backend, lambda: self._connection, source, strategy)

    def _note(self, _: str, loading: Loading) -> None:
        self.loadings.append(loading.what)

    def file(self, constant: int) -> Path:
        wasm = self._connection.convert(WAT.format(constant=constant), "conversion")
        return Path(self.shelf.place(hashlib.sha256(wasm).hexdigest()).path)


def swapped(kept: Kept) -> None:
    """Another module's entry in its place; with the same exports."""
    kept.load(CONSTANT)
    kept.load(OTHER)
    kept.file(CONSTANT).write_bytes(kept.file(OTHER).read_bytes())


def flipped(kept: Kept) -> None:
    """The operand of an instruction."""
    kept.load(CONSTANT)
    content = bytearray(kept.file(CONSTANT).read_bytes())
    operand = CONSTANT.to_bytes(4, "little")
    assert content.count(operand) == 1
    content[content.index(operand)] ^= 1
    kept.file(CONSTANT).write_bytes(content)


def stale(kept: Kept) -> None:
    """Of an older version of the module, whose file was renamed and whose head was put right by hand."""
    kept.load(OTHER)
    kept.load(CONSTANT)
    old, new = kept.file(OTHER).read_bytes(), kept.file(CONSTANT).read_bytes()
    end = new.index(b"\nseal ")
    kept.file(CONSTANT).write_bytes(new[:end] + old[old.index(b"\nseal ") :])


def unchecked(path: str, head: bytes, key: bytes) -> tuple[bytes, float, bool, bytes]:
    lines, _, rest = Path(path).read_bytes().partition(b"\nseal ")
    described, end = rest[65:], int(lines.split()[-2])
    return described[end:], 0.0, False, described[:end]


@needs_wheels
@pytest.mark.parametrize("isolation", ["none"])  # where `entry.read` can be replaced
@pytest.mark.parametrize("spoil", [swapped, flipped, stale])
def test_a_lying_entry_is_found_without_the_mac(
    native: Connection, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Kept], None]
) -> None:
    kept = Kept(tmp_path, native, cache)
    spoil(kept)
    monkeypatch.setattr(entry, "read", unchecked)
    kept.loadings.clear()
    lying = kept.load(CONSTANT)
    assert kept.loadings == ["loaded"]
    assert lying.instantiate().exports.f(0) == OTHER
    failed = found(lying)
    assert failed.step == SAME
    assert str(failed) == (
        f"m.wat on {native.backend}, {SAME}, is another program (event 1)\n"
        f"    as compiled: f(1): {CONSTANT + 1}\n    as reloaded: f(1): {OTHER + 1}"
    )


@needs_wheels
@pytest.mark.parametrize("spoil", [swapped, flipped, stale])
def test_with_the_mac_it_never_gets_that_far(
    native: Connection, tmp_path: Path, cache: Path, spoil: Callable[[Kept], None]
) -> None:
    kept = Kept(tmp_path, native, cache)
    spoil(kept)
    kept.loadings.clear()
    good = kept.load(CONSTANT)
    assert kept.loadings == ["refused", "compiled"]
    assert good.instantiate().exports.f(0) == CONSTANT
    if type(native).__name__ == "PipeConnection":
        check_round_trip(good)


# The fixture


@pytest.fixture
def project(fakes: pytest.Pytester) -> pytest.Pytester:
    return fakes


def test_wasm_round_trip_green_and_red(project: pytest.Pytester) -> None:
    project.makeconftest(
        f"""
        import sys
        from pytest_wasmer import BackendSpec
        HERE = {str(HERE)!r}
        sys.path.insert(0, HERE)

        def pytest_wasmer_backends(config):
            return [
                BackendSpec(name, "lying_engine:LyingEngine", lie, import_path=HERE, identity="1")
                for name, lie in {{"honest": "none", "liar": "in a fresh process"}}.items()
            ]
        """
    )
    project.makepyfile(
        """
        from fake_engine import module, function

        WASM = module(
            imports=[("env", "host", ["func", [], ["i32"]])],
            exports={"answer": function("-> i32", [["host"]]), "add": function("i32 i32 -> i32", ["sum"])},
        )
        IMPORTS = {"env": {"host": lambda: 42}}

        def test_given(wasm_round_trip):
            done = wasm_round_trip(WASM, [("answer",), ("add", 1, 2)], imports=IMPORTS)
            assert done.calls == 2

        def test_keywords(wasm_round_trip):
            wasm_round_trip(WASM, calls=[("add", 1, 2)], imports=lambda: IMPORTS)

        def test_derived(wasm_round_trip):
            assert wasm_round_trip(WASM).calls == 10
        """
    )
    project.runpytest("--wasm-cache=off", "--wasm-backends=honest").assert_outcomes(passed=3)
    result = project.runpytest("--wasm-cache=off", "--wasm-backends=liar")
    result.assert_outcomes(passed=1, failed=2)
    lines = [line[1:].strip() for line in result.stdout.lines if line.startswith("E  ")]
    assert lines[:3] == [
        f"pytest_wasmer.checks.CheckFailed: <bytes> on liar, {APART}, is another program (event 1)",
        "as compiled: host call env.host: [], 42",
        "as reloaded: answer(): 43",
    ]
    assert not [line for line in result.stdout.lines if "checks.py:" in line], "no lines of ours"


def test_the_check_is_said_to_be_of_the_file(project: pytest.Pytester) -> None:
    from tests.fake_engine import function, module

    project.path.joinpath("calc.wasm").write_bytes(module(exports={"f": function("->", [])}))
    project.makepyfile("def test_it(wasm_round_trip): wasm_round_trip('calc.wasm', [('g',)])")
    result = project.runpytest("--wasm-backends=fake-a", "--wasm-cache=off")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *calc.wasm*'g'*"])
