"""Host functions: Python functions that Wasm imports and calls."""

from __future__ import annotations

import inspect
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm.errors import LinkError
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType
from pytest_wasmer.wasm.values import Converter, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.instance import Exports, Instance
    from pytest_wasmer.wasm.memory import Memory


class HostFunction:
    """A Python function as Wasm calls it: bits in, bits out."""

    def __init__(
        self, name: str, type_: FunctionType, function: Callable[..., Any], importer: str, connection: Connection
    ) -> None:
        __tracebackhide__ = True
        references = sorted({*type_.params, *type_.results} & {*REFERENCE_TYPES})
        if references:
            raise LinkError(
                f"{importer}: import {name}{type_} cannot be a Python function: the engine does not pass "
                f"{' and '.join(references)}"
            )
        self.name = name
        self.type = ("func", *type_)
        self._function_type = type_
        self._function = function
        self._params = Converter(type_.params, str)
        self._results = Converter(type_.results, partial(_result_text, name, type_))
        self._takes_caller = takes_caller(function)
        self._instance: Callable[[], Instance | None] = _no_instance
        self._connection = connection
        self._types = ",".join(type_.params), ",".join(type_.results)

    def invoke(self, values: Values) -> Values:
        __tracebackhide__ = True
        recorder = self._connection.recorder
        if recorder is not None:
            recorder.note(("host", self.name, self._types[0], *values))
        arguments = self._params.from_bits(values)
        caller = (Caller(self),) if self._takes_caller else ()
        try:
            result = self._function(*caller, *arguments)
            bits = self._results.to_bits(self._in_a_row(result))
        except BaseException as raised:
            if recorder is not None:
                recorder.note(("raise", type(raised).__name__))
            raise
        if recorder is not None:
            recorder.note(("return", self._types[1], *bits))
        return bits

    def introduce(self, instance: Instance) -> None:
        """Say who imports this: held weakly, since the instance holds this."""
        seen, again = weakref.ref(instance), instance.weak_view()
        self._instance = lambda: seen() or again()

    @property
    def instance(self) -> Instance | None:
        """The instance that imports this; None as long as there is none."""
        return self._instance()

    def _in_a_row(self, result: Any) -> tuple[Any, ...]:
        __tracebackhide__ = True
        count = len(self._function_type.results)
        if count == 1:
            return (result,)
        if count == 0 and result is None:
            return ()
        if count > 1 and isinstance(result, (tuple, list)) and len(result) == count:
            return tuple(result)
        expected = f"a tuple of {count}" if count else "None"
        raise TypeError(
            f"host function {self.name}{self._function_type} must return {expected}, not {describe(result)}"
        )


def _no_instance() -> None:
    return None


def _result_text(name: str, type_: FunctionType, index: int) -> str:
    return f"result {index + 1} ({type_.results[index]}) of host function {name}"


def takes_caller(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is annotated `Caller`, also where annotations are strings."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    if not parameters:
        return False
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Caller"
    return annotation is Caller


class Caller:
    """The instance that calls a host function, for one whose first parameter is annotated `Caller`.

    During a start function there is no instance yet: then every property raises `WasmError`.
    """

    def __init__(self, host: HostFunction) -> None:
        self._host = host

    @property
    def instance(self) -> Instance:
        __tracebackhide__ = True
        found = self._host.instance
        if found is None:
            raise WasmError(
                f"host function {self._host.name} was called by a start function: its instance is still being made"
            )
        return found

    @property
    def exports(self) -> Exports:
        __tracebackhide__ = True
        return self.instance.exports

    @property
    def memory(self) -> Memory:
        __tracebackhide__ = True
        return self.instance.memory
