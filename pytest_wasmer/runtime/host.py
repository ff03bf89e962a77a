"""Host calls, as the test process serves them: the same for both transports."""

from __future__ import annotations

from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from pytest_wasmer.engines.api import HostRaised

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.engines.api import ExternType, Values

# Calls of Wasm -> Python -> Wasm that may be under way at once. Python's recursion limit is not far above it, and past
# that limit a RecursionError inside the engine could be mistaken for a trap.
NESTING_LIMIT = 100


class Hosted(Protocol):
    """A host function; `name` is for messages."""

    name: str
    type: ExternType

    def invoke(self, values: Values) -> Values: ...


class HostCalls:
    """The host functions of one engine, by number, and the exceptions on their way through Wasm, by token.

    Functions are held weakly: they belong to their instance. Held strongly here, a host function that refers to
    its instance would keep it alive for ever.
    """

    def __init__(self) -> None:
        self._functions: WeakValueDictionary[int, Hosted] = WeakValueDictionary()
        self._raised: dict[int, BaseException] = {}
        self._numbers = count(1)
        self.depth = 0
        # For the watchdog, over the pipe transport. Whether Wasm waits for Python in a call; how long it has, so far
        # (meaningless meanwhile); how many calls host functions have made.
        self.in_python = False
        self.seconds = 0.0
        self.nested = 0

    def register(self, function: Hosted) -> int:
        number = next(self._numbers)
        self._functions[number] = function
        return number

    def get(self, number: int) -> Hosted | None:
        return self._functions.get(number)

    def server(self, number: int) -> Callable[[Values], Values]:
        """What serves calls of a host function. Whatever it raises is kept, and `HostRaised` raised instead."""

        def serve(values: Values) -> Values:
            __tracebackhide__ = True
            try:
                function = self._functions.get(number)
                if function is None:
                    raise ReferenceError("Wasm called a host function whose instance is gone")
                depth = self.depth
                if depth >= NESTING_LIMIT:
                    raise RecursionError(
                        f"Wasm and Python call each other more than {NESTING_LIMIT} deep, last through {function.name}"
                    )
                try:
                    self.depth = depth + 1
                    return function.invoke(values)
                finally:
                    self.depth = depth
            except BaseException as error:
                token = self.keep(error)
            raise HostRaised(token)

        return serve

    def to_python(self) -> None:
        """Wasm waits for a host function; or for other backends, where several are asked at once."""
        if not self.in_python:
            self.in_python = True
            self.seconds -= monotonic()

    def to_wasm(self) -> None:
        """It goes on; or the host function calls it."""
        if self.in_python:
            self.seconds += monotonic()
            self.in_python = False

    def keep(self, error: BaseException) -> int:
        """The token of an exception that sets out on its way through Wasm."""
        token = next(self._numbers)
        self._raised[token] = error
        return token

    def take(self, token: int) -> BaseException | None:
        """The exception that is on its way under this token: the very object."""
        return self._raised.pop(token, None)
