"""The directory of stored artifacts: where an entry is, who may write it, which ones go when it grows too large.

    <root>/CACHEDIR.TAG, .gitignore            in v1 where the root holds other things than the store
    <root>/v1/<module digest>/<key>.artifact     see `entry`
                              <key>.uses         a byte per use; its time is that of the last use
                              <key>.lock         held while somebody compiles for this key

Entries are read and written by engine processes. The rest is done here, in the test process.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.key import parts_from
from pytest_wasmer.artifacts.seal import present_key, seal_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pytest_wasmer.artifacts.key import Parts

VERSION = "v1"
CLEARED = f"{VERSION}.deleted-"
ARTIFACT = ".artifact"
LOCK = ".lock"
# Seconds within which whatever was used or written may be in use by another session.
GRACE = 3600.0
LOCK_POLL = 0.05
# So that backups and version control pass over what is here.
MARKS = {
    "CACHEDIR.TAG": (
        "Signature: 8a477f597d28d172789f06886806bc55\n# Artifacts of pytest-wasmer: https://bford.info/cachedir/\n"
    ),
    ".gitignore": "*\n",
}


class Unusable(Exception):
    """Why a directory is not used."""


class Place(NamedTuple):
    """Where an artifact is or would be, what its first lines are, and whose seal it bears."""

    path: str
    head: bytes
    seal: bytes


class Entry(NamedTuple):
    """A stored artifact: `size` in bytes of the file, `made` and `used` in seconds since the epoch."""

    path: Path
    size: int
    made: float
    used: float
    hits: int

    @property
    def parts(self) -> Parts | None:
        """What it says of itself; None if it cannot be read."""
        try:
            with self.path.open("rb") as file:
                return parts_from(file.read(1 << 14))
        except OSError:
            return None


class Store:
    """One directory of artifacts. `open_store` says which directories are usable."""

    def __init__(self, root: Path, seal: bytes) -> None:
        self.root = root
        self._seal = seal
        self._top = root / VERSION
        self._place = str(self._top)

    def place(self, parts: Parts) -> Place:
        return self.place_of(parts.module, parts.key(), parts.head())

    def place_of(self, module: str, key: str, head: bytes) -> Place:
        return Place(os.path.join(self._place, module[:16], f"{key}{ARTIFACT}"), head, self._seal)

    @contextmanager
    def lock(self, place: Place) -> Iterator[None]:
        """One process at a time per key, as long as the file system can lock; a dead holder holds nothing."""
        from filelock import FileLock

        path = Path(place.path).with_suffix(LOCK)
        lock = None
        # filelock warns where it takes a weaker lock, and warnings may be errors.
        with suppress(OSError, NotImplementedError, UserWarning):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(path, mode=0o600)
            lock.acquire(poll_interval=LOCK_POLL)
        try:
            yield
        finally:
            if lock is not None:
                with suppress(OSError):
                    lock.release()

    def entries(self) -> list[Entry]:
        """All of them, least recently used first."""
        found = [self._entry(path) for path in self._files(ARTIFACT)]
        return sorted([item for item in found if item is not None], key=lambda item: (item.used, item.path))

    def of_module(self, digest: str) -> list[Entry]:
        """Those of one module, by its SHA-256."""
        found = [self._entry(path) for path in sorted((self._top / digest[:16]).glob(f"*{ARTIFACT}"))]
        return [item for item in found if item is not None and item.parts is not None and item.parts.module == digest]

    def _files(self, *suffixes: str) -> Iterator[Path]:
        with suppress(OSError):
            for folder in os.scandir(self._top):
                with suppress(OSError):
                    for file in os.scandir(folder):
                        if file.name.endswith(suffixes):
                            yield Path(file.path)

    def _entry(self, path: Path) -> Entry | None:
        try:
            status = path.stat()
        except OSError:
            return None
        used, hits = status.st_mtime, 0
        with suppress(OSError):
            uses = os.stat(entry.uses(str(path)))
            used, hits = max(used, uses.st_mtime), uses.st_size
        return Entry(path, status.st_size, status.st_mtime, used, hits)

    def prunable(
        self, max_size: float, max_age: float, in_use: Collection[str] = (), grace: float = GRACE
    ) -> list[Entry]:
        """What would have to go for at most `max_size` bytes, and what was not used for `max_age` seconds.

        Least recently used first. Never what may be in use: the paths `in_use`, and what was used less than `grace`
        seconds ago.
        """
        now = time.time()
        entries = self.entries()
        # A time in the future is a wrong clock's, and says nothing.
        age = {item.path: now - item.used if item.used <= now + GRACE else float("inf") for item in entries}
        excess = sum(item.size for item in entries) - max_size
        found = []
        for item in sorted(entries, key=lambda item: -age[item.path]):
            if str(item.path) in in_use or age[item.path] < grace:
                continue
            if age[item.path] > max_age or excess > 0:
                found.append(item)
                excess -= item.size
        return found

    def remove(self, entries: Collection[Entry]) -> list[Entry]:
        """Delete these, and what interrupted writers left. Those that are gone."""
        gone = [item for item in entries if _is_deleted(item.path)]
        for item in gone:
            for path in (Path(entry.uses(str(item.path))), item.path.with_suffix(LOCK)):
                _is_deleted(path)
        long_ago = time.time() - GRACE
        for path in list(self._files(entry.TEMPORARY)):
            with suppress(OSError):
                if path.stat().st_mtime < long_ago:
                    path.unlink()
        for folder in {item.path.parent for item in gone}:
            with suppress(OSError):  # not empty
                folder.rmdir()
        return gone

    def discard(self, place: Place) -> None:
        """Delete one entry."""
        entry.discard(place.path)

    def note_use(self, paths: Collection[str]) -> None:
        """These entries are in use now: nobody evicts them within `GRACE` seconds."""
        for path in paths:
            with suppress(OSError):
                if os.path.exists(path):
                    Path(entry.uses(path)).touch()

    def clear(self) -> None:
        """Delete all. Raises OSError where that fails."""
        # Away first: sessions that run write on, and would fill what is being emptied.
        away = self.root / f"{CLEARED}{os.getpid()}-{time.monotonic_ns()}"
        with suppress(FileNotFoundError):
            self._top.rename(away)
        for folder in self.root.glob(f"{CLEARED}*"):
            shutil.rmtree(folder, ignore_errors=folder != away)


def _is_deleted(path: Path) -> bool:
    """Delete a file, if that is allowed. Whether it is gone."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        return True
    return False


def open_store(root: Path, seal_file: Path) -> Store:
    """The store in a directory, which is made if it does not exist. Raises `Unusable`."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(root)
        # Somebody's own directory is not to vanish from version control.
        marked = root if {VERSION, *MARKS}.issuperset(os.listdir(root)) else root / VERSION
        (root / VERSION).mkdir(mode=0o700, exist_ok=True)
        _check(root / VERSION)
    except OSError as error:
        raise Unusable(f"{error.filename or root}: {error.strerror}") from None
    for name, text in MARKS.items():
        with suppress(OSError):  # read-only: good for reading
            if not (marked / name).exists():
                (marked / name).write_text(text)
    return _sealed(root, seal_file, seal_key)


def look_into(root: Path, seal_file: Path) -> Store:
    """The store in a directory as it is, of which nothing is made where there is none. Raises `Unusable`."""
    for folder in (root, root / VERSION):
        if os.path.lexists(folder):
            _check(folder)
            if not folder.is_dir():
                raise Unusable(f"{folder} is no directory")
    return _sealed(root, seal_file, present_key)


def _sealed(root: Path, seal_file: Path, key: Callable[[Path], bytes]) -> Store:
    try:
        return Store(root, key(seal_file))
    except OSError as error:
        raise Unusable(f"the seal key {seal_file}: {error.strerror or error}") from None


def _check(folder: Path) -> None:
    """Raise `Unusable` where somebody else could put entries, or send them elsewhere."""
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise Unusable(f"{folder} is a symbolic link; name what it points to: {folder.resolve()}")
    if sys.platform == "win32":  # access lists, which mode bits do not show
        return
    if status.st_uid != os.geteuid():
        raise Unusable(f"{folder} belongs to another user (uid {status.st_uid})")
    if status.st_mode & stat.S_IWOTH:
        raise Unusable(f"{folder} can be written by everybody: chmod o-w {folder}")


class Shelf:
    """The entries of one backend in a store. `refreshed` is when this run began, if it is not to use older entries."""

    def __init__(self, store: Store, parts: Parts, refreshed: float | None = None) -> None:
        self.store = store
        self._of_module = parts.of_modules()
        self._refreshed = refreshed
        #: Paths of the entries that this process used.
        self.used: set[str] = set()

    def place(self, digest: str) -> Place:
        return self.store.place_of(digest, *self._of_module(digest))

    def is_wanted(self, place: Place) -> bool:
        """Whether there is an entry, made in this run if older ones are not to be used."""
        try:
            made = os.stat(place.path).st_mtime
        except OSError:
            return False
        return self._refreshed is None or made >= self._refreshed
