"""What scripts of these tests start with: modules, and pools of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pytest_wasmer.runtime.pool import EnginePool
from tests.fake_engine import function, module

WASM = module(exports={"sum": function("i32 i32 -> i32", ["sum"])})
HANGING = module(imports=[("env", "ready", ["func", [], []])], exports={"hang": function("->", [["host"], "hang"])})


def new_pool(isolation: str = "process") -> EnginePool:
    return EnginePool(isolation, Path(tempfile.gettempdir()) / "pytest-wasmer-test-pycache")
