"""What a sequence of calls on a new instance lets the outside see: events that two programs can be compared by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from threading import Timer
from typing import TYPE_CHECKING, Any

from pytest_wasmer.edges import Call, call_text
from pytest_wasmer.engines.api import Trapped
from pytest_wasmer.runtime.errors import EngineLost
from pytest_wasmer.runtime.pipe import PipeConnection
from pytest_wasmer.wasm.externs import Extern
from pytest_wasmer.wasm.function import Function
from pytest_wasmer.wasm.host import Caller
from pytest_wasmer.wasm.state import state
from pytest_wasmer.wasm.stubs import stand_ins
from pytest_wasmer.wasm.traps import Trap, TrapKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module

# An event is a tuple that begins with what it is called in messages.
Event = tuple[Any, ...]

# Traps that are, or may be, those of an exhausted stack, of which only that it ended varies not: how deep it was does,
# and with it all that the call did. Wasmer's Dylib engine does not tell most kinds apart.
EXHAUSTED = (TrapKind.STACK_OVERFLOW.name, TrapKind.UNKNOWN.name)
EXHAUSTION = "{}: {} ended in {}: how deep a stack goes varies, so what that left, and later calls, are not compared"


class Observed:
    """Events in their order, and how many calls ended. `unobserved`: what could not be seen; "" if all was."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.calls = 0
        self.unobserved = ""
        self._whole = 0

    def call(self, *event: Any) -> None:
        """One was made, and this is how it ended."""
        self.events.append(event)
        self.calls += 1
        self._whole = len(self.events)

    def end(self, unobserved: str) -> None:
        """Nothing more can be seen. How often the call at hand has called the host may vary."""
        del self.events[self._whole :]
        self.unobserved = unobserved


def observe(
    load: Callable[[], Module], sequence: Sequence[Call], make_imports: Callable[[list[Event]], Any], limit: float
) -> Observed | None:
    """What calls on a new instance let be seen; None if that takes longer than `limit` seconds."""
    __tracebackhide__ = True
    module = load()
    seen = Observed()
    imports = make_imports(seen.events)
    connection = module._code.loaded(module.path).connection
    assert isinstance(connection, PipeConnection)
    late: list[bool] = []

    def stop() -> None:
        late.append(True)
        connection.kill()

    timer = Timer(limit, stop)
    timer.start()
    try:
        _run(module, sequence, imports, seen)
    finally:
        timer.cancel()
    return None if late else seen


def _run(module: Module, sequence: Sequence[Call], imports: Any, seen: Observed) -> None:
    __tracebackhide__ = True
    what = "its calls"
    try:
        instance = module.instantiate(imports)
        for name, arguments in sequence:
            what = name
            _call(instance, name, arguments, seen)
            if seen.unobserved:
                return
        seen.events += state(instance)
    except Trap as trap:
        seen.end(f"{what}: its start trapped ({trap.kind.name})")
        seen.events.append(("the start", trap.kind.name))
    except EngineLost as loss:
        seen.end(f"{what}: the engine process was lost ({loss.cause})")
        seen.events.append(("the engine process was lost", loss.cause))


def _call(instance: Instance, name: str, arguments: Sequence[Any], seen: Observed) -> None:
    __tracebackhide__ = True
    function = instance.exports[name]
    assert isinstance(function, Function)
    values = tuple(arguments) if isinstance(arguments, tuple) else function._to_bits(arguments)
    said = call_text(function, values)
    try:
        seen.call(said, *function._native(values))
    except Trapped as trapped:
        if trapped.kind in EXHAUSTED:
            seen.end(EXHAUSTION.format(name, said, trapped.kind))
        seen.call(said, trapped.kind)
    except EngineLost:
        raise
    except Exception as error:  # of a host function
        seen.call(said, type(error).__name__, str(error))


def maker(module: Module, given: Any) -> Callable[[list[Event]], Any]:
    """What makes the imports of one instance, and notes host calls: of what is given, or of stand-ins."""
    if given is None:
        return lambda events: _noting(stand_ins(module.imports), events)
    return lambda events: _noting(given() if callable(given) else given, events)


def _noting(imports: Any, events: list[Event]) -> Any:
    """The same, each call of a Python function noted with its arguments and result."""

    def noted(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = function(*arguments)
            shown = [argument for argument in arguments if not isinstance(argument, Caller)]
            events.append((f"host call {label}", repr(shown), repr(result)))
            return result

        return wraps(function)(call)

    return {
        space: {
            name: value if isinstance(value, Extern) or not callable(value) else noted(f"{space}.{name}", value)
            for name, value in names.items()
        }
        if isinstance(names, Mapping)
        else names
        for space, names in imports.items()
    }
