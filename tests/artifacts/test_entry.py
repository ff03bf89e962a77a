"""Entries: what was written is read, and nothing else ever is."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.entry import Absent, Broken
from tests.artifacts.workbench import HEAD, PARTS, SEAL, System, as_nobody, failing, folder_of_nobody

if TYPE_CHECKING:
    from collections.abc import Callable

ARTIFACT = b"native code" * 20
DESCRIBED = b"imports and exports"
OTHER = PARTS._replace(compiler="slow").head()
LINES = len(HEAD) + entry.COMPILED_SIZE + entry.SEAL_SIZE

UNFIT = "its seal does not fit: damaged, or sealed with another key"
FOREIGN = "it is for something else than its name says"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Of an entry that does not exist; nor does its folder."""
    return str(tmp_path / "v1" / "abab" / "key.artifact")


@pytest.fixture
def stored(path: str) -> str:
    entry.write(path, HEAD, SEAL, ARTIFACT, 1.5, described=DESCRIBED)
    return path


def refusal(path: str, head: bytes = HEAD, seal: bytes = SEAL) -> str:
    """Why an entry is not to be used."""
    with pytest.raises(Broken) as broken:
        entry.read(path, head, seal)
    return str(broken.value)


def files(path: str) -> list[str]:
    """All that is in an entry's folder."""
    return sorted(os.listdir(os.path.dirname(path)))


# Whole entries


@pytest.mark.parametrize(
    "artifact", [b"", b"x", b"\0" * 70000, HEAD, os.urandom(3 << 20)], ids=["empty", "byte", "zeros", "head", "large"]
)
@pytest.mark.parametrize("seconds", [0.0, 0.000001, 12.345678, 9999999.999999])
@pytest.mark.parametrize("described", [b"", DESCRIBED, b"\0" * 70000], ids=["not", "described", "at length"])
def test_what_was_written_is_read(path: str, artifact: bytes, seconds: float, described: bytes) -> None:
    entry.write(path, HEAD, SEAL, artifact, seconds, described=described)
    assert entry.read(path, HEAD, SEAL) == (artifact, seconds, False, described)
    assert files(path) == ["key.artifact"]


def test_an_entry_is_readable(stored: str) -> None:
    lines = Path(stored).read_bytes()[:LINES].decode().splitlines()
    assert lines[:-2] == HEAD.decode().splitlines()
    assert lines[-2] == "compiled in 0000001.500000 s, alone, described in 00000019 bytes"
    assert lines[-1].startswith("seal ")
    assert len(lines[-1]) == 5 + 64


def test_the_seal_of_a_fixed_entry_never_changes(stored: str) -> None:
    seal = Path(stored).read_bytes()[:LINES].decode().splitlines()[-1]
    assert seal == "seal ff0d47a18792d9473fd911a011f91b6512194b59a0f88584a86a6479587517ab"


def test_nobody_else_can_read_an_entry(stored: str) -> None:
    assert os.stat(stored).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(stored)).st_mode & 0o777 == 0o700


def test_an_entry_replaces_another(stored: str) -> None:
    entry.write(stored, HEAD, SEAL, b"new", 2.0)
    assert entry.read(stored, HEAD, SEAL) == (b"new", 2.0, False, b"")
    assert files(stored) == ["key.artifact"]


def test_no_entry_is_absent(path: str) -> None:
    with pytest.raises(Absent):
        entry.read(path, HEAD, SEAL)
    os.makedirs(os.path.dirname(path))
    with pytest.raises(Absent):
        entry.read(path, HEAD, SEAL)


# Others' entries


@pytest.mark.parametrize("name", PARTS._fields)
def test_an_entry_for_other_parts_is_refused(stored: str, name: str) -> None:
    assert refusal(stored, PARTS._replace(**{name: "other"}).head()) == FOREIGN


@pytest.mark.parametrize("seal", [bytes(32), SEAL[:-1] + b"\xff", SEAL[::-1], b""], ids=["zeros", "byte", "back", "no"])
def test_an_entry_under_another_seal_is_refused(stored: str, seal: bytes) -> None:
    assert refusal(stored, seal=seal) == UNFIT


def test_an_entry_planted_by_another_user_is_refused(path: str) -> None:
    entry.write(path, HEAD, bytes(32), b"evil", 1.0)
    assert refusal(path) == UNFIT


def test_entries_that_swapped_names_are_refused(stored: str, path: str) -> None:
    other = path.replace("key", "other")
    entry.write(other, OTHER, SEAL, b"slow code", 1.0)
    os.rename(stored, path + ".away")
    os.rename(other, stored)
    os.rename(path + ".away", other)
    assert refusal(stored, HEAD) == FOREIGN
    assert refusal(other, OTHER) == FOREIGN


def test_the_artifact_of_another_entry_is_refused(stored: str, path: str) -> None:
    """Of the same length, from an entry that is good, too."""
    entry.write(path + "2", OTHER, SEAL, ARTIFACT[::-1], 1.5)
    Path(stored).write_bytes(Path(stored).read_bytes()[:LINES] + DESCRIBED + ARTIFACT[::-1])
    assert refusal(stored) == UNFIT


def test_the_seal_of_another_entry_is_refused(stored: str, path: str) -> None:
    entry.write(path + "2", OTHER, SEAL, ARTIFACT, 1.5)
    sealed = Path(path + "2").read_bytes()[len(OTHER) :]
    Path(stored).write_bytes(HEAD + sealed)
    assert refusal(stored) == UNFIT


# Damaged entries


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (0, FOREIGN),
        (1, FOREIGN),
        (len(HEAD) // 2, FOREIGN),
        (len(HEAD) - 1, FOREIGN),
        (len(HEAD), UNFIT),
        (len(HEAD) + 12, UNFIT),
        (len(HEAD) + entry.COMPILED_SIZE, UNFIT),
        (len(HEAD) + entry.COMPILED_SIZE + 20, UNFIT),
        (LINES - 1, UNFIT),
        (LINES, UNFIT),
        (LINES + 1, UNFIT),
        (LINES + len(ARTIFACT) // 2, UNFIT),
        (LINES + len(ARTIFACT) - 1, UNFIT),
    ],
    ids=[
        *("empty", "byte", "in-head", "before-head-ends", "head", "in-compiled", "compiled", "in-seal"),
        *("before-seal-ends", "lines", "one-byte", "half", "byte-less"),
    ],
)
def test_a_cut_off_entry_is_refused(stored: str, size: int, reason: str) -> None:
    os.truncate(stored, size)
    assert refusal(stored) == reason


def test_no_length_but_the_whole_is_taken(stored: str) -> None:
    for size in reversed(range(LINES + len(DESCRIBED + ARTIFACT))):
        os.truncate(stored, size)
        refusal(stored)


@pytest.mark.parametrize("more", [b"\0", b"\n", ARTIFACT, b"x" * (1 << 20)], ids=["zero", "newline", "twice", "much"])
def test_an_entry_with_more_behind_is_refused(stored: str, more: bytes) -> None:
    with open(stored, "ab") as file:
        file.write(more)
    assert refusal(stored) == UNFIT


@pytest.mark.parametrize("size", [1, 4096])
def test_an_entry_whose_end_is_zeros_is_refused(path: str, size: int) -> None:
    """As file systems leave it after a power cut."""
    entry.write(path, HEAD, SEAL, b"x" * 5000, 1.0)
    with open(path, "r+b") as file:
        file.seek(-size, os.SEEK_END)
        file.write(bytes(size))
    assert refusal(path) == UNFIT


@pytest.mark.parametrize("change", [0x01, 0x20, 0x80, 0xFF])
def test_no_changed_byte_is_taken(stored: str, change: int) -> None:
    content = Path(stored).read_bytes()
    with open(stored, "r+b", buffering=0) as file:
        for offset, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ change]), offset)
            assert refusal(stored) == (FOREIGN if offset < len(HEAD) else UNFIT)
            os.pwrite(file.fileno(), bytes([byte]), offset)
    assert entry.read(stored, HEAD, SEAL) == (ARTIFACT, 1.5, False, DESCRIBED)


def test_two_bytes_that_changed_places_are_refused(stored: str) -> None:
    content = bytearray(Path(stored).read_bytes())
    randomness = random.Random(5)
    with open(stored, "r+b", buffering=0) as file:
        for _ in range(300):
            first, second = randomness.randrange(len(content)), randomness.randrange(len(content))
            damaged = bytearray(content)
            damaged[first], damaged[second] = damaged[second], damaged[first]
            if damaged != content:
                os.pwrite(file.fileno(), damaged, 0)
                refusal(stored)


def test_bytes_that_move_across_the_seal_line_are_refused(path: str) -> None:
    """The MAC is over all of it as one, so its places have to be fixed."""
    entry.write(path, HEAD, SEAL, b"seal " + b"0" * 64 + b"\n" + ARTIFACT, 1.0)
    content = Path(path).read_bytes()
    seal = content[LINES - entry.SEAL_SIZE : LINES]
    moved = content[: LINES - entry.SEAL_SIZE] + content[LINES : LINES + entry.SEAL_SIZE] + seal
    Path(path).write_bytes(moved + content[LINES + entry.SEAL_SIZE :])
    assert refusal(path) == UNFIT


# What is no file of ours


def test_a_directory_in_its_place_is_refused(path: str) -> None:
    os.makedirs(path)
    assert refusal(path) == "it cannot be read: Is a directory"


def test_a_file_in_the_place_of_its_folder_is_refused(path: str) -> None:
    os.makedirs(os.path.dirname(os.path.dirname(path)))
    Path(path).parent.write_bytes(b"")
    assert refusal(path) == "it cannot be read: Not a directory"


def test_a_link_in_circles_is_refused(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    os.symlink(path, path)
    assert refusal(path).startswith("it cannot be read: ")


def test_a_file_that_may_not_be_read_is_refused() -> None:
    with folder_of_nobody() as folder:
        path = str(folder / "key.artifact")
        entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
        os.chmod(path, 0)
        with as_nobody(folder):
            assert refusal(path) == "it cannot be read: Permission denied"


class Slow:
    """A file of which each read returns little."""

    def __init__(self, path: str, mode: str, buffering: int) -> None:
        self._file = open(path, mode, buffering=buffering)  # noqa: SIM115 (closed by __exit__)
        self.fileno = self._file.fileno

    def read(self, size: int) -> Any:
        return self._file.read(min(size, LINES))

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()


def test_a_file_that_is_read_in_parts(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = os.urandom(20 * LINES + 7)
    entry.write(path, HEAD, SEAL, artifact, 1.0)
    monkeypatch.setattr(entry, "open", Slow, raising=False)
    assert entry.read(path, HEAD, SEAL) == (artifact, 1.0, False, b"")
    os.truncate(path, 20 * LINES)
    assert refusal(path) == UNFIT


def test_a_disk_that_cannot_be_read_is_refused(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "os", System(fstat=failing(errno.EIO)))
    assert refusal(stored) == "it cannot be read: Input/output error"


# Writes that fail


def full_after(size: int) -> Callable[[int, bytes], int]:
    """A disk that is full after so many bytes."""
    left = size

    def write(descriptor: int, content: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, content[:left])
        left -= written
        return written

    return write


def closing_badly(descriptor: int) -> None:
    """As a network file system that writes when a file is closed."""
    os.close(descriptor)
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


FAILURES: dict[str, tuple[Callable[[], System], int]] = {
    "full-at-once": (lambda: System(write=full_after(0)), errno.ENOSPC),
    "full-in-head": (lambda: System(write=full_after(10)), errno.ENOSPC),
    "full-in-artifact": (lambda: System(write=full_after(LINES + 10)), errno.ENOSPC),
    "full-at-fsync": (lambda: System(fsync=failing(errno.ENOSPC)), errno.ENOSPC),
    "broken-disk": (lambda: System(fsync=failing(errno.EIO)), errno.EIO),
    "quota-at-close": (lambda: System(close=closing_badly), errno.EDQUOT),
    "no-rename": (lambda: System(replace=failing(errno.EACCES)), errno.EACCES),
    "no-new-file": (lambda: System(open=failing(errno.EACCES)), errno.EACCES),
    "read-only": (lambda: System(open=failing(errno.EROFS)), errno.EROFS),
    "no-descriptors": (lambda: System(open=failing(errno.EMFILE)), errno.EMFILE),
    "no-folder": (lambda: System(makedirs=failing(errno.EACCES)), errno.EACCES),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("exists", [True, False], ids=["replaced", "new"])
def test_a_write_that_fails_leaves_what_was(
    path: str, monkeypatch: pytest.MonkeyPatch, name: str, exists: bool
) -> None:
    os.makedirs(os.path.dirname(path))
    if exists:
        entry.write(path, HEAD, SEAL, b"old", 1.0)
    before = files(path)
    system, number = FAILURES[name]
    with monkeypatch.context() as patch:
        patch.setattr(entry, "os", system())
        with pytest.raises(OSError, match=os.strerror(number)):
            entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
    assert files(path) == before
    if exists:
        assert entry.read(path, HEAD, SEAL) == (b"old", 1.0, False, b"")


def test_no_failed_write_leaves_an_open_file(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(entry, "os", System(fsync=failing(errno.ENOSPC)))
            with pytest.raises(OSError, match="No space"):
                entry.write(stored, HEAD, SEAL, ARTIFACT, 1.0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_interrupted_write_leaves_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "os", System(fsync=interrupt))
    with pytest.raises(KeyboardInterrupt):
        entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
    assert files(path) == []


def test_a_failure_is_told_also_where_the_temporary_file_stays(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "os", System(replace=failing(errno.EACCES), unlink=failing(errno.EIO)))
    with pytest.raises(PermissionError):
        entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
    (left,) = files(path)
    assert left.startswith(".")
    assert left.endswith(entry.TEMPORARY)


def test_a_file_that_grows_too_large(path: str) -> None:
    """A real failure in the middle of a write, unlike those above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            entry.write(path, HEAD, SEAL, bytes(200_000), 1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(path) == []


def test_a_directory_that_may_not_be_written() -> None:
    with folder_of_nobody() as folder:
        path = str(folder / "key.artifact")
        entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
        with as_nobody(folder):
            folder.chmod(0o500)
            with pytest.raises(PermissionError):
                entry.write(path, HEAD, SEAL, b"new", 1.0)
            entry.note_use(path)
            assert entry.read(path, HEAD, SEAL) == (ARTIFACT, 1.0, False, b"")
            assert files(path) == ["key.artifact"]


def test_a_directory_in_the_place_of_an_entry_stays(path: str) -> None:
    os.makedirs(path)
    with pytest.raises(IsADirectoryError):
        entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
    assert files(path) == ["key.artifact"]


def test_a_folder_that_is_gone_is_made_again(stored: str, path: str) -> None:
    shutil.rmtree(os.path.dirname(os.path.dirname(path)))
    entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
    assert entry.read(path, HEAD, SEAL) == (ARTIFACT, 1.0, False, b"")


def test_writes_that_take_little_at_a_time(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "os", System(write=lambda descriptor, content: os.write(descriptor, content[:7])))
    entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
    assert entry.read(path, HEAD, SEAL) == (ARTIFACT, 1.0, False, b"")


def test_no_writer_writes_into_the_file_of_another(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers may have the same process ids and the same clock."""
    monkeypatch.setattr("time.monotonic_ns", lambda: 7)

    def meanwhile(descriptor: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(entry, "os", os)
            with pytest.raises(FileExistsError):
                entry.write(stored, HEAD, SEAL, b"other", 2.0)

    with monkeypatch.context() as patch:
        patch.setattr(entry, "os", System(fsync=meanwhile))
        entry.write(stored, HEAD, SEAL, b"mine", 3.0)
    assert entry.read(stored, HEAD, SEAL) == (b"mine", 3.0, False, b"")
    assert files(stored) == ["key.artifact"]


def test_an_entry_is_on_the_disk_before_it_has_its_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    system = System(
        fsync=lambda descriptor: done.append(f"fsync {os.fstat(descriptor).st_size == LINES + len(ARTIFACT)}"),
        replace=lambda *names: done.append("replace"),
    )
    monkeypatch.setattr(entry, "os", system)
    entry.write(path, HEAD, SEAL, ARTIFACT, 1.0)
    assert done == ["fsync True", "replace"]


# Uses


def test_uses_are_counted(stored: str) -> None:
    assert files(stored) == ["key.artifact"]
    for number in (1, 2, 3):
        entry.note_use(stored)
        assert os.stat(entry.uses(stored)).st_size == number
    assert files(stored) == ["key.artifact", "key.uses"]


def test_uses_that_cannot_be_counted_do_no_harm(path: str) -> None:
    entry.note_use(path)
    os.makedirs(entry.uses(path))
    entry.note_use(path)
    assert files(path) == ["key.uses"]
