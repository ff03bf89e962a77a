"""The engine contract: what an adapter of a Wasm engine offers to the executor.

Primitive on purpose. Values are Python ints: i32 and i64 signed, f32 and f64 as their bits
(unsigned), v128 as an unsigned 128-bit int. An *extern type* is a tuple of primitives, one of

    ("func", (param, ...), (result, ...))      value types: "i32" "i64" "f32" "f64" "v128"
    ("memory", minimum, maximum or None)       in pages of 64 KiB    "funcref" "externref"
    ("global", value_type, mutable)
    ("table", element_type, minimum, maximum or None)

All comfort is built on top, once, in `pytest_wasmer.wasm`.

Engine processes import this module: it needs the standard library only, and little of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NamedTuple, TypeAlias

    Values: TypeAlias = tuple[int, ...]
    ExternType: TypeAlias = tuple[Any, ...]
    Native: TypeAlias = Any

    class Description(NamedTuple):
        """What `Engine.describe` returns; at run time an ordinary tuple."""

        name: str
        imports: list[tuple[str, str, ExternType]]
        exports: list[tuple[str, ExternType]]


class Trapped(Exception):
    """The Wasm code trapped. `kind` is the name of a `TrapKind`, `text` what the engine says."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


class Refused(Exception):
    """The engine declined, in its own words.

    `stage`: "validate" (not a valid module by the engine's own validator), "compile" (valid, but this
    compiler cannot compile it), "instantiate", "grow", "convert" or "panic" (the engine panicked, whatever it was at).
    """

    def __init__(self, stage: str, text: str) -> None:
        super().__init__(stage, text)
        self.stage = stage
        self.text = text


class OutOfBounds(Exception):
    """The host reached outside a memory of `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class HostRaised(BaseException):
    """Unwinds Wasm frames after a host function raised; `token` names the exception where it is kept."""

    def __init__(self, token: int) -> None:
        super().__init__(token)
        self.token = token


class Engine:
    """One backend's engine. All of it runs in one thread; native objects are opaque to callers.

    An adapter is made by `factory(argument)` in the process that runs the native code; making it loads the
    engine's library. A native object must stay usable for as long as the caller holds it, however
    other objects come and go, except that callers keep imported externs alive (`instantiate`).
    """

    #: e.g. "wasmer 1.1.0"
    version: str = ""

    def compile(self, wasm: bytes) -> Native:
        """A module. Raises `Refused` at stage "validate", "compile" or "panic"."""
        raise NotImplementedError

    def serialize(self, module: Native) -> bytes:
        """The module's artifact."""
        raise NotImplementedError

    def is_joint(self, wasm: bytes) -> bool:
        """Whether instances of the module can exchange references to functions with others: `deserialize` is told."""
        return False

    def deserialize(self, artifact: bytes, joint: bool | None = None) -> Native:
        """The module of an artifact that this engine serialized. Unsafe on any other bytes.

        `joint` is what `is_joint` said of its binary; None where that is not known.
        """
        raise NotImplementedError

    def describe(self, module: Native) -> Description:
        """Name ("" for none), imports and exports with their types, in the module's order."""
        raise NotImplementedError

    def custom_sections(self, module: Native, name: str) -> list[bytes]:
        """Contents of the custom sections of that name, as the engine keeps them."""
        raise NotImplementedError

    def instantiate(self, module: Native, imports: Sequence[Native]) -> tuple[Native, list[Native]]:
        """The instance and its exports in the module's order, for externs in the order of its imports.

        The caller keeps `imports` alive as long as the instance. Raises `Trapped` for a start function
        or a segment that traps, `Refused` for imports that do not fit.
        """
        raise NotImplementedError

    def caller(self, function: Native, params: Sequence[str], results: Sequence[str]) -> Callable[[Values], Values]:
        """What calls `function`: values in, values out. It raises `Trapped` and lets `HostRaised` through."""
        raise NotImplementedError

    def mapper(
        self, function: Native, params: Sequence[str], results: Sequence[str]
    ) -> Callable[[Iterable[Values]], list[Values | Trapped]]:
        """What calls `function` once per tuple of values. A trap is a result; anything else ends the map."""
        call = self.caller(function, params, results)

        def map_calls(calls: Iterable[Values]) -> list[Values | Trapped]:
            outcomes: list[Values | Trapped] = []
            for values in calls:
                try:
                    outcomes.append(call(values))
                except Trapped as trapped:
                    outcomes.append(trapped)
            return outcomes

        return map_calls

    def make_function(self, params: Sequence[str], results: Sequence[str], host: Callable[[Values], Values]) -> Native:
        """A host function; `host` may raise `HostRaised`, which must reach the caller of the Wasm code."""
        raise NotImplementedError

    def make_memory(self, minimum: int, maximum: int | None) -> Native:
        """A memory, sizes in pages. Raises `Refused` at stage "instantiate"."""
        raise NotImplementedError

    def make_global(self, value_type: str, mutable: bool, value: int) -> Native:
        raise NotImplementedError

    def read(self, memory: Native, offset: int, length: int) -> bytes:
        """Raises `OutOfBounds`."""
        raise NotImplementedError

    def write(self, memory: Native, offset: int, data: bytes) -> None:
        """All of it, or `OutOfBounds` and none."""
        raise NotImplementedError

    def memory_pages(self, memory: Native) -> int:
        raise NotImplementedError

    def grow(self, memory: Native, pages: int) -> int:
        """The former size in pages. Raises `Refused` at stage "grow"."""
        raise NotImplementedError

    def get_global(self, variable: Native, value_type: str) -> int:
        raise NotImplementedError

    def set_global(self, variable: Native, value_type: str, value: int) -> None:
        raise NotImplementedError

    def table_size(self, table: Native) -> int:
        raise NotImplementedError
