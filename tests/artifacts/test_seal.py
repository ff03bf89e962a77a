"""The key that seals: one per user, and nobody else's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_wasmer.artifacts import seal
from pytest_wasmer.artifacts.seal import present_key, seal_file, seal_key
from tests.artifacts.workbench import NOBODY, System, as_nobody, failing, folder_of_nobody, run_script

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "pytest-wasmer" / "seal.key"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_key_is_made_and_kept(file: Path) -> None:
    key = seal_key(file)
    assert len(key) == 32
    assert seal_key(file) == key == file.read_bytes()
    assert os.listdir(file.parent) == ["seal.key"]


def test_nobody_else_can_read_it(file: Path) -> None:
    before = os.umask(0)
    try:
        seal_key(file)
    finally:
        os.umask(before)
    assert mode(file) == 0o600
    assert mode(file.parent) == 0o700


def test_looking_for_it_makes_and_deletes_nothing(file: Path) -> None:
    assert present_key(file) == b""
    assert not file.parent.exists()
    key = seal_key(file)
    assert present_key(file) == key
    file.chmod(0o644)
    assert present_key(file) == b""
    assert file.read_bytes() == key


def test_a_folder_that_exists_stays_as_it_is(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.parent.chmod(0o750)
    seal_key(file)
    assert mode(file.parent) == 0o750


def test_two_users_have_two_keys(tmp_path: Path) -> None:
    assert seal_key(tmp_path / "a" / "seal.key") != seal_key(tmp_path / "b" / "seal.key")


def test_it_is_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And not in the cache: that is what CI systems copy around."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert seal_file() == tmp_path / "data" / "pytest-wasmer" / "seal.key"


def test_a_deleted_key_is_made_anew(file: Path) -> None:
    before = seal_key(file)
    file.unlink()
    assert seal_key(file) != before


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 31, b"x" * 33, b"x" * 5000])
def test_what_is_no_key_is_replaced(file: Path, content: bytes) -> None:
    seal_key(file)
    file.write_bytes(content)
    key = seal_key(file)
    assert len(key) == 32
    assert not key.startswith(b"x" * 31)
    assert seal_key(file) == key


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o666])
def test_a_key_that_others_could_use_is_replaced(file: Path, bits: int) -> None:
    before = seal_key(file)
    file.chmod(bits)
    assert seal_key(file) != before
    assert mode(file) == 0o600


@needs_root
def test_a_key_of_another_user_is_replaced(file: Path) -> None:
    before = seal_key(file)
    os.chown(file, NOBODY, NOBODY)
    assert seal_key(file) != before
    assert file.stat().st_uid == os.geteuid()


def test_a_key_that_never_becomes_ones_own_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "os", System(geteuid=lambda: os.geteuid() + 1))
    with pytest.raises(OSError, match=r"seal\.key cannot be made$"):
        seal_key(file)


def test_without_links_a_key_is_moved_to_its_place(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "os", System(link=failing(errno.EPERM)))
    key = seal_key(file)
    assert seal_key(file) == key
    assert os.listdir(file.parent) == ["seal.key"]


def test_a_key_that_cannot_be_written_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "os", System(fsync=failing(errno.ENOSPC)))
    with pytest.raises(OSError, match="No space"):
        seal_key(file)
    assert os.listdir(file.parent) == []


def test_a_directory_that_may_not_be_written_is_an_error() -> None:
    with folder_of_nobody() as folder, as_nobody(folder):
        folder.chmod(0o500)
        with pytest.raises(PermissionError):
            seal_key(folder / "seal.key")
        with pytest.raises(PermissionError):
            seal_key(folder / "more" / "seal.key")


def test_a_directory_that_may_not_be_written_is_read() -> None:
    with folder_of_nobody() as folder:
        key = seal_key(folder / "seal.key")
        with as_nobody(folder):
            folder.chmod(0o500)
            assert seal_key(folder / "seal.key") == key


def test_a_key_that_may_not_be_read_is_an_error() -> None:
    with folder_of_nobody() as folder:
        seal_key(folder / "seal.key")
        with as_nobody(folder):
            (folder / "seal.key").chmod(0)
            with pytest.raises(PermissionError):
                seal_key(folder / "seal.key")


def test_what_cannot_be_a_key_is_an_error(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        seal_key(file)
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        seal_key(Path(__file__) / "seal.key")


RACE = """
import os, sys
from pathlib import Path
from pytest_wasmer.artifacts.seal import seal_key

gate, starter = os.pipe()
for _ in range(20):
    if os.fork() == 0:
        os.close(starter)
        os.read(gate, 1)  # until all are there
        os.write(1, (seal_key(Path(sys.argv[1])).hex() + "\\n").encode())
        os._exit(0)
os.close(starter)
assert [os.wait()[1] for _ in range(20)] == [0] * 20
"""


def test_twenty_processes_make_one_key(file: Path) -> None:
    keys = run_script(RACE, file)
    assert keys == [file.read_bytes().hex()] * 20
    assert os.listdir(file.parent) == ["seal.key"]


def test_twenty_processes_replace_a_bad_key(file: Path) -> None:
    """Some may get one that lost: what they store is a miss later. None fails."""
    file.parent.mkdir(parents=True)
    file.write_bytes(b"short")
    keys = run_script(RACE, file)
    assert len(keys) == 20
    assert file.read_bytes().hex() in keys
    assert os.listdir(file.parent) == ["seal.key"]
