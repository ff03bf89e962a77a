"""Hooks that other plugins and conftests implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import pytest

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.engines.registry import BackendSpec

hookspec = pluggy.HookspecMarker("pytest")


@hookspec
def pytest_wasmer_backends(config: pytest.Config) -> list[BackendSpec]:  # type: ignore[empty-body]
    """Register further backends. They run where they are named: `--wasm-backends=mine`, not in `all` or `available`.

    The adapter is a `pytest_wasmer.engines.api.Engine`, imported in the engine process, which sees the standard
    library, `pytest_wasmer` and `import_path`::

        def pytest_wasmer_backends(config):
            here = str(Path(__file__).parent)
            return [BackendSpec("mine", engine="my_engine:MyEngine", argument="fast", import_path=here)]
    """


@hookspec
def pytest_wasmer_key_parts(config: pytest.Config) -> dict[str, str]:  # type: ignore[empty-body]
    """Add to what stored artifacts depend on: a change of any part compiles all modules anew.

    For what this plugin cannot see, a patched library that calls itself by the same version, say::

        def pytest_wasmer_key_parts(config):
            return {"firmware": Path("/etc/firmware-version").read_text()}
    """


@hookspec
def pytest_wasmer_normalize(group: str, events: list[Event]) -> list[Event]:  # type: ignore[empty-body]
    """Change what is compared between backends: leave out or replace what may differ, timestamps of a guest, say.

    `group` is the id of a test without its backend, "test_clock.py::test_now[backends-agree]"; `events` is what it saw
    on one of them (see `pytest_wasmer.agreement.events`)::

        def pytest_wasmer_normalize(group, events):
            return [event for event in events if event[:2] != ("host", "env.now")]
    """
