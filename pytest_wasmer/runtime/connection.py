"""What the objects of a test talk to: one backend's executor, wherever it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pytest_wasmer.runtime.errors import WrongBackend
from pytest_wasmer.runtime.host import HostCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_wasmer.agreement.observe import Recorder
    from pytest_wasmer.artifacts.store import Place
    from pytest_wasmer.engines.api import Description, Trapped, Values
    from pytest_wasmer.engines.registry import BackendSpec
    from pytest_wasmer.runtime.errors import EngineLost
    from pytest_wasmer.runtime.pipe import PipeConnection
    from pytest_wasmer.runtime.watchdog import Watchdog


class Connection:
    """The executor's operations, the same over both transports; they raise what the executor raises.

    `about` says what a request is for, in messages. Handles that are appended to `releases` are let go of with a
    later request, never in the middle of a call.
    """

    def __init__(self, spec: BackendSpec, pycache: Path) -> None:
        self._spec = spec
        self._pycache = pycache
        self.backend = spec.name
        self.hosts = HostCalls()
        self.releases: list[int] = []
        #: Why this connection is of no use any more.
        self.lost: EngineLost | None = None
        #: The backend of the running test, where that is another one: nothing is to be asked here now.
        self.test_runs_on = ""
        #: Who takes down what the running test sees here.
        self.recorder: Recorder | None = None
        self._watched = False
        #: Who looks after the processes.
        self.watchdog: Watchdog | None = None
        #: Whether it has stepped aside until the next request.
        self.unwatched = False

    def refuse_other_test(self, about: str) -> NoReturn:
        """A green test would say that its backend works, and another one had run."""
        __tracebackhide__ = True
        raise WrongBackend(
            f"{about}: it was made on {self.backend}, this test runs on {self.test_runs_on}\n"
            "Make it in the test, or in a fixture that names wasm_instance or wasm_module in its signature "
            "(globals and class attributes keep what the first backend made)."
        )

    def another(self, cwd: str | None, environment: Mapping[str, str]) -> PipeConnection:
        """A fresh engine process of the same backend, in that directory, with more environment; to be closed."""
        from pytest_wasmer.runtime.pipe import PipeConnection

        made = PipeConnection(self._spec, self._pycache, cwd, environment)
        if self.watchdog is not None:
            self.watchdog.watch(made)
        return made

    def bound(self, size: int) -> None:
        """What the engine process may take beyond what it has, in bytes; 0: anything. Where that is possible."""

    def request(self, operation: str, *arguments: Any, about: str) -> Any:
        raise NotImplementedError

    def caller(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Values], Values]:
        """What calls the function of that handle."""
        raise NotImplementedError

    def mapper(
        self, handle: int, params: tuple[str, ...], results: tuple[str, ...], about: str
    ) -> Callable[[Sequence[Values]], list[Values | Trapped]]:
        """What calls it once per tuple of values, in one message."""
        raise NotImplementedError

    def take_output(self) -> str:
        """What native code printed since the last time, where this transport captures it."""
        return ""

    def settle(self) -> None:
        """To be called between tests: undo what others did to this process's signal handlers."""

    def was_asked(self) -> bool:
        """Whether anything was asked since it last settled."""
        return True

    def wake(self) -> None:
        """A test is about to ask, as far as can be told: a process that has slept takes 0.1 ms to answer."""

    def close(self) -> None:
        raise NotImplementedError

    def due_releases(self) -> list[int]:
        """Handles to let go of now. Finalizers may append at any moment."""
        due = self.releases[:]
        del self.releases[: len(due)]
        return due

    # The operations of the executor, typed

    def convert(self, wat: str, about: str) -> bytes:
        __tracebackhide__ = True
        return self.request("convert", wat, about=about)  # type: ignore[no-any-return]

    def compile(self, wasm: bytes, about: str) -> tuple[int, Description]:
        __tracebackhide__ = True
        return self.request("compile", wasm, about=about)  # type: ignore[no-any-return]

    def load(self, place: Place, about: str) -> tuple[int, float, Description]:
        __tracebackhide__ = True
        return self.request("load", *place, about=about)  # type: ignore[no-any-return]

    def store(self, place: Place, wasm: bytes, about: str) -> tuple[int, float, str, Description]:
        __tracebackhide__ = True
        return self.request("store", *place, wasm, about=about)  # type: ignore[no-any-return]

    def reload(self, wasm: bytes, about: str) -> tuple[int, float, str, Description]:
        __tracebackhide__ = True
        return self.request("reload", wasm, about=about)  # type: ignore[no-any-return]

    def serialize(self, module: int, about: str) -> bytes:
        __tracebackhide__ = True
        return self.request("serialize", module, about=about)  # type: ignore[no-any-return]

    def deserialize(self, artifact: bytes, about: str) -> tuple[int, Description]:
        __tracebackhide__ = True
        return self.request("deserialize", artifact, about=about)  # type: ignore[no-any-return]

    def custom_sections(self, module: int, name: str, about: str) -> list[bytes]:
        __tracebackhide__ = True
        return self.request("custom_sections", module, name, about=about)  # type: ignore[no-any-return]

    def instantiate(self, module: int, imports: Sequence[tuple[int, int]], about: str) -> int:
        __tracebackhide__ = True
        return self.request("instantiate", module, imports, about=about)  # type: ignore[no-any-return]

    def make_memory(self, minimum: int, maximum: int | None, about: str) -> int:
        __tracebackhide__ = True
        return self.request("make_memory", minimum, maximum, about=about)  # type: ignore[no-any-return]

    def read(self, memory: int, offset: int, length: int, about: str) -> bytes:
        __tracebackhide__ = True
        return self.request("read", memory, offset, length, about=about)  # type: ignore[no-any-return]

    def write(self, memory: int, offset: int, data: bytes, about: str) -> None:
        __tracebackhide__ = True
        self.request("write", memory, offset, data, about=about)

    def digest(self, memory: int, about: str) -> bytes:
        __tracebackhide__ = True
        return self.request("digest", memory, about=about)  # type: ignore[no-any-return]

    def memory_pages(self, memory: int, about: str) -> int:
        __tracebackhide__ = True
        return self.request("memory_pages", memory, about=about)  # type: ignore[no-any-return]

    def grow(self, memory: int, pages: int, about: str) -> int:
        __tracebackhide__ = True
        return self.request("grow", memory, pages, about=about)  # type: ignore[no-any-return]

    def make_global(self, value_type: str, mutable: bool, value: int, about: str) -> int:
        __tracebackhide__ = True
        return self.request("make_global", value_type, mutable, value, about=about)  # type: ignore[no-any-return]

    def get_global(self, handle: int, about: str) -> int:
        __tracebackhide__ = True
        return self.request("get_global", handle, about=about)  # type: ignore[no-any-return]

    def set_global(self, handle: int, value: int, about: str) -> None:
        __tracebackhide__ = True
        self.request("set_global", handle, value, about=about)

    def watch(self, folder: str) -> None:
        """From now on what is released leaves its state behind, for `states`, and pages of memories in a folder."""
        if not self._watched:
            self._watched = True
            self.request("watch", folder, about="nothing yet")

    def states(self, handles: Sequence[int], about: str) -> list[str]:
        __tracebackhide__ = True
        return self.request("states", handles, about=about)  # type: ignore[no-any-return]

    def table_size(self, handle: int, about: str) -> int:
        __tracebackhide__ = True
        return self.request("table_size", handle, about=about)  # type: ignore[no-any-return]
