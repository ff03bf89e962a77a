"""Work in another thread."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def in_thread(work: Callable[[], object]) -> BaseException | None:
    """Runs a function in a thread named "other"; what it raised, or None."""
    raised: list[BaseException] = []

    def target() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=target, name="other")
    thread.start()
    thread.join()
    return raised[0] if raised else None
