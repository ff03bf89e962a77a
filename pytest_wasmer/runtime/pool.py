"""The engines of one test process: started on first use, replaced when lost, ended with the session."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

from pytest_wasmer.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from pytest_wasmer.agreement.observe import Recorder
    from pytest_wasmer.engines.registry import BackendSpec
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.runtime.errors import EngineLost
    from pytest_wasmer.runtime.watchdog import Limits


class EnginePool:
    """One connection per backend."""

    def __init__(self, isolation: str, pycache: Path) -> None:
        self._isolation = isolation
        self._pycache = pycache
        self._connections: dict[str, Connection] = {}
        # Modules of theirs may still be asked what they are.
        self._lost: WeakSet[Connection] = WeakSet()
        self._losses: list[EngineLost] = []
        self._outputs: dict[str, str] = {}
        self._starting = Lock()
        self._watchdog = Watchdog()
        self._running: Collection[str] | None = None
        self._recorded: str | None = None
        self._recorder: Recorder | None = None

    def connection(self, spec: BackendSpec) -> Connection:
        """The backend's live connection; makes one if there is none, or the last one was lost."""
        connection = self._connections.get(spec.name)
        if connection is not None and connection.lost is None:
            return connection
        with self._starting:
            self._bury()
            connection = self._connections.get(spec.name)
            if connection is None:
                connection = self._connections[spec.name] = self._start(spec)
                self._tell(connection)
            return connection

    def _start(self, spec: BackendSpec) -> Connection:
        if self._isolation == "none":
            from pytest_wasmer.runtime.direct import DirectConnection

            return DirectConnection(spec, self._pycache)
        from pytest_wasmer.runtime.pipe import PipeConnection

        connection = PipeConnection(spec, self._pycache)
        connection.watchdog = self._watchdog
        self._watchdog.watch(connection)
        connection.bound(int(self._watchdog.limits.memory.value))
        return connection

    def limit(self, limits: Limits) -> None:
        """What engine processes may take from now on."""
        if limits is self._watchdog.limits and not limits.memory.value:
            return
        self._watchdog.limits = limits
        for connection in self._connections.values():
            connection.bound(int(limits.memory.value))

    def _bury(self) -> None:
        """Part with lost connections; what they have to say is kept."""
        for name in [name for name, connection in self._connections.items() if connection.lost is not None]:
            connection = self._connections.pop(name)
            self._lost.add(connection)
            if connection.lost is not None:
                self._losses.append(connection.lost)
            self._say(name, connection.take_output())
            connection.close()

    def _say(self, name: str, text: str) -> None:
        if text:
            self._outputs[name] = self._outputs.get(name, "") + text

    def was_asked(self) -> bool:
        """Whether there can be something to take."""
        news = self._losses or self._outputs
        return bool(news) or any(connection.was_asked() for connection in self._connections.values())

    def take(self) -> tuple[dict[str, str], list[EngineLost]]:
        """What native code printed, by backend, and the engine processes lost, since the last time."""
        self.settle()
        self._bury()
        losses, self._losses = self._losses, []
        for name, connection in self._connections.items():
            self._say(name, connection.take_output())
        outputs, self._outputs = self._outputs, {}
        return outputs, losses

    def only(self, backends: Collection[str] | None) -> None:
        """While a test of those backends runs the other engines refuse requests. None: nothing is refused."""
        self._running = backends
        for connection in (*self._connections.values(), *self._lost):
            self._tell_test(connection)
        if backends is not None and len(backends) == 1:
            for name in backends:
                if name in self._connections:
                    self._connections[name].wake()

    def record(self, backend: str | None, recorder: Recorder | None) -> None:
        """What objects on that backend (None: on any) do is taken down from now on."""
        self._recorded, self._recorder = backend, recorder
        for connection in self._connections.values():
            self._tell(connection)

    def _tell(self, connection: Connection) -> None:
        connection.recorder = self._recorder if self._recorded in (None, connection.backend) else None
        self._tell_test(connection)

    def _tell_test(self, connection: Connection) -> None:
        running = self._running
        refused = running is not None and connection.backend not in running
        connection.test_runs_on = ", ".join(running or ()) if refused else ""

    def settle(self) -> None:
        """Notice deaths between requests."""
        for connection in self._connections.values():
            connection.settle()

    def close(self) -> None:
        self._watchdog.close()
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
