"""What tests import from `pytest_wasmer`, each name loaded from its home when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_wasmer.agreement.at_once.settle import Divergence, NotComparable
    from pytest_wasmer.checks import CheckFailed, Reproducibility, RoundTrip, check_reproducible, check_round_trip
    from pytest_wasmer.engines.registry import BackendSpec
    from pytest_wasmer.factories import AllFactory, InstanceFactory, ModuleFactory, RoundTripCheck
    from pytest_wasmer.runtime.errors import (
        EngineFault,
        EngineLost,
        GivenUp,
        InstanceLost,
        TimedOut,
        WasmError,
        WrongBackend,
        WrongThread,
    )
    from pytest_wasmer.wasm.errors import ArtifactError, CompileError, LinkError, MissingExport, SourceError
    from pytest_wasmer.wasm.function import Function
    from pytest_wasmer.wasm.host import Caller
    from pytest_wasmer.wasm.instance import Exports, Instance
    from pytest_wasmer.wasm.memory import Memory
    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.traps import Trap, TrapKind
    from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType, TableType
    from pytest_wasmer.wasm.values import f32_bits, f32_from_bits, f64_bits, f64_from_bits
    from pytest_wasmer.wasm.variables import Global, Table

_HOMES = {
    "engines.registry": ("BackendSpec",),
    "agreement.at_once.settle": ("Divergence", "NotComparable"),
    "checks": ("CheckFailed", "Reproducibility", "RoundTrip", "check_reproducible", "check_round_trip"),
    "factories": ("AllFactory", "InstanceFactory", "ModuleFactory", "RoundTripCheck"),
    "runtime.errors": (
        *("EngineFault", "EngineLost", "GivenUp", "InstanceLost", "TimedOut"),
        *("WasmError", "WrongBackend", "WrongThread"),
    ),
    "wasm.errors": ("ArtifactError", "CompileError", "LinkError", "MissingExport", "SourceError"),
    "wasm.function": ("Function",),
    "wasm.memory": ("Memory",),
    "wasm.variables": ("Global", "Table"),
    "wasm.host": ("Caller",),
    "wasm.instance": ("Exports", "Instance"),
    "wasm.module": ("Module",),
    "wasm.traps": ("Trap", "TrapKind"),
    "wasm.types": ("FunctionType", "GlobalType", "MemoryType", "TableType"),
    "wasm.values": ("f32_bits", "f32_from_bits", "f64_bits", "f64_from_bits"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 (grouped by what they are)
    "Instance", "Module", "Exports", "Function", "Memory", "Global", "Table", "Caller",
    "Trap", "TrapKind",
    "WasmError", "SourceError", "CompileError", "ArtifactError", "LinkError", "MissingExport",
    "EngineLost", "TimedOut", "InstanceLost", "GivenUp", "EngineFault", "WrongBackend", "WrongThread",
    "Divergence", "NotComparable",
    "FunctionType", "MemoryType", "GlobalType", "TableType",
    "f32_bits", "f32_from_bits", "f64_bits", "f64_from_bits",
    "check_round_trip", "check_reproducible", "RoundTrip", "Reproducibility", "CheckFailed",
    "ModuleFactory", "InstanceFactory", "AllFactory", "RoundTripCheck", "BackendSpec",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'pytest_wasmer' has no attribute {name!r}")
    return getattr(import_module(f"pytest_wasmer.{home}"), name)
