"""Imports for the instances of a check: given, or made from the module's types; what they are asked is noted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from pytest_wasmer.wasm.externs import Extern
from pytest_wasmer.wasm.host import Caller
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType, GlobalType, MemoryType, TableType, with_article
from pytest_wasmer.wasm.variables import MADE_BY_THE_HOST, Global

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.behaviour import Event
    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.types import ExternType


def obstacle(module: Module) -> str:
    """What `maker` cannot make of a module's imports; "" if it can make all."""
    for (space, name), type_ in module.imports.items():
        if not _can_be_made(type_):
            return f"it imports {space}.{name}, {with_article(type_)}, which Python cannot make"
    return ""


def _can_be_made(type_: ExternType) -> bool:
    if isinstance(type_, FunctionType):
        return not {*type_.params, *type_.results} & {*REFERENCE_TYPES}
    if isinstance(type_, GlobalType):
        return type_.value_type in MADE_BY_THE_HOST
    return not isinstance(type_, TableType)


def maker(module: Module, given: Any) -> Callable[[list[Event]], Any]:
    """What makes the imports of one instance, and notes host calls."""
    if given is not None:
        return lambda events: _noting(given() if callable(given) else given, events)

    def stubs(events: list[Event]) -> Any:
        found: dict[str, dict[str, Any]] = {}
        for (space, name), type_ in module.imports.items():
            found.setdefault(space, {})[name] = _stub(type_)
        return _noting(found, events)

    return stubs


def _stub(type_: Any) -> Any:
    if isinstance(type_, MemoryType):
        return Memory(type_.minimum, maximum=type_.maximum)
    if isinstance(type_, GlobalType):
        return Global(type_.value_type, 0, mutable=type_.mutable)
    assert isinstance(type_, FunctionType)
    zeros = tuple(0.0 if result in ("f32", "f64") else 0 for result in type_.results)
    answer = zeros[0] if len(zeros) == 1 else (zeros or None)
    return lambda *arguments: answer


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
