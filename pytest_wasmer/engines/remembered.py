"""What was found out about files, kept for later runs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def identity(file: str | Path) -> tuple[str, int, int]:
    """Changes whenever a file is replaced. Raises OSError."""
    status = os.stat(file)
    return str(file), status.st_size, status.st_mtime_ns


class Memory:
    """What is known of one subject in one state: `key` is all that it depends on."""

    def __init__(self, folder: Path, name: str, key: Any) -> None:
        self._key = json.dumps(key)
        self._file = folder / f"{name}-{hashlib.sha256(self._key.encode()).hexdigest()[:16]}.json"

    def recall(self, *names: str) -> dict[str, Any] | None:
        """What was kept, if it has all these names."""
        with suppress(OSError, ValueError):
            kept = json.loads(self._file.read_text())
            if isinstance(kept, dict) and kept.get("key") == self._key and not {*names} - {*kept}:
                return kept
        return None

    def keep(self, **found: Any) -> None:
        """For later runs, where that is possible."""
        with suppress(OSError):
            _write(self._file, json.dumps({"key": self._key, **found}))

    def forget(self) -> None:
        with suppress(OSError):
            self._file.unlink()


def _write(file: Path, text: str) -> None:
    """All of it or nothing, whoever else writes or reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.replace(temporary, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
