"""Modules that cost one engine process after the other: after some of them they are not tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.runtime.errors import EngineLost, GivenUp, TimedOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.loading import Loaded, Strategy

IN_A_ROW = 3


class Row(NamedTuple):
    """The first of some losses in a row, and the test that it cost."""

    first: EngineLost
    test: str
    losses: int = 0


class Crashes:
    """By variant and module (its digest) the losses in a row: no test between them tried the module without a loss.

    A module is tried where it is loaded into an engine process: by the first test that uses it, and by the first one
    after each loss. Time-outs and interrupts do not count, as they are no crashes.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row] = {}
        # In the running test.
        self._tried: set[tuple[str, str]] = set()

    def careful(self, strategy: Strategy) -> Strategy:
        """One that raises `GivenUp` instead of loading what has crashed too often."""

        def load(connection: Connection, wasm: bytes, digest: str, name: str) -> Loaded:
            __tracebackhide__ = True
            key = (connection.backend, digest)
            row = self._rows.get(key)
            if row is not None and row.losses >= IN_A_ROW:
                raise GivenUp(name, *row)
            self._tried.add(key)
            try:
                return strategy(connection, wasm, digest, name)
            except EngineLost as loss:
                loss.blame(digest)
                raise

        return load

    def note(self, losses: Sequence[EngineLost], test: str) -> None:
        """What was lost in a phase of a test."""
        for loss in losses:
            if loss.module and not loss.interrupted and not isinstance(loss, TimedOut):
                key = (loss.backend, loss.module)
                row = self._rows.get(key) or Row(loss.without_frames(), test)
                self._rows[key] = row._replace(losses=row.losses + 1)
                self._tried.discard(key)

    def end_test(self) -> None:
        for key in self._tried:
            self._rows.pop(key, None)
        self._tried.clear()
