"""Exported functions."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_wasmer.engines.api import Refused, Trapped
from pytest_wasmer.runtime.errors import EngineFault, EngineLost
from pytest_wasmer.wasm.externs import Extern, Owner
from pytest_wasmer.wasm.traps import trap_from
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType
from pytest_wasmer.wasm.values import Converter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_wasmer.agreement.observe import Recorder


# Of which a recorder makes text at once.
CALLS = 4096


class Function(Extern[FunctionType]):
    """An exported function; call it with Python values, see `type`."""

    def __init__(self, owner: Owner, handle: int, type_: FunctionType, name: str) -> None:
        super().__init__(owner, handle, type_, name)
        params, results = type_
        self._width = len(params)
        # Not a method: the function would hold itself, and its instance until the garbage collector comes.
        self._params = Converter(params, partial(_argument_text, name, type_))
        self._results = Converter(results, str)
        self._to_bits = self._params.to_bits
        self._native = owner.connection.caller(handle, params, results, f"call of {self._about}")
        self._types = ",".join(params), ",".join(results)
        # What a recorder takes down of calls and of results; the same for one of its tests, and for which.
        self._events = "", ""
        self._templates = "", "", ""
        self._recorded_in = 0
        self._plain_result = len(results) == 1 and not self._results._floats

    def __call__(self, *arguments: Any, **keywords: object) -> Any:
        """None, a value, or a tuple of values.

        i32 and i64 take ints, signed or unsigned, and come back signed; f32 and f64 are floats; v128 an unsigned
        int. Raises `Trap`; TypeError for a wrong count or type of arguments, OverflowError for values out of
        range; whatever a host function raises.
        """
        __tracebackhide__ = True
        if len(arguments) != self._width or keywords or get_ident() != self._owner.thread_id:
            self._refuse(arguments, keywords)
        bits = self._to_bits(arguments)
        recorder = self._owner.connection.recorder
        if recorder is not None:
            if self._recorded_in != recorder.serial:
                self._make_templates(recorder)
            if recorder.begun is not None:  # of a call that this one has interrupted
                recorder.spell_out()
            begun = recorder.begun = self._templates, bits
        try:
            values = self._native(bits)
        except BaseException as failure:
            if recorder is not None:
                recorder.failed(failure)
            error = self._error(failure)
            if error is failure:
                raise
        else:
            if recorder is not None:
                if recorder.begun is begun:
                    recorder.begun = None
                    calls = recorder.calls
                    calls.append((self._templates, bits, values))
                    if len(calls) >= CALLS:
                        recorder.spell_out()
                else:
                    recorder.returned(begun, values)
            return values[0] if self._plain_result else self._python(values)
        raise error

    def _make_templates(self, recorder: Recorder) -> None:
        index = recorder.index(self._owner)
        if not self._recorded_in:
            params, results = self._types
            call = recorder.template("call", self.name, params, numbers=len(self.type.params), instance=True)
            self._events = call, recorder.template("result", results, numbers=len(self.type.results))
        call, result = self._events
        call = call.replace("%d", str(index), 1)
        self._templates = call, result, f"{call}\n{result}"
        self._recorded_in = recorder.serial

    def _error(self, failure: BaseException) -> BaseException:
        if isinstance(failure, Trapped):
            return trap_from(failure, self.name)
        if isinstance(failure, EngineLost):
            failure.blame(self._owner.digest)
        return self._fault(failure) if isinstance(failure, Refused) else failure

    def map(self, calls: Iterable[Sequence[Any]]) -> list[Any]:
        """Many calls in one message: for each tuple of arguments its result, or the `Trap`, not raised."""
        __tracebackhide__ = True
        connection = self._use()
        rows = calls if isinstance(calls, (list, tuple)) else list(calls)
        values = self._params.rows_to_bits(rows)
        if values is None:
            values = []
            for row in rows:  # a comprehension would be a frame in tracebacks
                values.append(self._row(row))
        native = connection.mapper(self._handle, self.type.params, self.type.results, f"call of {self._about}")
        recorder = connection.recorder
        if recorder is not None:
            recorder.note(("map", recorder.index(self._owner), self.name, self._types[0], values))
        try:
            outcomes = native(values)
        except BaseException as failure:
            if recorder is not None:
                recorder.failed(failure)
            error = self._error(failure)
            if error is failure:
                raise
        else:
            if recorder is not None:
                recorder.note(("results", self._types[1], [getattr(item, "kind", item) for item in outcomes]))
            if self._plain_result:
                return [trap_from(item, self.name) if type(item) is Trapped else item[0] for item in outcomes]  # type: ignore[index]
            return [self._outcome(item) for item in outcomes]
        raise error

    def _row(self, row: Sequence[Any]) -> tuple[int, ...]:
        __tracebackhide__ = True
        if not isinstance(row, (tuple, list)):
            raise TypeError(f"map of {self.name} takes tuples of arguments, not {type(row).__name__}: [(1, 2), (3, 4)]")
        if len(row) != self._width:
            self._refuse(row, {})
        return self._to_bits(row)

    def _outcome(self, item: Any) -> Any:
        return trap_from(item, self.name) if isinstance(item, Trapped) else self._python(item)

    def _python(self, values: tuple[int, ...]) -> Any:
        found = self._results.from_bits(values)
        return found if len(found) > 1 else found[0] if found else None

    def _refuse(self, arguments: Sequence[Any], keywords: dict[str, object]) -> None:
        __tracebackhide__ = True
        self._use()
        if keywords:
            raise TypeError(f"{self.name}{self.type} takes no keyword arguments: {', '.join(keywords)}")
        if len(arguments) != self._width:
            given = f"{len(arguments)} {'was' if len(arguments) == 1 else 'were'} given"
            plural = "" if self._width == 1 else "s"
            raise TypeError(f"{self.name}{self.type} takes {self._width} argument{plural}, {given}")

    def _fault(self, refused: Refused) -> BaseException:
        return EngineFault(f"the {self._owner.connection.backend} engine panicked in {self._about}: {refused.text}")


def _argument_text(name: str, type_: FunctionType, index: int) -> str:
    return f"argument {index + 1} ({type_.params[index]}) of {name}{type_}"


class UncallableFunction(Extern[FunctionType]):
    """A function with a parameter or result that cannot cross between Wasm and Python."""

    def __call__(self, *arguments: object, **keywords: object) -> NoReturn:
        __tracebackhide__ = True
        names = sorted({*self.type.params, *self.type.results} & {*REFERENCE_TYPES})
        raise TypeError(
            f"{self.name}{self.type} cannot be called from Python: the engine does not pass {' and '.join(names)}\n"
            "Call it from Wasm: export a function that wraps it."
        )

    map = __call__


def function(owner: Owner, handle: int, type_: FunctionType, name: str) -> Function | UncallableFunction:
    """The object for an exported function."""
    if {*type_.params, *type_.results} & {*REFERENCE_TYPES}:
        return UncallableFunction(owner, handle, type_, name)
    return Function(owner, handle, type_, name)
