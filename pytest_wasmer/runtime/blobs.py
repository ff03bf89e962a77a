"""Bytes that only failures need, kept in local files for as long as the session lasts, and found by their digest.

    <folder>/<process>-<number>.blobs       records: digest, length, content

Each process appends to a file of its own. Of what it wrote it keeps the last `LIMIT` bytes at least: who looks for
something older does not find it. Engine processes import this module.
"""

from __future__ import annotations

import os
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 128 << 20
SUFFIX = ".blobs"
DIGEST = 12
HEAD = Struct(f"<{DIGEST}sI")


def digest_of(content: bytes) -> str:
    """What a content is found by, in hex: of its SHA-256, for which processors have instructions, the first bytes."""
    from hashlib import sha256  # not at the start of an engine process

    return sha256(content).digest()[:DIGEST].hex()


class Blobs:
    """What this process keeps in a folder. Where that cannot be written, nothing is kept."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._number = 0
        self._file = -1
        self._size = 0
        self._kept: set[str] = set()

    def keep(self, digest: str, content: bytes) -> None:
        """Append it, unless it is there."""
        if digest in self._kept or not self._open():
            return
        self._kept.add(digest)
        record = HEAD.pack(bytes.fromhex(digest), len(content)), content
        self._size += HEAD.size + len(content)
        try:
            written = os.writev(self._file, record) if _CAN_GATHER else os.write(self._file, b"".join(record))
        except OSError:
            written = 0
        if written < HEAD.size + len(content):  # a full disk: what is cut off is not found
            self._size = LIMIT

    def _open(self) -> bool:
        """Whether there is a file to append to; the oldest one goes when the newest is full."""
        if self._file >= 0 and self._size < LIMIT:
            return True
        try:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            if self._number > 1:
                os.unlink(self._path(self._number - 1))
            self._number += 1
            self._file = os.open(self._path(self._number), os.O_CREAT | os.O_WRONLY | os.O_APPEND | _BINARY, 0o600)
        except OSError:
            return False
        self._size = 0
        self._kept = set()
        return True

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"{os.getpid()}-{number}{SUFFIX}")


_BINARY = getattr(os, "O_BINARY", 0)
_CAN_GATHER = hasattr(os, "writev")  # not on Windows


def find(folder: str, wanted: Iterable[str]) -> dict[str, bytes]:
    """Of the wanted digests those that some process kept, with their contents."""
    missing = {bytes.fromhex(digest) for digest in wanted}
    found: dict[str, bytes] = {}
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX))
    except OSError:
        return found
    for name in names:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                while missing and len(head := file.read(HEAD.size)) == HEAD.size:
                    digest, length = HEAD.unpack(head)
                    if digest not in missing:
                        file.seek(length, os.SEEK_CUR)
                        continue
                    content = file.read(length)
                    if digest_of(content) == digest.hex():
                        found[digest.hex()] = content
                        missing.discard(digest)
        except OSError:
            continue
    return found
