"""Tests that use `wasm_all`: they run once, and ask all their backends at the same time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import markers
from pytest_wasmer.fixtures import ALL, FACTORIES, FIXTURE
from pytest_wasmer.selection import asks_all, left_to, no_backend, nothing_left, variant_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_wasmer.agreement.at_once.everywhere import Everywhere
    from pytest_wasmer.selection import Selection
    from pytest_wasmer.session import WasmSession
    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.source import SourceLike


# Collection


def check(metafunc: pytest.Metafunc, selection: Callable[[], Selection], known: Sequence[str]) -> None:
    """Raises CollectError for a test that cannot ask all backends at once, or whose markers are wrong."""
    item = metafunc.definition
    if FIXTURE in metafunc.fixturenames:
        raise pytest.Collector.CollectError(
            f"{item.nodeid} uses {ALL} and {_users(metafunc)}: {ALL} asks all backends in one test, which cannot run "
            f"on each backend, too\nMake two tests of it, or make all its instances by {ALL}(source, imports)."
        )
    check_markers(item, known)
    if not selection().names:
        raise pytest.Collector.CollectError(no_backend(selection()))


def _users(metafunc: pytest.Metafunc) -> str:
    """What runs a test per backend, and through which of the test's fixtures."""
    # Those that use others first.
    ours = [name for name in (*reversed(FACTORIES), FIXTURE) if name != ALL and name in metafunc.fixturenames]
    through = [
        name
        for name in metafunc.fixturenames
        if name not in FACTORIES
        and any({*ours} & {*fixture.argnames} for fixture in metafunc._arg2fixturedefs.get(name, ()))
    ]
    return ours[0] + (f" (through {', '.join(through)})" if through else "")


def check_markers(item: pytest.Item | pytest.Function, known: Sequence[str]) -> markers.Said:
    """What they say. Raises CollectError for wrong ones, and what makes sense for a test on each backend only."""
    if item.get_closest_marker("wasm_xfail") is not None:
        raise pytest.Collector.CollectError(
            f"marker wasm_xfail of {item.nodeid}: it names backends, and a test that uses {ALL} runs once\n"
            'Say @pytest.mark.xfail(raises=Divergence, strict=True, reason="...").'
        )
    said = markers.said(item, known)
    if not said.agreement.host_calls:
        raise pytest.Collector.CollectError(
            f"marker wasm_agree of {item.nodeid}: with {ALL} a host call is made once, for all backends: they must "
            "agree on it\nLeave out host_calls=False."
        )
    return said


# Running


class Together:
    """Of one session."""

    def __init__(self, session: WasmSession) -> None:
        self._session = session
        self._connections: dict[tuple[str, ...], Everywhere] = {}
        self._level = "results"
        # A test that uses the fixture without saying so.
        self._found: pytest.Item | None = None
        # What the fixture was used for the last time.
        self._served: list[str] | None = None

    def asked_by(self, item: pytest.Item) -> list[str] | None:
        """The variants that a test asks, all at once; None for one that runs on each backend, or on none."""
        if not asks_all(item) and self._found is not item:
            return None
        try:
            return left_to(item, self._session.selection, self._session.registry.names)
        except pytest.Collector.CollectError:
            return []  # see `selection.said_late`

    def said_of(self, asked: Sequence[str]) -> str:
        """What the summary says of the running test."""
        if len(asked) < 2:
            return "had one backend to ask: nothing was compared"
        said = f"asked {len(asked)} backends at once"
        return said if self._level != "off" else f"{said}, told not to compare"

    def before(self, item: pytest.Item) -> bool:
        """Whether fixtures may hold what was made for other backends than this test asks.

        Fails it for markers that were not there when it was collected, and are wrong.
        """
        asked = self.asked_by(item)
        if asked is None:
            return False
        try:
            said = check_markers(item, self._session.registry.names)
        except pytest.Collector.CollectError as error:
            pytest.fail(str(error), pytrace=False)
        self._level = said.agreement.level or self._session.settings.agree.value
        for connection in self._connections.values():
            connection.lockstep.level = self._level
        before, self._served = self._served, asked
        return before is not None and before != asked

    def only(self, variants: Sequence[str] | None) -> None:
        """While a test runs, what was made for other backends than it asks refuses requests."""
        for names, connection in self._connections.items():
            others = variants is not None and list(names) != list(variants)
            connection.test_runs_on = ", ".join(variants or ()) if others else ""

    def load(self, source: SourceLike, asking: str) -> Module:
        """The module of a source that code in the file `asking` names, on all backends of the running test."""
        __tracebackhide__ = True
        variants = self._variants()
        for variant in variants:
            self._session.connection(variant)  # all engine processes start at the same time
        modules = []
        for variant in variants:  # a comprehension would be a frame in tracebacks
            modules.append(self._session.load(variant, source, asking))
        from pytest_wasmer.agreement.at_once.everywhere import module_everywhere

        return module_everywhere(modules, partial(self._connection, variants))

    def _variants(self) -> list[str]:
        """Fails or skips the running test where it cannot ask."""
        __tracebackhide__ = True
        session, item = self._session, self._session.item
        if item is None:
            pytest.fail(f"{ALL} is used outside a test", pytrace=False)
        if variant_of(item) is not None:
            pytest.fail(
                f"{item.nodeid} runs on each backend: it cannot ask all of them at once, too\n"
                f"Name {ALL} in its signature, and nothing that runs it on each backend.",
                pytrace=False,
            )
        if not asks_all(item) and self._found is not item:
            self._found = item
            session.begin()
            self.before(item)
        variants = left_to(item, session.selection, session.registry.names)
        if not session.selection.names:
            pytest.fail(no_backend(session.selection), pytrace=False)
        if not variants:
            pytest.skip(nothing_left(item, session.selection, session.registry.names))
        return variants

    def _connection(self, variants: Sequence[str]) -> Everywhere:
        """The one that is alive."""
        from pytest_wasmer.agreement.at_once.everywhere import Everywhere

        members = [self._session.connection(variant) for variant in variants]
        found = self._connections.get(tuple(variants))
        if found is None or found.members != members:
            found = self._connections[tuple(variants)] = Everywhere(members)
            found.lockstep.level = self._level
        return found
