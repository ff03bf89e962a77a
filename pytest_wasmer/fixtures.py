"""The public fixtures, all session-scoped, so that users build fixtures of any scope on them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_wasmer.session import WasmSession
    from pytest_wasmer.wasm.imports import Imports
    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.source import SourceLike

FIXTURE = "wasm_backend"
FACTORIES = ("wasm_module", "wasm_instance")


class ModuleFactory(Protocol):
    """The type of `wasm_module`."""

    def __call__(self, source: SourceLike) -> Module: ...


class InstanceFactory(Protocol):
    """The type of `wasm_instance`."""

    def __call__(self, source: SourceLike, imports: Imports | None = None) -> Instance: ...


def plugin_of(session: WasmSession) -> ModuleType:
    """The fixtures of one session, to be registered as a plugin.

    They close over the session, since a `request` to find it by costs each test that uses them.
    """

    @pytest.fixture(scope="session")
    def wasm_backend(request: pytest.FixtureRequest) -> str:
        """The backend that the test runs on: "singlepass", "cranelift", "llvm", ..."""
        name = getattr(request, "param", None)
        return name if isinstance(name, str) else session.unparametrized_backend()

    @pytest.fixture(scope="session")
    def wasm_module(wasm_backend: str) -> ModuleFactory:
        """Compiles a module on the test's backend: wasm_module("codec.wasm").

        A source is a path (relative to the file that asks, then to its parents up to rootdir), the module's bytes,
        or WAT text. Each module is compiled once per backend and session.
        """

        def load(source: SourceLike) -> Module:
            __tracebackhide__ = True
            return session.load(wasm_backend, source, sys._getframe(1).f_code.co_filename)

        return load

    @pytest.fixture(scope="session")
    def wasm_instance(wasm_module: ModuleFactory, wasm_backend: str) -> InstanceFactory:
        """Makes an instance of a module on the test's backend: wasm_instance("codec.wasm", imports={"env": {...}})."""

        def instantiate(source: SourceLike, imports: Imports | None = None) -> Instance:
            __tracebackhide__ = True
            module = session.load(wasm_backend, source, sys._getframe(1).f_code.co_filename)
            return module.instantiate(imports)

        return instantiate

    plugin = ModuleType("pytest_wasmer.fixtures.of_a_session")
    vars(plugin).update(wasm_backend=wasm_backend, wasm_module=wasm_module, wasm_instance=wasm_instance)
    return plugin
