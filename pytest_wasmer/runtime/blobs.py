"""Bytes that only failures need, kept in local files for as long as the session lasts, and found by their digest.

    <folder>/<process>-<number>.blobs       records: digest, length, content
             <process>.lock                 held while that process has yet to write what it was given

Each process appends to a file of its own. Of what it wrote it keeps the last `LIMIT` bytes at least: who looks for
something older does not find it. Engine processes import this module.
"""

from __future__ import annotations

import os
import time
from struct import Struct

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

LIMIT = 128 << 20
SUFFIX = ".blobs"
LOCK = ".lock"
# Bytes that may wait to be written.
DUE_LIMIT = 16 << 20
# Seconds that readers wait for whoever has something to write; less for one that was stopped than for ever.
PATIENCE = 10.0
DIGEST = 12
HEAD = Struct(f"<{DIGEST}sI")


def digest_of(content: bytes) -> str:
    """What a content is found by, in hex: of its SHA-256, for which processors have instructions, the first bytes."""
    from hashlib import sha256  # not at the start of an engine process

    return sha256(content).digest()[:DIGEST].hex()


class Blobs:
    """What this process keeps in a folder. Where that cannot be written, nothing is kept.

    With `later`, `write_due` writes it: until then readers in other processes wait. Not where files cannot be locked.
    """

    def __init__(self, folder: str, *, later: bool = False) -> None:
        self._folder = folder
        self._number = 0
        self._file = -1
        self._size = 0
        self._kept: set[str] = set()
        self._lock = self._make_lock() if later else -1
        self._due: list[tuple[str, bytes]] = []
        self._due_size = 0

    def keep(self, digest: str, content: bytes) -> None:
        """Append it, unless it is there."""
        if digest in self._kept:
            return
        if self._may_wait():
            self._kept.add(digest)
            self._due.append((digest, content))
            self._due_size += len(content)
        else:
            self._write(digest, content)

    def close(self) -> None:
        """Nothing is kept any more."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def write_due(self) -> None:
        """What `keep` was given and had no time for."""
        if not self._due:
            return
        for digest, content in self._due:
            self._write(digest, content)
        self._due, self._due_size = [], 0
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _make_lock(self) -> int:
        if fcntl is None:
            return -1
        try:
            return os.open(os.path.join(self._folder, f"{os.getpid()}{LOCK}"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:
            return -1

    def _may_wait(self) -> bool:
        """Whether readers know that there is something to wait for."""
        if self._lock < 0 or self._due_size > DUE_LIMIT:
            return False
        if not self._due:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # somebody reads, or this file system cannot lock
                return False
        return True

    def _write(self, digest: str, content: bytes) -> None:
        if not self._open():
            self._kept.discard(digest)
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


class Finder:
    """Finds what some process kept in a folder. Where it has looked once, it need not look again."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        # By digest the files that have it, with offset and length of the content.
        self._places: dict[bytes, list[tuple[str, int, int]]] = {}
        # How far each file is known.
        self._known: dict[str, int] = {}

    def find(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """Of the wanted digests those that are there, with their contents."""
        missing = {*wanted}
        found = self._read(missing)
        if len(found) < len(missing):
            self._look()
            found |= self._read(missing - found.keys())
        return found

    def _read(self, digests: Iterable[str]) -> dict[str, bytes]:
        found = {}
        for digest in digests:
            for name, offset, length in self._places.get(bytes.fromhex(digest), ()):
                try:
                    with open(os.path.join(self._folder, name), "rb") as file:
                        file.seek(offset)
                        content = file.read(length)
                except OSError:  # it has gone meanwhile
                    continue
                if digest_of(content) == digest:
                    found[digest] = content
                    break
        return found

    def _look(self) -> None:
        """At what has come since the last time."""
        try:
            for name in os.listdir(self._folder):
                if name.endswith(LOCK):
                    _wait_for(os.path.join(self._folder, name))
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(SUFFIX))
        except OSError:
            return
        for name in names:
            try:
                with open(os.path.join(self._folder, name), "rb") as file:
                    self._look_into(name, file)
            except OSError:
                continue

    def _look_into(self, name: str, file: BinaryIO) -> None:
        place = file.seek(self._known.get(name, 0))
        while len(head := file.read(HEAD.size)) == HEAD.size:
            digest, length = HEAD.unpack(head)
            place += HEAD.size
            self._places.setdefault(digest, []).append((name, place, length))  # of what is cut off, too
            place = self._known[name] = file.seek(place + length)


def _wait_for(lock: str) -> None:
    """Until nobody holds it who has something to write."""
    end = time.monotonic() + PATIENCE
    try:
        with open(lock, "rb") as file:
            while not _is_free(file.fileno()) and time.monotonic() < end:
                time.sleep(0.001)
    except OSError:  # it is gone, or this file system cannot lock: then nobody does
        return


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
