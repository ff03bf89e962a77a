"""Traps, by kind."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from pytest_wasmer.engines.api import Trapped


class TrapKind(Enum):
    """Why Wasm code trapped (WebAssembly core specification, section 4.4); the values are Wasmer's words."""

    UNREACHABLE = "unreachable"
    INTEGER_DIVIDE_BY_ZERO = "integer divide by zero"
    INTEGER_OVERFLOW = "integer overflow"
    INVALID_CONVERSION_TO_INTEGER = "invalid conversion to integer"
    MEMORY_OUT_OF_BOUNDS = "out of bounds memory access"
    TABLE_OUT_OF_BOUNDS = "out of bounds table access"
    INDIRECT_CALL_TO_NULL = "uninitialized element"
    BAD_SIGNATURE = "indirect call type mismatch"
    #: Not the module's doing alone: how deep a stack goes differs between compilers.
    STACK_OVERFLOW = "call stack exhausted"
    UNKNOWN = "unknown"


class Trap(WasmError):
    """Wasm code trapped; the instance stays usable.

    `kind` is what backends can be compared by. `text` is the engine's own, at most 20 frames of it; it differs between
    backends. `function` is what was called, "" for an instantiation.
    """

    def __init__(self, kind: TrapKind, text: str = "", function: str = "") -> None:
        super().__init__(kind, text, function)
        self.kind = kind
        self.text = text
        self.function = function

    def __str__(self) -> str:
        return self.text or self.kind.value

    def __repr__(self) -> str:
        return f"<Trap {self.kind.name}{f' in {self.function}' if self.function else ''}>"


def trap_from(trapped: Trapped, function: str) -> Trap:
    """The user's trap for the engine's."""
    kind = TrapKind[trapped.kind] if trapped.kind in TrapKind.__members__ else TrapKind.UNKNOWN
    return Trap(kind, trapped.text, function)
