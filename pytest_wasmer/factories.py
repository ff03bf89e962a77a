"""What the fixtures give to tests: the backend, and what makes modules and instances on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pytest_wasmer.fixtures import ALL, GOLDEN
from pytest_wasmer.variants import backend_in

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_wasmer.checks import RoundTrip
    from pytest_wasmer.session import WasmSession
    from pytest_wasmer.wasm.imports import Imports
    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.source import SourceLike


class Backend(str):
    """A backend: equal to its name. `variant` is what the test's id says: "llvm", or "llvm-fresh"."""

    __slots__ = ("variant",)
    variant: str

    @classmethod
    def of(cls, variant: str) -> Backend:
        backend = cls(backend_in(variant))
        backend.variant = variant
        return backend


class ModuleFactory:
    """The type of `wasm_module`: compiles a module on the test's backend."""

    def __init__(self, session: WasmSession, variant: str) -> None:
        self._session = session
        self._variant = variant

    def __call__(self, source: SourceLike) -> Module:
        __tracebackhide__ = True
        return self._session.load(self._variant, source, sys._getframe(1).f_code.co_filename)

    def load_artifact(self, path: str | os.PathLike[str], *, trusted: bool = False) -> Module:
        """The module of a file that `Module.save` or `pytest-wasmer compile` wrote, found as sources are.

        What the sidecar says must fit this machine and the test's backend; a file without sidecar is loaded only if
        it is `trusted`, since its bytes are run as they are. Raises `ArtifactError`.
        """
        __tracebackhide__ = True
        asking = sys._getframe(1).f_code.co_filename
        return self._session.load_artifact(self._variant, path, asking, trusted=trusted)

    def __repr__(self) -> str:
        return f"<wasm_module on {self._variant}>"


class InstanceFactory:
    """The type of `wasm_instance`: makes an instance of a module on the test's backend."""

    def __init__(self, session: WasmSession, variant: str) -> None:
        self._session = session
        self._variant = variant

    def __call__(self, source: SourceLike, imports: Imports | None = None) -> Instance:
        __tracebackhide__ = True
        module = self._session.load(self._variant, source, sys._getframe(1).f_code.co_filename)
        return module.instantiate(imports)

    def __repr__(self) -> str:
        return f"<wasm_instance on {self._variant}>"


class GoldenOfTest:
    """The type of `wasm_golden`: what the test that uses it lets be seen must be what its golden says.

    A golden is a file in the repository, one for all backends; `pytest --wasm-update` writes those that are missing.
    """

    def __init__(self, session: WasmSession) -> None:
        self._session = session

    @property
    def path(self) -> Path:
        """That of the running test."""
        return self._session.goldens.path(self._session.item)

    def __repr__(self) -> str:
        return f"<{GOLDEN}>"


class AllFactory:
    """The type of `wasm_all`: makes an instance of a module on all backends of the test."""

    def __init__(self, session: WasmSession) -> None:
        self._session = session

    def __call__(self, source: SourceLike, imports: Imports | None = None) -> Instance:
        """Raises what `wasm_instance` does, and `Divergence` where backends do not start alike."""
        __tracebackhide__ = True
        module = self._session.together.load(source, sys._getframe(1).f_code.co_filename)
        return module.instantiate(imports)

    def __repr__(self) -> str:
        return f"<{ALL}>"


class RoundTripCheck:
    """The type of `wasm_round_trip`: see `pytest_wasmer.checks.check_round_trip`."""

    def __init__(self, session: WasmSession, variant: str) -> None:
        self._session = session
        self._variant = variant

    def __call__(
        self,
        source: SourceLike,
        calls: Sequence[tuple[Any, ...]] | None = None,
        *,
        imports: Imports | Callable[[], Imports] | None = None,
    ) -> RoundTrip:
        __tracebackhide__ = True
        from pytest_wasmer.checks import check_round_trip

        module = self._session.load(self._variant, source, sys._getframe(1).f_code.co_filename)
        return check_round_trip(module, calls, imports=imports)
