"""What scripts of these tests start with: modules, and pools of their own."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pytest_wasmer.engines.registry import BackendSpec, Registry
from pytest_wasmer.runtime.pool import EnginePool
from tests.fake_engine import function, module
from tests.runtime.workbench import FAKE, instance, load, losses, pid_of

__all__ = [
    "FAKE",
    "HANGING",
    "LOOP",
    "LOOP_WAT",
    "WASM",
    "faulthandler",
    "instance",
    "load",
    "losses",
    "new_pool",
    "os",
    "pid_of",
    "signal",
    "spec_of",
    "subprocess",
    "sys",
    "threading",
    "time",
]

CACHE = Path(tempfile.gettempdir()) / "pytest-wasmer-tests"

WASM = module(exports={"sum": function("i32 i32 -> i32", ["sum"])})
HANGING = module(exports={"hang": function("->", ["hang"])})
# Says that it is about to loop for ever, and does.
LOOP = module(imports=[("env", "ready", ["func", [], []])], exports={"loop": function("->", [["host"], "hang"])})
LOOP_WAT = """(module
  (import "env" "ready" (func $ready))
  (func (export "loop") call $ready (loop $again br $again)))"""


def new_pool(isolation: str = "process") -> EnginePool:
    return EnginePool(isolation, CACHE / "pycache")


def spec_of(name: str) -> BackendSpec:
    return FAKE if name == FAKE.name else Registry([], CACHE).spec(name)
