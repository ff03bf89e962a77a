"""The public fixtures, all session-scoped, so that users build fixtures of any scope on them."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.factories import (
        AllFactory,
        Backend,
        GoldenOfTest,
        InstanceFactory,
        ModuleFactory,
        RoundTripCheck,
    )
    from pytest_wasmer.session import WasmSession

FIXTURE = "wasm_backend"
ALL = "wasm_all"
GOLDEN = "wasm_golden"
FACTORIES = ("wasm_module", "wasm_instance", "wasm_round_trip", ALL)
NAMES = (FIXTURE, GOLDEN, *FACTORIES)


def plugin_of(session: Callable[[], WasmSession]) -> ModuleType:
    """The fixtures of one session, to be registered as a plugin.

    They close over what gives the session, and name no more fixtures than they need: pytest looks up each of them,
    and makes a `request`, for each test anew.
    """

    @pytest.fixture(scope="session")
    def wasm_backend() -> Backend:
        """The backend that the test runs on, a str: "singlepass", "cranelift", "llvm", ..."""
        from pytest_wasmer.factories import Backend

        return Backend.of(session().variant())

    @pytest.fixture(scope="session")
    def wasm_module(wasm_backend: Backend) -> ModuleFactory:
        """Compiles a module on the test's backend: wasm_module("codec.wasm").

        A source is a path (relative to the file that asks, then to its parents up to rootdir), the module's bytes,
        or WAT text. Each module is compiled once per backend, and kept for later runs.
        """
        from pytest_wasmer.factories import ModuleFactory

        return ModuleFactory(session(), wasm_backend.variant)

    @pytest.fixture(scope="session")
    def wasm_instance(wasm_backend: Backend) -> InstanceFactory:
        """Makes an instance of a module on the test's backend: wasm_instance("codec.wasm", imports={"env": {...}})."""
        from pytest_wasmer.factories import InstanceFactory

        return InstanceFactory(session(), wasm_backend.variant)

    @pytest.fixture(scope="session")
    def wasm_round_trip(wasm_backend: Backend) -> RoundTripCheck:
        """Checks that a module's stored code is the same program: wasm_round_trip("codec.wasm", calls=[("f", 1)])."""

        from pytest_wasmer.factories import RoundTripCheck

        return RoundTripCheck(session(), wasm_backend.variant)

    @pytest.fixture(scope="session")
    def wasm_golden(wasm_backend: Backend) -> GoldenOfTest:
        """What the test lets be seen is compared with its golden, a file under __golden__ (see --wasm-update)."""
        from pytest_wasmer.factories import GoldenOfTest

        golden = GoldenOfTest(session())
        _ = golden.path  # fails where it cannot be had
        return golden

    @pytest.fixture(scope="session")
    def wasm_all() -> AllFactory:
        """Makes an instance on all backends at once: wasm_all("codec.wasm", imports={"env": {...}}).

        What is asked of it is asked of all, at the same time; the answer is the agreed one, or `Divergence` is raised.
        Host functions are called once. The test runs once.
        """
        from pytest_wasmer.factories import AllFactory

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
