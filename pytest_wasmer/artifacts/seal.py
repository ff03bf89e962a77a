"""The key that seals stored artifacts: random, one per user, in a file that nobody else can read.

Whoever has it can make this user run native code: it is never in the store's directory, so that a store can be
copied, restored on CI or shared without it (then everything in it is a miss).
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

SIZE = 32


def seal_file() -> Path:
    """Where this user's key is."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pytest-wasmer", appauthor=False)) / "seal.key"


def seal_key(file: Path) -> bytes:
    """The key; made if there is none, and made anew if others could have read it. Raises OSError."""
    for _ in range(10):
        key = _read(file)
        if key is not None:
            return key
        _make(file)
    raise OSError(f"{file} cannot be made")


def present_key(file: Path) -> bytes:
    """The key, or b"" where there is none that nobody else could have read. Raises OSError."""
    key, good = _found(file)
    return key if key is not None and good else b""


def _read(file: Path) -> bytes | None:
    key, good = _found(file)
    if good:
        return key
    if key is not None:
        with suppress(FileNotFoundError):
            file.unlink()
    return None


def _found(file: Path) -> tuple[bytes | None, bool]:
    """What is in the file, and whether it is a key to be used."""
    try:
        with open(file, "rb") as stream:
            status, key = os.fstat(stream.fileno()), stream.read(SIZE + 1)
    except FileNotFoundError:
        return None, False
    return key, len(key) == SIZE and _is_private(status)


def _is_private(status: os.stat_result) -> bool:
    if sys.platform == "win32":  # access lists, which mode bits do not show
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _make(file: Path) -> None:
    """Whole, or not at all; where two processes make one, the first wins."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(os.urandom(SIZE))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(temporary, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
