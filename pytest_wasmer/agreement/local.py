"""The local files of one session: what is too long for reports, and what only failures need.

    <folder>/journals/<process>-<test>.events    all events of one test on one backend, and at the end who they are of
                      past-...                   the same file, for as long as instances that it is the past of live
    <folder>/short/                              the same of tests of which all travels, many in a file: the last ones
    <folder>/modules/<identity>.wasm             modules that tests used
    <folder>/blobs/                              pages of memories and long data, see `runtime.blobs`

Made where reports arrive, and removed there at the end. A worker of xdist on another machine has none.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.events import decoded, encoded
from pytest_wasmer.runtime import blobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_wasmer.agreement.events import Event

# Bytes of one journal; longer tests are cut.
JOURNAL_LIMIT = 64 << 20
# What names of journals end with that are files.
EVENTS = "events"


class Told(NamedTuple):
    """A journal. `owners`: for each index in the events the number that this session has for it, and its pasts.

    `whole`: whether these are all events. `state` is what was left.
    """

    events: list[Event]
    owners: list[tuple[int, list[str]]]
    whole: bool
    variant: str
    state: list[Event]


class Local:
    """The files in one folder, which exists."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.blobs = os.path.join(folder, "blobs")
        self._journals = os.path.join(folder, "journals")
        self._short = os.path.join(folder, "short")
        self._modules = os.path.join(folder, "modules")
        self._known: set[str] = set()
        # What this process adds, once it does, and what looks for what any process did.
        self._blobs_kept: dict[str, blobs.Blobs] = {}
        self._finders = {kept: blobs.Finder(kept) for kept in (self.blobs, self._short)}

    @classmethod
    def make(cls) -> Local:
        """A new folder. Raises OSError."""
        local = cls(tempfile.mkdtemp(prefix="pytest-wasmer-"))
        for folder in (local.blobs, local._journals, local._short, local._modules):
            os.mkdir(folder)
        return local

    def remove(self) -> None:
        for kept in self._blobs_kept.values():
            kept.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, folder: str, digest: str, content: bytes) -> None:
        if folder not in self._blobs_kept:
            self._blobs_kept[folder] = blobs.Blobs(folder)
        self._blobs_kept[folder].keep(digest, content)

    # Modules

    def keep_module(self, identity: str, wasm: bytes) -> None:
        if identity in self._known:
            return
        self._known.add(identity)
        with suppress(OSError):
            descriptor, temporary = tempfile.mkstemp(dir=self._modules)
            with os.fdopen(descriptor, "wb") as file:
                file.write(wasm)
            os.replace(temporary, self._module(identity))

    def module(self, identity: str) -> bytes | None:
        try:
            return Path(self._module(identity)).read_bytes()
        except OSError:
            return None

    def _module(self, identity: str) -> str:
        return os.path.join(self._modules, f"{identity.replace(':', '-')}.wasm")

    # Long data

    def keep_data(self, digest: str, data: bytes) -> None:
        self._keep(self.blobs, digest, data)

    def data(self, digests: Iterable[str]) -> dict[str, bytes]:
        """Of these digests those whose contents are at hand."""
        return self._finders[self.blobs].find(digests)

    # Journals

    def journal(self, name: str) -> Journal:
        return Journal(os.path.join(self._journals, name))

    def short_journal(self, name: str, lines: Sequence[str], end: str) -> str:
        """One that is there at once, in no file of its own, which takes a tenth of the time; its whole name."""
        content = "\n".join([*lines, end]).encode()
        digest = blobs.digest_of(content)
        self._keep(self._short, digest, content)
        return f"{name}.{digest}"

    def told(self, name: str) -> Told | None:
        """What a journal says; None if it is not at hand."""
        try:
            *lines, end = self._text(name).splitlines()
            events = [event for line in lines for event in decoded(line)]
            ((_, variant, whole, owners), *state) = decoded(end)
        except (OSError, ValueError, LookupError):
            return None
        return Told(events, [(number, pasts) for number, pasts in owners], whole, variant, state)

    def _text(self, name: str) -> str:
        _, _, kind = name.partition(".")
        if kind == EVENTS:
            return Path(self._journals, name).read_text()
        return self._finders[self._short].find([kind])[kind].decode()

    def hold(self, name: str, held: str) -> bool:
        """Give a journal a second name, so that it outlives the first. False where that cannot be."""
        try:
            os.link(os.path.join(self._journals, name), os.path.join(self._journals, held))
        except OSError:
            return False
        return True

    def age(self, name: str) -> tuple[int, int]:
        """By which the journals of one process are sorted, oldest first, whatever they are called."""
        *_, process, number = name.partition(".")[0].split("-")
        return int(process), int(number)

    def discard(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(os.path.join(self._journals, name))


def journal_end(
    variant: str, *, whole: bool, owners: Sequence[tuple[int, Sequence[str]]], state: Sequence[Event]
) -> str:
    """The last line of a journal. Those before have some events each."""
    return encoded([("owners", variant, whole, owners), *state])


class Journal:
    """One that is being written. What cannot be written is left out, and `close` says so."""

    def __init__(self, path: str) -> None:
        self._size = 0
        self._file = -1
        with suppress(OSError):
            self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        self._whole = self._file >= 0

    def add(self, line: str) -> None:
        """Some events."""
        self._size += len(line)
        self._whole = self._whole and self._size <= JOURNAL_LIMIT
        if self._whole:
            self._write(line)

    def _write(self, line: str) -> None:
        data = memoryview(f"{line}\n".encode())
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            self._whole = False

    def close(self, variant: str, owners: Sequence[tuple[int, Sequence[str]]], state: Sequence[Event]) -> None:
        if self._file >= 0:
            self._write(journal_end(variant, whole=self._whole, owners=owners, state=state))
            os.close(self._file)
            self._file = -1
