"""The signal handlers by which Wasmer catches traps, kept in place.

The first Store of a process installs handlers of SIGSEGV, SIGBUS, SIGILL and SIGFPE, once for ever. Whoever changes
them afterwards (pytest's faulthandler, enabled late, disabled at the end, or in a nested run) turns the next trap
into the death of the process. In an engine process nobody does; in the test process everybody may.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    EngineT = TypeVar("EngineT")

SIGNALS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")
# Larger than `struct sigaction` on every platform (152 bytes with glibc).
ROOM = 512
# The handler's address comes first; of the mask behind it glibc fills in only a part.
HANDLER = 8


class Sigactions:
    """The handlers as they were at one moment.

    `installed` is the one fact about the process that outlives sessions (and nested ones share): Wasmer's
    own handlers, as the first Store left them.
    """

    installed: Sigactions | None = None

    def __init__(self, libc: Any, saved: dict[int, bytes]) -> None:
        self._libc = libc
        self._saved = saved

    @classmethod
    def now(cls) -> Sigactions:
        if sys.platform == "win32":  # vectored exception handlers, which nobody replaces
            return cls(None, {})
        import ctypes
        import signal

        libc = ctypes.CDLL(None)
        return cls(libc, {number: _read(libc, number) for number in (getattr(signal, name) for name in SIGNALS)})

    @classmethod
    def around(cls, make: Callable[[], EngineT]) -> EngineT:
        """Make an engine, and note the handlers if it installs any; if it does not, those noted before count."""
        before = cls.now()
        engine = make()
        after = cls.now()
        if after._handlers() != before._handlers():
            cls.installed = after
        else:
            cls.put_back()
        return engine

    @classmethod
    def put_back(cls) -> None:
        """Wasmer's own, where it has installed any."""
        if cls.installed is not None:
            cls.installed.restore()

    def restore(self) -> None:
        for number, saved in self._saved.items():
            if _read(self._libc, number)[:HANDLER] != saved[:HANDLER]:
                self._libc.sigaction(number, saved, None)

    def _handlers(self) -> list[bytes]:
        return [saved[:HANDLER] for saved in self._saved.values()]


def _read(libc: Any, number: int) -> bytes:
    import ctypes

    buffer = ctypes.create_string_buffer(ROOM)
    libc.sigaction(number, None, buffer)
    return buffer.raw
