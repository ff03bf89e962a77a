"""The local files of a session: found again as they were, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.agreement import local as local_files
from pytest_wasmer.agreement.events import encoded
from pytest_wasmer.agreement.local import Local, Told, journal_end
from pytest_wasmer.runtime import blobs
from pytest_wasmer.runtime.blobs import Blobs, Finder, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.agreement.events import Event

EVENTS: list[Event] = [("new", 0, "d1", []), ("made",), ("call", 0, "f", "i32", 7), ("result", "i32", -1)]
STATE: Event = ("state", 0, "g", "global", "i32", "7")


@pytest.fixture
def local() -> Iterator[Local]:
    found = Local.make()
    yield found
    found.remove()
    assert not Path(found.folder).exists()


def written(local: Local, name: str = "1-1.events") -> str:
    journal = local.journal(name)
    journal.add('[["new",0,"d1",[]],["made"]]')
    journal.add('[["call",0,"f","i32",7],["result","i32",-1]]')
    journal.close("llvm", [(3, ["past-1-0.events"])], [STATE])
    return name


def test_a_journal_comes_back(local: Local) -> None:
    assert local.told(written(local)) == Told(EVENTS, [(3, ["past-1-0.events"])], True, "llvm", [STATE])
    local.discard("1-1.events")
    assert local.told("1-1.events") is None


def test_a_short_journal_comes_back(local: Local) -> None:
    end = journal_end("llvm", whole=True, owners=[(3, ["1-0.e5"])], state=[STATE])
    name = local.short_journal("1-1", [encoded(EVENTS)], end)
    assert Local(local.folder).told(name) == Told(EVENTS, [(3, ["1-0.e5"])], True, "llvm", [STATE])
    assert local.told(name[:-1]) is None
    assert local.told("1-1.") is None
    local.discard(name)  # of which others may be the past, and which costs nothing
    assert local.told(name) is not None


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nobody tells here which files are open")
def test_no_file_stays_open(local: Local) -> None:
    def is_open() -> bool:
        links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if os.path.islink(link)]
        return any(link.startswith(local.folder) for link in links)

    local.short_journal("1-1", [encoded(EVENTS)], "[]")
    local.keep_data(digest_of(ONE), ONE)
    assert is_open()
    local.remove()
    assert not is_open()


def test_a_journal_that_is_held_outlives_its_name(local: Local) -> None:
    assert local.hold(written(local), "past-1-1.events")
    local.discard("1-1.events")
    assert local.told("past-1-1.events") is not None
    assert not local.hold("1-1.events", "past-again")


@pytest.mark.parametrize("end", [b"", b"\n", b'[["made"]', b'[["owners","llvm",true]]', b"\xff"])
def test_a_journal_that_was_cut_is_none(local: Local, end: bytes) -> None:
    name = written(local)
    path = Path(local.folder, "journals", name)
    *lines, _ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + end)
    assert local.told(name) is None


def test_a_long_journal_says_that_it_is_not_whole(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files, "JOURNAL_LIMIT", 40)
    told = local.told(written(local))
    assert told is not None
    assert (told.events, told.whole) == (EVENTS[:2], False)


def test_where_nothing_can_be_written_there_is_no_journal(local: Local) -> None:
    (Path(local.folder) / "journals").rmdir()
    assert local.told(written(local)) is None


def test_modules_are_found_by_identity(local: Local) -> None:
    local.keep_module("wat:00ff", b"\0asm")
    local.keep_module("wat:00ff", b"something else")
    assert Local(local.folder).module("wat:00ff") == b"\0asm"
    assert local.module("wat:00fe") is None


# Blobs

ONE, TWO = b"one" * 1000, b"two" * 2000


def keep(folder: Path, *contents: bytes) -> None:
    kept = Blobs(str(folder))
    for content in contents:
        kept.keep(digest_of(content), content)


def test_contents_are_found_by_digest(tmp_path: Path) -> None:
    keep(tmp_path, ONE, TWO)
    assert Finder(str(tmp_path)).find([digest_of(ONE), digest_of(TWO), digest_of(b"")]) == {
        digest_of(ONE): ONE,
        digest_of(TWO): TWO,
    }


def test_who_has_looked_goes_on_from_there(tmp_path: Path) -> None:
    kept, finder = Blobs(str(tmp_path)), Finder(str(tmp_path))
    kept.keep(digest_of(ONE), ONE)
    assert finder.find([digest_of(ONE), digest_of(TWO)]) == {digest_of(ONE): ONE}
    (file,) = tmp_path.iterdir()
    with file.open("r+b") as begun:
        begun.write(b"\xff" * blobs.HEAD.size)
    kept.keep(digest_of(TWO), TWO)
    assert finder.find([digest_of(ONE), digest_of(TWO)]) == {digest_of(ONE): ONE, digest_of(TWO): TWO}


def test_what_is_being_written_is_found_later(tmp_path: Path) -> None:
    keep(tmp_path, ONE, TWO)
    (file,) = tmp_path.iterdir()
    whole, finder = file.read_bytes(), Finder(str(tmp_path))
    for end in (*range(0, len(whole), 997), len(whole)):
        file.write_bytes(whole[:end])
        found = finder.find([digest_of(ONE), digest_of(TWO)])
        assert (len(found), set(found.values()) <= {ONE, TWO}) == (
            (end >= len(ONE) + blobs.HEAD.size) + (end == len(whole)),
            True,
        )


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    kept = Blobs(str(tmp_path))
    for _ in range(3):
        kept.keep(digest_of(ONE), ONE)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == len(ONE) + blobs.HEAD.size


def test_the_oldest_goes_when_there_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "LIMIT", 10_000)
    kept, contents = Blobs(str(tmp_path)), [os.urandom(4_000) for _ in range(20)]
    for content in contents:
        kept.keep(digest_of(content), content)
    found = Finder(str(tmp_path)).find(map(digest_of, contents))
    assert set(found.values()) <= set(contents[-6:])
    assert set(contents[-3:]) <= set(found.values())
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 30_000


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damaged_contents_are_not_found(tmp_path: Path, damage: str) -> None:
    keep(tmp_path, TWO, ONE)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data if damage == "flip" else data[:-1])
    assert Finder(str(tmp_path)).find([digest_of(ONE), digest_of(TWO)]) == {digest_of(TWO): TWO}


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    keep(tmp_path / "missing", ONE)
    assert Finder(str(tmp_path / "missing")).find([digest_of(ONE)]) == {}
