"""The Dylib engine: its artifacts are shared objects, which it links with gcc and loads with dlopen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.engines.api import Refused
from pytest_wasmer.engines.registry import COMPILERS, DYLIBS, WHEELS, BackendSpec, Registry
from pytest_wasmer.runtime import process
from pytest_wasmer.runtime.errors import EngineLost
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.errors import CompileError
from pytest_wasmer.wasm.module import module_of
from pytest_wasmer.wasm.traps import Trap, TrapKind
from tests.conftest import PYTHON_WITH_WHEELS, needs_wheels
from tests.integration.workbench import rows
from tests.wasm.test_traps import CASES, WAT
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.runtime.connection import Connection

pytestmark = needs_wheels
ROOT = Path(__file__).parents[2]
# What the module of a group of exported functions says when it asks the host, and is asked.
CALLING = """
(module $calling
  (import "env" "host" (func $host (param i32 f64) (result i32)))
  (memory (export "memory") 1)
  (func (export "call") (param i32) (result i32)
    (i32.store (i32.const 0) (local.get 0))
    (i32.add (i32.load (i32.const 0)) (call $host (local.get 0) (f64.const -0.5)))))
"""


@pytest.fixture(scope="module")
def pool(cache: Path) -> Iterator[EnginePool]:
    """One engine process per backend for the whole file."""
    engines = EnginePool("process", cache)
    yield engines
    assert [str(loss) for loss in engines.take()[1]] == []
    engines.close()


@pytest.fixture(params=DYLIBS)
def dylib(request: pytest.FixtureRequest, pool: EnginePool, cache: Path) -> Connection:
    return pool.connection(Registry([], cache).spec(request.param))


@pytest.fixture(params=["headless", "headless-dylib"])
def headless(request: pytest.FixtureRequest, pool: EnginePool) -> Connection:
    return pool.connection(
        BackendSpec(request.param, WHEELS, request.param, PYTHON_WITH_WHEELS.executable, scratch=True)
    )


# What it runs


def test_calls_with_a_host_function(dylib: Connection) -> None:
    seen: list[Any] = []

    def host(number: int, fraction: float) -> int:
        seen.append((number, fraction))
        return 100

    instance = make(dylib, CALLING, {"env": {"host": host}})
    assert instance.exports.call(7) == 107
    assert instance.exports.call.map([(1,), (-1,)]) == [101, 99]
    assert instance.memory.read_i32(0) == -1
    assert seen == [(7, -0.5), (1, -0.5), (-1, -0.5)]


def test_the_exception_of_a_host_function_is_the_same_object(dylib: Connection) -> None:
    raised = KeyError("mine")

    def host(*_: object) -> int:
        raise raised

    with pytest.raises(KeyError) as caught:
        make(dylib, CALLING, {"env": {"host": host}}).exports.call(1)
    assert caught.value is raised


# What singlepass and cranelift keep: memory faults of the processor, and what Wasmer's own functions say. What compiled
# code checks for itself (a far offset, call_indirect, a division) is lost.
TOLD = {"load", "store", "fill", "copy", "init", "table_get", "table_init"}


@pytest.mark.parametrize(
    ("name", "arguments", "kind"), CASES, ids=[f"{name}{arguments}" for name, arguments, _ in CASES]
)
def test_llvm_tells_kinds_of_traps_and_the_others_memory_faults(
    dylib: Connection, name: str, arguments: tuple[Any, ...], kind: TrapKind
) -> None:
    exports = make(dylib, WAT).exports
    with pytest.raises(Trap) as trapped:
        exports[name](*arguments)
    told = dylib.backend == "llvm-dylib" or name in TOLD
    assert trapped.value.kind is (kind if told else TrapKind.UNKNOWN)
    assert exports.answer() == 42, "the instance lives on"


def test_a_stack_overflow(dylib: Connection) -> None:
    with pytest.raises(Trap) as trapped:
        make(dylib, WAT).exports.deep(0)
    llvm = dylib.backend == "llvm-dylib"
    assert trapped.value.kind is (TrapKind.STACK_OVERFLOW if llvm else TrapKind.UNKNOWN)


def test_a_trap_in_the_start_has_the_same_kind(dylib: Connection) -> None:
    with pytest.raises(Trap) as trapped:
        make(dylib, "(module (func $f unreachable) (start $f))")
    assert trapped.value.kind is (TrapKind.UNREACHABLE if dylib.backend == "llvm-dylib" else TrapKind.UNKNOWN)


def test_an_unknown_trap_does_not_claim_a_stack_overflow(dylib: Connection) -> None:
    """Which is what the engine says of all it cannot tell."""
    with pytest.raises(Trap) as trapped:
        make(dylib, WAT).exports.unreachable()
    first = str(trapped.value).splitlines()[0]
    told = "trap of a kind that the Dylib engine does not tell (it says 'call stack exhausted' of all of them)"
    assert first == ("unreachable" if dylib.backend == "llvm-dylib" else told)


def test_singlepass_cannot_link_a_module_without_functions(dylib: Connection) -> None:
    """Upstream: the object file has a symbol table that ld refuses. The other two can."""
    if dylib.backend == "singlepass-dylib":
        with pytest.raises(CompileError, match="Shared object file generator failed"):
            load(dylib, "(module)")
    else:
        assert load(dylib, "(module)").instantiate().exports is not None


# Artifacts


def test_an_artifact_is_a_shared_object_that_loads_in_the_same_process(dylib: Connection) -> None:
    module = load(dylib, CALLING)
    artifact = module.serialize()
    assert artifact.startswith(b"\x7fELF")
    again = module_of(artifact, None, lambda: dylib, "again")
    assert (again.name, dict(again.exports), dict(again.imports)) == (
        module.name,
        dict(module.exports),
        dict(module.imports),
    )
    assert again.serialize() == artifact
    assert again.instantiate({"env": {"host": lambda *_: 1}}).exports.call(1) == 2


def test_it_loads_in_a_fresh_process_and_without_a_compiler(
    dylib: Connection, headless: Connection, tmp_path: Path
) -> None:
    artifact = load(dylib, CALLING).serialize()
    fresh = dylib.another(str(tmp_path), {})
    try:
        loaded = module_of(artifact, None, lambda: fresh, "fresh")
        assert loaded.instantiate({"env": {"host": lambda *_: 1}}).exports.call(1) == 2
    finally:
        fresh.close()
    if headless.backend == "headless-dylib":
        loaded = module_of(artifact, None, lambda: headless, "headless")
        assert loaded.instantiate({"env": {"host": lambda *_: 1}}).exports.call(1) == 2
    else:
        with pytest.raises(CompileError, match="not wasmer-universal"):
            module_of(artifact, None, lambda: headless, "headless")


@pytest.mark.parametrize("name", COMPILERS)
def test_universal_artifacts_run_without_a_compiler(pool: EnginePool, cache: Path, name: str) -> None:
    spec = BackendSpec("headless", WHEELS, "headless", PYTHON_WITH_WHEELS.executable)
    artifact = load(pool.connection(Registry([], cache).spec(name)), CALLING).serialize()
    loaded = module_of(artifact, None, partial(pool.connection, spec), "headless")
    assert loaded.instantiate({"env": {"host": lambda *_: 1}}).exports.call(1) == 2


def test_engines_without_a_compiler_compile_nothing(headless: Connection) -> None:
    wasm = headless.convert("(module)", "conversion")
    with pytest.raises(Refused) as refused:
        headless.compile(wasm, "compile")
    assert (refused.value.stage, refused.value.text) == (
        "compile",
        "a headless engine has no compiler: it runs artifacts only",
    )


LIBRARY = """(module
  (table (export "table") 2 funcref)
  (type $unary (func (param i32) (result i32)))
  (func (export "call") (param i32 i32) (result i32) (call_indirect (type $unary) (local.get 1) (local.get 0))))"""
USER = """(module
  (import "library" "table" (table 2 funcref))
  (type $first (func (param f32 f32)))
  (type $unary (func (param i32) (result i32)))
  (elem (i32.const 0) $twice)
  (func $twice (type $unary) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "call") (param i32 i32) (result i32) (call_indirect (type $unary) (local.get 1) (local.get 0))))"""


@pytest.mark.parametrize("name", [*COMPILERS, *DYLIBS])
def test_loaded_modules_that_share_a_table_call_each_other(pool: EnginePool, cache: Path, name: str) -> None:
    """Engines number the types of functions: the numbers agree on one engine only, unless by chance."""
    connection = pool.connection(Registry([], cache).spec(name))
    library, user = (
        module_of(load(connection, wat).serialize(), None, lambda: connection, "loaded").instantiate
        for wat in (LIBRARY, USER)
    )
    owner = library()
    borrower = user({"library": owner})
    assert owner.exports.call(0, 21) == 42
    assert borrower.exports.call(0, 21) == 42


# Files


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, of this process and of those it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", DYLIBS)
def test_no_temporary_file_is_left_by_close(temporary: Path, cache: Path, name: str) -> None:
    pool = EnginePool("process", cache)
    connection = pool.connection(Registry([], cache).spec(name))
    kept = module_of(load(connection, CALLING).serialize(), None, lambda: connection, "kept")
    assert kept.instantiate({"env": {"host": lambda *_: 1}}).exports.call(1) == 2
    assert files(temporary), "else this shows nothing"
    pool.close()
    assert list(temporary.iterdir()) == []


def test_no_temporary_file_is_left_by_a_killed_engine_process(temporary: Path, cache: Path) -> None:
    pool = EnginePool("process", cache)
    spec = Registry([], cache).spec("cranelift-dylib")
    instance = load(pool.connection(spec), CALLING).instantiate({"env": {"host": lambda *_: 1}})
    assert files(temporary)
    os.kill(pool.connection(spec).pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(EngineLost):
        instance.exports.call(1)
    pool.connection(spec)  # as the next test does
    assert len(list(temporary.iterdir())) == 1, "that of the new process"
    pool.close()
    assert list(temporary.iterdir()) == []


SCRIPT = """
import os, signal
from tests.runtime.script import *
pool = new_pool()
spec = spec_of("cranelift-dylib")
wasm = pool.connection(spec).convert('(module (func (export "f")))', "conversion")
kept = load(pool, wasm, spec).instantiate()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_test_process_left_goes_at_the_next_start(temporary: Path, cache: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    scratch = [path for path in temporary.iterdir() if path.name.startswith(process.SCRATCH)]
    assert len(scratch) == 1
    pool = EnginePool("process", cache)
    pool.connection(Registry([], cache).spec("cranelift-dylib"))
    assert not scratch[0].exists()
    pool.close()


def test_what_living_test_processes_have_stays(temporary: Path, cache: Path) -> None:
    others = [temporary / f"{process.SCRATCH}{pid}-x" for pid in {os.getpid(), os.getppid(), 1}]
    strange = temporary / f"{process.SCRATCH}abc"
    for folder in (*others, strange):
        folder.mkdir()
    pool = EnginePool("process", cache)
    pool.connection(Registry([], cache).spec("cranelift-dylib"))
    pool.close()
    assert sorted(temporary.iterdir()) == sorted([*others, strange])


def test_the_universal_engine_needs_no_directory(temporary: Path, cache: Path) -> None:
    pool = EnginePool("process", cache)
    load(pool.connection(Registry([], cache).spec("cranelift")), CALLING)
    assert list(temporary.iterdir()) == []
    pool.close()


# Selection


def test_without_gcc_it_is_unavailable_with_the_reason_and_the_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    for name in DYLIBS:
        found = Registry([], cache).availability(name)
        assert (found.works, found.reason, found.remedy) == (
            False,
            "the Dylib engine links with gcc, which is not on PATH",
            "apt install gcc libc6-dev (or your system's way)",
        )
    for name in COMPILERS:
        assert Registry([], cache).availability(name).works


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(
        """
        def test_it(wasm_instance):
            wasm = '(module (func (export "f") (result i32) i32.const 42))'
            assert wasm_instance(wasm).exports.f() == 42
        """
    )
    return pytester


def test_without_gcc_naming_it_is_a_usage_error(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = project.runpytest("--wasm-backends=all,llvm-dylib")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[:4] == [
        "ERROR: --wasm-backends=all,llvm-dylib needs what does not work here.",
        "    llvm-dylib: the Dylib engine links with gcc, which is not on PATH",
        "        apt install gcc libc6-dev (or your system's way)",
        "Or run what works (singlepass, cranelift, llvm): --wasm-backends=available",
    ]


def test_it_runs_where_it_is_named_after_the_three(project: pytest.Pytester) -> None:
    listed = {}
    for value in ("all", "available", "llvm-dylib,all,singlepass-dylib"):
        result = project.runpytest(f"--wasm-backends={value}", "--co", "-q")
        listed[value] = [line.partition("[")[2][:-1] for line in result.stdout.lines if "::" in line]
    assert listed == {
        "all": [*COMPILERS],
        "available": [*COMPILERS],
        "llvm-dylib,all,singlepass-dylib": [*COMPILERS, "singlepass-dylib", "llvm-dylib"],
    }


def test_tests_run_on_it_from_the_store(project: pytest.Pytester, tmp_path: Path) -> None:
    options = (f"--wasm-backends={','.join(DYLIBS)}", f"--wasm-cache-dir={tmp_path / 'store'}")
    project.runpytest(*options).assert_outcomes(passed=3)
    assert len(list((tmp_path / "store").rglob("*.artifact"))) == 3
    again = project.runpytest(*options)
    again.assert_outcomes(passed=3)
    found = {name: (row["compiled"], row["loaded"]) for name, row in rows(again).items()}
    assert found == dict.fromkeys(DYLIBS, ("0", "1"))


def test_an_unknown_name_lists_them(project: pytest.Pytester) -> None:
    result = project.runpytest("--wasm-backends=llvm-dlyib")
    assert result.stderr.lines[0] == (
        "ERROR: --wasm-backends: backend 'llvm-dlyib' is unknown. Did you mean 'llvm-dylib'? "
        f"Known: {', '.join([*COMPILERS, *DYLIBS])}; special: all, available."
    )
