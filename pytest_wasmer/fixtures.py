"""The public fixtures, all session-scoped, so that users build fixtures of any scope on them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import pytest

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

FIXTURE = "wasm_backend"
ALL = "wasm_all"
GOLDEN = "wasm_golden"
FACTORIES = ("wasm_module", "wasm_instance", "wasm_round_trip", ALL)
NAMES = (FIXTURE, GOLDEN, *FACTORIES)


class Backend(str):
    """A backend: equal to its name. `variant` is what the test's id says: "llvm", or "llvm-fresh"."""

    __slots__ = ("variant",)
    variant: str

    @classmethod
    def of(cls, variant: str) -> Backend:
        from pytest_wasmer.variants import backend_in

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


class RoundTripCheck(Protocol):
    """The type of `wasm_round_trip`: see `pytest_wasmer.checks.check_round_trip`."""

    def __call__(
        self,
        source: SourceLike,
        calls: Sequence[tuple[Any, ...]] | None = None,
        *,
        imports: Imports | Callable[[], Imports] | None = None,
    ) -> RoundTrip: ...


def plugin_of(session: Callable[[], WasmSession]) -> ModuleType:
    """The fixtures of one session, to be registered as a plugin.

    They close over what gives the session, since a `request` to find it by costs each test that uses them.
    """

    @pytest.fixture(scope="session")
    def wasm_backend(request: pytest.FixtureRequest) -> Backend:
        """The backend that the test runs on, a str: "singlepass", "cranelift", "llvm", ..."""
        variant = getattr(request, "param", None)
        return Backend.of(variant if isinstance(variant, str) else session().unparametrized_variant())

    @pytest.fixture(scope="session")
    def wasm_module(wasm_backend: Backend) -> ModuleFactory:
        """Compiles a module on the test's backend: wasm_module("codec.wasm").

        A source is a path (relative to the file that asks, then to its parents up to rootdir), the module's bytes,
        or WAT text. Each module is compiled once per backend, and kept for later runs.
        """
        return ModuleFactory(session(), wasm_backend.variant)

    @pytest.fixture(scope="session")
    def wasm_instance(wasm_module: ModuleFactory, wasm_backend: Backend) -> InstanceFactory:
        """Makes an instance of a module on the test's backend: wasm_instance("codec.wasm", imports={"env": {...}})."""
        return InstanceFactory(session(), wasm_backend.variant)

    @pytest.fixture(scope="session")
    def wasm_round_trip(wasm_backend: Backend) -> RoundTripCheck:
        """Checks that a module's stored code is the same program: wasm_round_trip("codec.wasm", calls=[("f", 1)])."""

        def check(
            source: SourceLike,
            calls: Sequence[tuple[Any, ...]] | None = None,
            *,
            imports: Imports | Callable[[], Imports] | None = None,
        ) -> RoundTrip:
            __tracebackhide__ = True
            from pytest_wasmer.checks import check_round_trip

            module = session().load(wasm_backend.variant, source, sys._getframe(1).f_code.co_filename)
            return check_round_trip(module, calls, imports=imports)

        return check

    @pytest.fixture(scope="session")
    def wasm_golden(wasm_backend: Backend) -> GoldenOfTest:
        """What the test lets be seen is compared with its golden, a file under __golden__ (see --wasm-update)."""
        golden = GoldenOfTest(session())
        _ = golden.path  # fails where it cannot be had
        return golden

    @pytest.fixture(scope="session")
    def wasm_all() -> AllFactory:
        """Makes an instance on all backends at once: wasm_all("codec.wasm", imports={"env": {...}}).

        What is asked of it is asked of all, at the same time; the answer is the agreed one, or `Divergence` is raised.
        Host functions are called once. The test runs once.
        """
        return AllFactory(session())

    plugin = ModuleType("pytest_wasmer.fixtures.of_a_session")
    vars(plugin).update(
        wasm_backend=wasm_backend,
        wasm_module=wasm_module,
        wasm_instance=wasm_instance,
        wasm_round_trip=wasm_round_trip,
        wasm_golden=wasm_golden,
        wasm_all=wasm_all,
    )
    return plugin
