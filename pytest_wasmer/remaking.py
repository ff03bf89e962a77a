"""Fixtures whose values must be made anew: when another backend's turn comes, or an engine process was lost."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pytest_wasmer.fixtures import FACTORIES, FIXTURE, NAMES

if TYPE_CHECKING:
    import pytest


class Remaking:
    """What a session's fixtures hold of its backends."""

    def __init__(self) -> None:
        self._fixtures: dict[str, tuple[pytest.FixtureDef[Any], pytest.FixtureRequest]] = {}
        # By name, fixtures that are built on these in any way; and those that asked for one by getfixturevalue.
        self._built = {FIXTURE, *FACTORIES}
        self._askers: dict[pytest.FixtureDef[Any], pytest.FixtureRequest] = {}

    def note(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, *, watch: bool) -> None:
        """Remember the definitions whose values may have to be made anew. To be called before each set-up.

        `watch`: also what a fixture of wider scope asks for by name.
        """
        if fixturedef.argname in NAMES:
            self._fixtures[fixturedef.argname] = (fixturedef, request)
        elif not self._built.isdisjoint(fixturedef.argnames):
            self._built.add(fixturedef.argname)
        if watch and fixturedef.scope != "function" and "request" in fixturedef.argnames:
            self._watch(fixturedef, request)

    def _watch(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
        """pytest makes a fixture anew with those in its signature, not with those that it asks for by name."""
        ask = request.getfixturevalue

        def getfixturevalue(argname: str) -> Any:
            __tracebackhide__ = True
            try:
                return ask(argname)
            finally:
                if argname in self._built:
                    self._built.add(fixturedef.argname)
                    self._askers[fixturedef] = request

        request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]

    def request_of(self, name: str) -> pytest.FixtureRequest | None:
        """That of the fixture's present value."""
        return self._fixtures[name][1] if name in self._fixtures else None

    def let_go(self, *names: str) -> None:
        """Of the values of these fixtures, of those built on them, and of what asked for such a one."""
        due = [self._fixtures.pop(name) for name in names if name in self._fixtures]
        if not self._built.isdisjoint(names):
            due += self._askers.items()
            self._askers.clear()
        if due:
            with ExitStack() as last_first:
                for fixturedef, request in due:
                    last_first.callback(fixturedef.finish, request)  # type: ignore[arg-type]
