"""What is done to one instance, as values: calls, and writes to its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.wasm.traps import Trap

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Step: TypeAlias = "Call | Write"


class Call(NamedTuple):
    """A call of an exported function with Python values."""

    name: str
    arguments: tuple[Any, ...]

    def apply(self, instance: Any) -> Any:
        """Its result, or the `Trap`, not raised: one that all backends agree on is no end of a sequence.

        `instance` is what `wasm_instance` or `wasm_all` made.
        """
        __tracebackhide__ = True
        try:
            return instance.exports[self.name](*self.arguments)
        except Trap as trap:
            return trap


class Write(NamedTuple):
    """A write to an exported memory; to `instance.memory` where `memory` is ""."""

    memory: str
    offset: int
    data: bytes

    def apply(self, instance: Any) -> None:
        __tracebackhide__ = True
        memory = instance.exports[self.memory] if self.memory else instance.memory
        memory.write(self.offset, self.data)


def run(steps: Iterable[Step], instance: Any) -> list[Any]:
    """Apply all of them in order; what each gave."""
    __tracebackhide__ = True
    return [step.apply(instance) for step in steps]
