"""Contents that are written after the answer that names them: readers wait, and nothing gets lost."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime import blobs
from pytest_wasmer.runtime.blobs import Blobs, Finder, digest_of
from tests.fake_engine import memory, module

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_wasmer.runtime.connection import Connection

needs_locks = pytest.mark.skipif(blobs.fcntl is None, reason="files cannot be locked here")
CONTENT = b"x" * 1000
DIGEST = digest_of(CONTENT)
PAGES = 128


@needs_locks
def test_readers_wait(tmp_path: Path) -> None:
    kept = Blobs(str(tmp_path), later=True)
    kept.keep(DIGEST, CONTENT)
    found: list[dict[str, bytes]] = []
    reader = threading.Thread(target=lambda: found.append(Finder(str(tmp_path)).find([DIGEST])))
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    assert not [*tmp_path.glob("*.blobs")]
    kept.write_due()
    reader.join()
    assert found == [{DIGEST: CONTENT}]


@needs_locks
def test_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer may have been stopped."""
    monkeypatch.setattr(blobs, "PATIENCE", 0.05)
    kept = Blobs(str(tmp_path), later=True)
    kept.keep(DIGEST, CONTENT)
    assert Finder(str(tmp_path)).find([DIGEST]) == {}


@needs_locks
def test_the_dead_hold_up_nobody(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pytest_wasmer.runtime.blobs import Blobs; "
        f"Blobs(sys.argv[1], later=True).keep({DIGEST!r}, {CONTENT!r}); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert [*tmp_path.glob("*.lock")]
    assert Finder(str(tmp_path)).find([DIGEST]) == {}


@needs_locks
def test_while_somebody_reads_it_is_written_at_once(tmp_path: Path) -> None:
    kept = Blobs(str(tmp_path), later=True)
    with open(next(tmp_path.glob("*.lock")), "rb") as read:
        blobs.fcntl.flock(read, blobs.fcntl.LOCK_SH)
        kept.keep(DIGEST, CONTENT)
    assert Finder(str(tmp_path)).find([DIGEST]) == {DIGEST: CONTENT}


def test_where_files_cannot_be_locked_it_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "fcntl", None)
    Blobs(str(tmp_path), later=True).keep(DIGEST, CONTENT)
    assert Finder(str(tmp_path)).find([DIGEST]) == {DIGEST: CONTENT}


@needs_locks
def test_more_than_may_wait_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "DUE_LIMIT", 1500)
    kept = Blobs(str(tmp_path), later=True)
    contents = [bytes([number]) * 1000 for number in range(4)]
    for content in contents:
        kept.keep(digest_of(content), content)
    (file,) = tmp_path.glob("*.blobs")
    assert [content in file.read_bytes() for content in contents] == [False, False, True, True]
    kept.write_due()
    assert {*Finder(str(tmp_path)).find(map(digest_of, contents)).values()} == {*contents}


@needs_locks
def test_each_is_written_once(tmp_path: Path) -> None:
    kept = Blobs(str(tmp_path), later=True)
    for _ in range(2):
        kept.keep(DIGEST, CONTENT)
        kept.keep(DIGEST, CONTENT)
        kept.write_due()
    (file,) = tmp_path.glob("*.blobs")
    assert file.read_bytes().count(CONTENT) == 1


@pytest.mark.parametrize("how", ["states", "released", "woken"])
def test_the_session_ends_when_all_is_written(fake: Connection, tmp_path: Path, how: str) -> None:
    """Nobody asks this engine process anything after the last test."""
    fake.watch(str(tmp_path))
    handle, _ = fake.compile(module(exports={"m": memory(PAGES, PAGES)}), "compile")
    instance = fake.instantiate(handle, [], "instantiation")
    content = random.Random(1).randbytes(PAGES << 16)
    fake.write(instance + 1, 0, content, "write")
    if how == "released":
        fake.releases.append(instance)
    fake.states([instance], "state")
    if how == "woken":  # for a test that then asks nothing
        fake.wake()
    fake.close()
    pages = [content[start : start + (1 << 16)] for start in range(0, len(content), 1 << 16)]
    assert {*Finder(str(tmp_path)).find(map(digest_of, pages)).values()} == {*pages}
