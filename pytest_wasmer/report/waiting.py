"""What a test waits for, shown on a terminal while it lasts: LLVM may take minutes for one module.

Nothing is shown in logs: not where output is no terminal, nor on CI.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

# Seconds before anything is said, and between two looks.
PATIENCE = 2.0
TICK = 1.0
# Where a worker of xdist, which has no terminal, leaves word for the controller.
BOARD = "wasm_board"

# After what stands in the line: save the cursor, write as much as there is room for, clear the rest, go back.
SHOWN, GONE = "\0337\033[?7l {}\033[K\033[?7h\0338", "\033[K"


class Place(Protocol):
    """Where it is shown. An empty text takes it away."""

    def __call__(self, text: str) -> None: ...


class Waiting:
    """`with waiting("llvm compiles lexer.wasm"):` shows that and the seconds, once it takes long."""

    def __init__(self, show: Place | None) -> None:
        self._show = show

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        if self._show is None:
            yield
            return
        ended = Event()
        thread = Thread(target=_tell, args=(self._show, what, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _tell(show: Place, what: str, ended: Event) -> None:
    began = time.monotonic()
    shown = False
    pause = PATIENCE
    while not ended.wait(pause):
        show(f"[{what}: {time.monotonic() - began:.0f} s]")
        shown, pause = True, TICK
    if shown:
        show("")


def waiting(config: pytest.Config) -> Waiting:
    """For the process of this config: a worker of xdist tells its controller."""
    board = getattr(config, "workerinput", {}).get(BOARD)
    return Waiting(_pin(Path(board), os.getpid()) if board else _terminal(config))


def _terminal(config: pytest.Config) -> Place | None:
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or not reporter.isatty or os.environ.get("CI") or os.environ.get("BUILD_NUMBER"):
        return None
    return _show


def _show(text: str) -> None:
    # Not stdout: during a test pytest captures that.
    with suppress(OSError), open("CONOUT$" if sys.platform == "win32" else "/dev/tty", "w") as terminal:
        terminal.write(SHOWN.format(text) if text else GONE)


def _pin(board: Path, process: int) -> Place:
    def show(text: str) -> None:
        with suppress(OSError):
            if text:
                (board / str(process)).write_text(text)
            else:
                (board / str(process)).unlink()

    return show


class Board:
    """On the controller of xdist: shows what its workers wait for. Nothing without a terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._show = _terminal(config)
        self._folder: Path | None = None
        self._ended = Event()

    @property
    def folder(self) -> str | None:
        """For workers; the first call begins to look."""
        if self._show is not None and self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="pytest-wasmer-"))
            Thread(target=self._look, args=(self._folder, self._show), daemon=True).start()
        return None if self._folder is None else str(self._folder)

    def _look(self, folder: Path, show: Callable[[str], None]) -> None:
        shown = False
        while not self._ended.wait(TICK):
            texts = []
            with suppress(OSError):
                texts = [file.read_text() for file in sorted(folder.iterdir())]
            if texts or shown:
                show(" ".join(texts))
            shown = bool(texts)

    def close(self) -> None:
        self._ended.set()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
