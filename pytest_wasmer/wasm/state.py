"""What is left of an instance when the calls are over, as far as its exports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_wasmer.wasm.memory import LARGEST, Memory
from pytest_wasmer.wasm.types import REFERENCE_TYPES
from pytest_wasmer.wasm.variables import Global, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.wasm.instance import Instance


def state(instance: Instance, largest: int = LARGEST) -> Iterator[tuple[Any, ...]]:
    """An event per memory, global and table. Of memories above `largest` bytes the size only."""
    for name in instance.exports:
        extern = instance.exports[name]
        if isinstance(extern, Memory):
            size = extern.size
            yield (f"memory {name!r}", size, extern.digest() if size <= largest else "")
        elif isinstance(extern, Global):
            yield (f"global {name!r}", global_bits(extern))
        elif isinstance(extern, Table):
            yield (f"table {name!r}", extern.size)


def global_bits(variable: Global) -> object:
    if variable.type.value_type in REFERENCE_TYPES:
        return "a reference"
    return variable._converter.to_bits((variable.value,))
