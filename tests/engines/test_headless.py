"""Artifacts without a compiler: what they need, and which kinds of traps survive the Dylib engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.engines.registry import COMPILERS, DYLIBS, WHEELS, BackendSpec, Registry
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.module import module_of
from pytest_wasmer.wasm.traps import Trap
from tests.conftest import HERE, PYTHON_WITH_WHEELS, needs_wheels
from tests.wasm.workbench import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    needs_wheels,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the Dylib engine links with gcc"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc"),
]


@pytest.fixture(scope="module")
def pool(cache: Path) -> Iterator[EnginePool]:
    """One engine process per backend for the whole file."""
    engines = EnginePool("process", cache)
    yield engines
    engines.close()


HEADLESS_ENGINE = """
import sys
from pathlib import Path
from pytest_wasmer.engines.wheels import WheelsEngine

engine = WheelsEngine(sys.argv[1])
_, (answer,) = engine.instantiate(engine.deserialize(Path(sys.argv[2]).read_bytes()), [])
print(*engine.caller(answer, (), ("i32",))(()), "wasmer_compiler" in Path("/proc/self/maps").read_text())
"""


@pytest.mark.parametrize("backend", [*COMPILERS, *DYLIBS])
def test_running_an_artifact_needs_neither_compiler_nor_gcc(pool: EnginePool, tmp_path: Path, backend: str) -> None:
    connection = pool.connection(Registry([], tmp_path).spec(backend))
    artifact = load(connection, '(module (func (export "f") (result i32) i32.const 42))').serialize()
    (tmp_path / "artifact").write_bytes(artifact)
    headless = "headless-dylib" if backend in DYLIBS else "headless"
    done = subprocess.run(
        [PYTHON_WITH_WHEELS.executable, "-c", HEADLESS_ENGINE, headless, str(tmp_path / "artifact")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(HERE.parent), "PATH": "", "TMPDIR": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("42 False\n", "")


# By kind, as all say it that can.
TRAPS = {
    "UNREACHABLE": "unreachable",
    "INTEGER_DIVIDE_BY_ZERO": "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
    "INTEGER_OVERFLOW": "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
    "INVALID_CONVERSION_TO_INTEGER": "(drop (i32.trunc_f64_s (f64.const nan)))",
    "TABLE_OUT_OF_BOUNDS": "(call_indirect (type $none) (i32.const 99))",
    "INDIRECT_CALL_TO_NULL": "(call_indirect (type $none) (i32.const 1))",
    "BAD_SIGNATURE": "(call_indirect (type $none) (i32.const 0))",
    "STACK_OVERFLOW": "(call $trap)",
    # A frame larger than the guard page: no memory fault.
    "STACK_OVERFLOW, large": f"(local {'i64 ' * 5000}) (call $trap) (drop (i64.add (local.get 0) (local.get 4999)))",
    # These reach the operating system or a function of Wasmer's, and keep their kinds with every compiler.
    "MEMORY_OUT_OF_BOUNDS": "(drop (i32.load (i32.const -4)))",
    "MEMORY_OUT_OF_BOUNDS, fill": "(memory.fill (i32.const 65530) (i32.const 0) (i32.const 100))",
    "TABLE_OUT_OF_BOUNDS, get": "(drop (table.get 0 (i32.const 99)))",
}
KEPT = ("MEMORY_OUT_OF_BOUNDS", "MEMORY_OUT_OF_BOUNDS, fill", "TABLE_OUT_OF_BOUNDS, get")


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("backend", [*COMPILERS, *DYLIBS])
def test_kinds_of_traps_without_a_compiler(pool: EnginePool, tmp_path: Path, backend: str, trap: str) -> None:
    """Dylib says "call stack exhausted" of all it cannot tell, and nobody knows then whose code an artifact is."""
    wat = f"""(module
      (type $none (func)) (type $other (func (param i64)))
      (memory 1) (table 2 funcref) (elem (i32.const 0) $other)
      (func $other (type $other))
      (func $trap (export "trap") {TRAPS[trap]})
      (func (export "fine") (result i32) (i32.const 42)))"""
    artifact = load(pool.connection(Registry([], tmp_path).spec(backend)), wat).serialize()
    headless = "headless-dylib" if backend in DYLIBS else "headless"
    python = PYTHON_WITH_WHEELS.executable
    connection = pool.connection(BackendSpec(headless, WHEELS, headless, python, scratch=backend in DYLIBS))
    exports = module_of(artifact, None, lambda: connection, "m.so").instantiate().exports
    kind = trap.partition(",")[0]
    told = backend in COMPILERS or trap in KEPT or (backend == "llvm-dylib" and kind != "STACK_OVERFLOW")
    for _ in range(2):
        with pytest.raises(Trap) as trapped:
            exports.trap()
        assert trapped.value.kind.name == (kind if told else "UNKNOWN")
        assert exports.fine() == 42
