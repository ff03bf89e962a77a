"""The direct transport, `--wasm-isolation=none`: the executor in the test process.

For profiling, and for suites with millions of calls. Native crashes end the session, and native loops cannot be
interrupted.
"""

from __future__ import annotations

import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_wasmer.engines.api import HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.runtime.connection import Connection
from pytest_wasmer.runtime.errors import EngineFault, WrongThread
from pytest_wasmer.runtime.executor import Executor, make_engine
from pytest_wasmer.runtime.sigactions import Sigactions
from pytest_wasmer.runtime.wire import unpack_description

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_wasmer.artifacts.store import Place
    from pytest_wasmer.engines.api import Description, ExternType, Values
    from pytest_wasmer.engines.registry import BackendSpec


class DirectConnection(Connection):
    """Native objects are bound to the thread that made them: hence this connection, too."""

    def __init__(self, spec: BackendSpec, pycache: Path) -> None:
        super().__init__(spec, pycache)
        if spec.import_path is not None and spec.import_path not in sys.path:
            sys.path.append(spec.import_path)
        engine = Sigactions.around(lambda: make_engine(spec.engine, spec.argument))
        self._executor = Executor(engine, self._make_host)
        self._thread = get_ident()

    def request(self, operation: str, *arguments: Any, about: str) -> Any:
        __tracebackhide__ = True
        if self.test_runs_on:
            self.refuse_other_test(about)
        return self._run(getattr(self._executor, operation), *arguments)

    def load(self, place: Place, about: str) -> tuple[int, float, Description]:
        __tracebackhide__ = True
        handle, seconds, described = self.request("load", *place, about=about)
        return handle, seconds, unpack_description(described)

    def caller(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Values], Values]:
        call = self._executor.caller(handle)
        run, releases, hosts, thread = self._run, self.releases, self.hosts, self._thread

        def direct(values: Values) -> Values:
            __tracebackhide__ = True
            if self.test_runs_on:
                self.refuse_other_test(about)
            # In nested calls releases have to wait, and each frame counts.
            if (releases and not hosts.depth) or get_ident() != thread:
                return run(call, values)  # type: ignore[no-any-return]
            try:
                return call(values)
            except HostRaised as raised:
                error = self._error_of(raised)
            except (Trapped, Refused):
                raise
            except BaseException as unexpected:
                error = fault_of(self.backend, unexpected)
            raise error

        return direct

    def mapper(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Sequence[Values]], list[Values | Trapped]]:
        def direct(calls: Sequence[Values]) -> list[Values | Trapped]:
            __tracebackhide__ = True
            if self.test_runs_on:
                self.refuse_other_test(about)
            return self._run(self._executor.map, handle, calls)  # type: ignore[no-any-return]

        return direct

    def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        __tracebackhide__ = True
        if get_ident() != self._thread:
            raise WrongThread(
                f"with --wasm-isolation=none the {self.backend} engine belongs to the thread that used it first\n"
                "Call it from there, or use --wasm-isolation=process."
            )
        if self.releases and not self.hosts.depth:
            self._executor.release(self.due_releases())
        try:
            return work(*arguments)
        except HostRaised as raised:
            error = self._error_of(raised)
        except (Trapped, OutOfBounds, Refused):
            raise
        except BaseException as unexpected:
            error = fault_of(self.backend, unexpected)
        raise error

    def _error_of(self, raised: HostRaised) -> BaseException:
        error = self.hosts.take(raised.token)
        return raised if error is None else error

    def _make_host(self, number: int, type_: ExternType) -> Callable[[Values], Values]:
        return self.hosts.server(number)

    def settle(self) -> None:
        Sigactions.put_back()

    def close(self) -> None:
        """Nothing to end; native objects go with their last references."""


def fault_of(backend: str, error: BaseException) -> BaseException:
    """What an unexpected exception of the engine means to the test: interrupts and a full stack stay what they are."""
    if not isinstance(error, Exception) or isinstance(error, RecursionError):
        return error
    fault = EngineFault(f"the {backend} engine failed: {type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault
