"""The directory of stored artifacts: which ones are usable, what is in it, what goes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from pytest_wasmer.artifacts import entry, store
from pytest_wasmer.artifacts.key import parts_from
from pytest_wasmer.artifacts.seal import seal_key
from pytest_wasmer.artifacts.store import CLEARED, GRACE, Shelf, Store, Unusable, look_into, open_store
from tests.artifacts.workbench import (
    NOBODY,
    PARTS,
    SEAL,
    System,
    as_nobody,
    failing,
    folder_of_nobody,
    run_script,
    start_script,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.artifacts.key import Parts
    from pytest_wasmer.artifacts.store import Entry, Place

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "artifacts"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "data" / "seal.key"


@pytest.fixture
def made(root: Path, key: Path) -> Store:
    return open_store(root, key)


def put(where: Store, module: str = "m", compiler: str = "fast", *, size: int = 0, age: float = 0.0) -> Place:
    """An entry of that many bytes (at least what the lines take), last used so long ago."""
    parts = PARTS._replace(module=hashlib.sha256(module.encode()).hexdigest(), compiler=compiler)
    place = where.place(parts)
    lines = len(place.head) + entry.COMPILED_SIZE + entry.SEAL_SIZE
    entry.write(place.path, place.head, place.seal, b"x" * max(0, size - lines), 1.0)
    set_age(place.path, age)
    return place


def set_age(path: str, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(path, (when, when))


def use(place: Place, age: float = 0.0) -> None:
    entry.note_use(place.path)
    set_age(entry.uses(place.path), age)


def paths(entries: list[Entry]) -> list[str]:
    return [str(item.path) for item in entries]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def reason(root: Path, key: Path) -> str:
    with pytest.raises(Unusable) as unusable:
        open_store(root, key)
    return str(unusable.value)


# Opening


def test_a_store_is_made(root: Path, key: Path) -> None:
    before = os.umask(0)
    try:
        made = open_store(root, key)
    finally:
        os.umask(before)
    assert sorted(os.listdir(root)) == [".gitignore", "CACHEDIR.TAG", "v1"]
    assert mode(root) == mode(root / "v1") == 0o700
    assert (root / ".gitignore").read_text() == "*\n"
    # https://bford.info/cachedir/: the first 43 bytes.
    assert (root / "CACHEDIR.TAG").read_bytes()[:43] == b"Signature: 8a477f597d28d172789f06886806bc55"
    assert made.entries() == []
    assert made.place(PARTS).seal == seal_key(key)
    assert key.parent not in (root, *root.parents)


def test_a_store_is_opened_again(made: Store, root: Path, key: Path) -> None:
    (root / ".gitignore").write_text("mine")
    assert open_store(root, key).place(PARTS) == made.place(PARTS)
    assert (root / ".gitignore").read_text() == "mine"


def test_where_an_entry_is(made: Store, root: Path) -> None:
    place = made.place(PARTS)
    assert place.path == str(root / "v1" / "abababababababab" / f"{PARTS.key()}.artifact")
    assert place.head == PARTS.head()


def test_an_existing_directory_is_taken(root: Path, key: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o755)
    (root / "theirs").write_text("")
    for _ in range(2):
        open_store(root, key)
        assert mode(root) == 0o755
        assert sorted(os.listdir(root)) == ["theirs", "v1"], "version control would no longer see theirs"
        assert sorted(os.listdir(root / "v1")) == [".gitignore", "CACHEDIR.TAG"]


def test_an_empty_directory_is_taken_whole(root: Path, key: Path) -> None:
    root.mkdir(parents=True)
    for _ in range(2):
        open_store(root, key)
        assert sorted(os.listdir(root)) == [".gitignore", "CACHEDIR.TAG", "v1"]
        assert os.listdir(root / "v1") == []
        (root / "CACHEDIR.TAG").unlink()


def test_marks_beside_entries_are_no_entries(root: Path, key: Path) -> None:
    root.mkdir(parents=True)
    (root / "theirs").write_text("")
    made = open_store(root, key)
    place = put(made)
    assert paths(made.entries()) == [place.path]
    made.clear()
    assert os.listdir(root) == ["theirs"]


def test_looking_makes_nothing(root: Path, key: Path, tmp_path: Path) -> None:
    seen = look_into(root, key)
    assert seen.entries() == []
    with pytest.raises(entry.Absent):
        entry.read(*seen.place(PARTS))
    assert list(tmp_path.iterdir()) == []
    place = put(open_store(root, key))
    assert paths(look_into(root, key).entries()) == [place.path]
    assert entry.read(*look_into(root, key).place(parts_of(place)))[1] == 1.0


def test_looking_does_not_take_a_file(root: Path, key: Path) -> None:
    root.parent.mkdir(parents=True)
    root.write_text("")
    with pytest.raises(Unusable, match=f"{root} is no directory"):
        look_into(root, key)


def parts_of(place: Place) -> Parts:
    parts = parts_from(place.head)
    assert parts is not None
    return parts


@pytest.mark.parametrize("which", ["", "v1"], ids=["root", "v1"])
class TestRefused:
    def test_a_link(self, root: Path, key: Path, which: str, tmp_path: Path) -> None:
        target = tmp_path / "elsewhere"
        target.mkdir()
        root.parent.mkdir()
        if which:
            root.mkdir()
        (root / which).symlink_to(target)
        assert reason(root, key) == f"{root / which} is a symbolic link; name what it points to: {target}"
        assert list(target.iterdir()) == []

    def test_a_link_to_nothing(self, root: Path, key: Path, which: str) -> None:
        (root / which).parent.mkdir(parents=True)
        (root / which).symlink_to("nothing")
        assert reason(root, key) == f"{root / which}: File exists"

    def test_a_file(self, root: Path, key: Path, which: str) -> None:
        (root / which).parent.mkdir(parents=True)
        (root / which).write_text("")
        assert reason(root, key) == f"{root / which}: File exists"

    def test_a_directory_that_everybody_writes_to(self, root: Path, key: Path, which: str) -> None:
        open_store(root, key)
        (root / which).chmod(0o777)
        assert reason(root, key) == f"{root / which} can be written by everybody: chmod o-w {root / which}"
        (root / which).chmod(0o1777)
        assert reason(root, key).startswith(f"{root / which} can be written by everybody")
        (root / which).chmod(0o755)
        open_store(root, key)

    @needs_root
    def test_a_directory_of_another_user(self, root: Path, key: Path, which: str) -> None:
        open_store(root, key)
        os.chown(root / which, NOBODY, NOBODY)
        assert reason(root, key) == f"{root / which} belongs to another user (uid {NOBODY})"

    def test_a_directory_that_may_not_be_written(self, key: Path, which: str) -> None:
        with folder_of_nobody() as folder:
            seal = folder / "seal.key"
            root = folder / "artifacts"
            root.mkdir()
            seal_key(seal)
            with as_nobody(folder):
                (root if which else folder).chmod(0o500)
                missing = root / "v1" if which else folder / "more"
                assert reason(root if which else missing / "artifacts", seal) == f"{missing}: Permission denied"


def test_a_directory_of_another_user_is_refused_before_anything_is_written(
    root: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "os", System(geteuid=lambda: os.geteuid() + 1))
    assert reason(root, key) == f"{root} belongs to another user (uid {os.geteuid()})"
    assert list(root.iterdir()) == []


def test_without_a_seal_key_there_is_no_store(root: Path, key: Path) -> None:
    key.mkdir(parents=True)
    assert reason(root, key) == f"the seal key {key}: Is a directory"


def test_a_seal_key_that_cannot_be_made_says_so(root: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_wasmer.artifacts.seal.os", System(geteuid=lambda: os.geteuid() + 1, unlink=os.unlink))
    assert reason(root, key) == f"the seal key {key}: {key} cannot be made"


def test_a_directory_that_may_not_be_written_is_read() -> None:
    """A cache that CI mounts read-only, say."""
    with folder_of_nobody() as folder:
        root, key = folder / "artifacts", folder / "seal.key"
        made = open_store(root, key)
        place = put(made)
        (root / "CACHEDIR.TAG").unlink()
        with as_nobody(folder):
            for path in (*root.rglob("*"), root):
                path.chmod(0o500 if path.is_dir() else 0o400)
            again = open_store(root, key)
            assert entry.read(*place)[1] == 1.0
            entry.note_use(place.path)
            with again.lock(place):
                pass
            (found,) = again.entries()
            assert found.hits == 0
            assert again.remove([found]) == []
            again.discard(place)
            assert again.entries() == [found]
            with pytest.raises(PermissionError):
                again.clear()
            for path in (root, root / "v1", root / "v1" / found.path.parent.name):
                path.chmod(0o700)


# What is in it


def test_an_entry_says_what_it_is(made: Store) -> None:
    place = put(made, "m", size=2000, age=DAY)
    use(place, age=HOUR)
    use(place, age=HOUR)
    (found,) = made.entries()
    assert str(found.path) == place.path
    assert found.parts is not None
    assert found.parts.head() == place.head
    assert (found.size, found.hits) == (2000, 2)
    assert found.made == pytest.approx(time.time() - DAY, abs=30)
    assert found.used == pytest.approx(time.time() - HOUR, abs=30)


def test_an_entry_that_was_replaced_since_its_last_use(made: Store) -> None:
    place = put(made, "m", age=HOUR)
    use(place, age=DAY)
    (found,) = made.entries()
    assert found.used == found.made


def test_entries_come_least_recently_used_first(made: Store) -> None:
    ages = {"a": 3 * HOUR, "b": 9 * HOUR, "c": 1 * HOUR, "d": 5 * HOUR}
    places = {name: put(made, name, age=age) for name, age in ages.items()}
    use(places["b"], age=0.0)
    assert paths(made.entries()) == [places[name].path for name in "dacb"]


def test_entries_of_one_module(made: Store) -> None:
    first, second = put(made, "m", "fast"), put(made, "m", "slow")
    put(made, "other")
    digest = hashlib.sha256(b"m").hexdigest()
    found = made.of_module(digest)
    assert paths(found) == sorted([first.path, second.path])
    assert {item.parts.compiler for item in found if item.parts} == {"fast", "slow"}
    assert made.of_module("0" * 64) == []
    # Another digest that begins the same has the same folder.
    assert made.of_module(digest[:16] + "0" * 48) == []


def test_what_is_damaged_is_listed_without_parts(made: Store) -> None:
    """So that it is counted, and goes some day."""
    place = put(made, age=HOUR)
    folder = Path(place.path).parent
    for name, content in {
        "garbage.artifact": b"\0" * 100,
        "empty.artifact": b"",
        "deep.artifact": place.head.replace(b'"fast"', b"[" * 9000),
    }.items():
        (folder / name).write_bytes(content)
        set_age(str(folder / name), 2 * HOUR)
    assert [item.parts is None for item in made.entries()] == [True, True, True, False]
    assert paths(made.of_module(hashlib.sha256(b"m").hexdigest())) == [place.path]
    made.remove(made.prunable(0, 0))
    assert not folder.exists()


def test_what_is_no_entry_is_not_listed(made: Store, root: Path) -> None:
    place = put(made)
    folder = Path(place.path).parent
    use(place)
    with made.lock(place):
        for name in (".half-1-2.tmp", "other.txt"):
            (folder / name).write_bytes(place.head)
        (folder / "circle.artifact").symlink_to("circle.artifact")
        (root / "v1" / "file").write_bytes(b"")
        (root / "v1" / "empty").mkdir()
        assert paths(made.entries()) == [place.path]


def test_a_store_that_is_gone_is_empty(made: Store, root: Path) -> None:
    place = put(made)
    shutil.rmtree(root)
    assert made.entries() == made.of_module("ab" * 32) == made.prunable(0, 0) == []
    made.discard(place)
    made.remove([])
    made.clear()
    put(made)
    assert paths(made.entries()) == [place.path]


# What goes


@pytest.fixture
def five(made: Store) -> dict[str, Place]:
    """Of 10,000 bytes each; a was used 5 days ago, e one day ago."""
    return {name: put(made, name, size=10_000, age=(5 - number) * DAY) for number, name in enumerate("abcde")}


@pytest.mark.parametrize(
    ("max_size", "max_age", "gone"),
    [
        (50_000, 6 * DAY, ""),
        (49_999, 6 * DAY, "a"),
        (40_000, 6 * DAY, "a"),
        (39_999, 6 * DAY, "ab"),
        (0, 6 * DAY, "abcde"),
        (1 << 40, 3.5 * DAY, "ab"),
        (1 << 40, 0.0, "abcde"),
        (25_000, 4.5 * DAY, "abc"),
        (1 << 40, float("inf"), ""),
    ],
)
def test_what_is_too_much_or_too_old(
    made: Store, five: dict[str, Place], max_size: int, max_age: float, gone: str
) -> None:
    assert paths(made.prunable(max_size, max_age)) == [five[name].path for name in gone]


def test_use_keeps_an_entry(made: Store, five: dict[str, Place]) -> None:
    use(five["a"], age=2 * HOUR)
    assert paths(made.prunable(30_000, 6 * DAY)) == [five[name].path for name in "bc"]


def test_what_is_in_use_stays(made: Store, five: dict[str, Place]) -> None:
    """Also where others have to go for it."""
    in_use = {five["a"].path, five["c"].path}
    assert paths(made.prunable(30_000, 6 * DAY, in_use)) == [five[name].path for name in "bd"]
    assert paths(made.prunable(0, 0, in_use)) == [five[name].path for name in "bde"]


def test_what_was_just_used_stays(made: Store, five: dict[str, Place]) -> None:
    """By another session, say, that goes on."""
    use(five["a"])
    set_age(five["b"].path, GRACE - 60)
    assert paths(made.prunable(0, 0)) == [five[name].path for name in "cde"]
    assert paths(made.prunable(0, 0, grace=0)) == [five[name].path for name in "cdeba"]
    assert paths(made.prunable(0, 0, grace=GRACE - 120)) == [five[name].path for name in "cdeb"]


def test_times_of_a_wrong_clock_say_nothing(made: Store, five: dict[str, Place]) -> None:
    """What seems to be used in the future goes first, and not never."""
    set_age(five["d"].path, -400 * DAY)
    assert paths(made.prunable(40_000, 6 * DAY)) == [five["d"].path]
    assert paths(made.prunable(50_000, 6 * DAY)) == [five["d"].path]
    assert made.prunable(50_000, 6 * DAY, {five["d"].path}) == []


def test_a_clock_that_is_a_little_ahead_is_now(made: Store, five: dict[str, Place]) -> None:
    set_age(five["d"].path, -GRACE / 2)
    assert paths(made.prunable(0, 0)) == [five[name].path for name in "abce"]


def test_removed_entries_are_gone_with_all_that_belongs_to_them(made: Store, five: dict[str, Place]) -> None:
    for place in five.values():
        use(place)
        Path(place.path).with_suffix(".lock").touch()  # some versions of filelock leave it, others do not
    folder = Path(five["a"].path).parent
    assert len(list(folder.iterdir())) == 3
    gone, *kept = [item for name in "abcde" for item in made.entries() if str(item.path) == five[name].path]
    assert made.remove([gone]) == [gone]
    assert not folder.exists()
    assert {*paths(made.entries())} == {*paths(kept)}
    assert len(list(Path(five["b"].path).parent.iterdir())) == 3


def test_a_folder_with_another_entry_stays(made: Store) -> None:
    first, second = put(made, "m", "fast"), put(made, "m", "slow")
    made.remove([item for item in made.entries() if str(item.path) == first.path])
    assert [path.name for path in Path(second.path).parent.iterdir()] == [Path(second.path).name]


def test_old_temporary_files_go(made: Store) -> None:
    """Those of writers that were killed; a young one may yet be renamed."""
    folder = Path(put(made).path).parent
    old, young = folder / ".abc-1-2.tmp", folder / ".abc-3-4.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    set_age(str(old), GRACE + 60)
    set_age(str(young), GRACE - 60)
    made.remove([])
    assert not old.exists()
    assert young.exists()
    assert len(made.entries()) == 1


def test_what_is_gone_already_is_no_trouble(made: Store, five: dict[str, Place]) -> None:
    entries = made.entries()
    shutil.rmtree(Path(five["a"].path).parent)
    assert made.remove(entries) == entries
    assert made.entries() == []


def test_discarded_is_one_entry(made: Store, five: dict[str, Place]) -> None:
    use(five["a"])
    made.discard(five["a"])
    made.discard(five["a"])
    assert paths(made.entries()) == [five[name].path for name in "bcde"]


def test_cleared_is_all_but_the_directory(made: Store, five: dict[str, Place], root: Path) -> None:
    (root / "theirs").write_text("")
    made.clear()
    made.clear()
    assert sorted(os.listdir(root)) == [".gitignore", "CACHEDIR.TAG", "theirs"]
    assert made.entries() == []


def test_a_store_is_cleared_while_others_write(made: Store, root: Path) -> None:
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            with suppress(OSError):
                put(made, str(number))
            number += 1

    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            threads.submit(write)
        try:
            for _ in range(100):
                made.clear()
        finally:
            over.set()
    assert not list(root.glob(f"{CLEARED}*"))


def test_what_an_interrupted_clearing_left_goes_with_the_next(made: Store, root: Path) -> None:
    (root / f"{CLEARED}1-2").mkdir()
    made.clear()
    assert not list(root.glob(f"{CLEARED}*"))


def test_what_is_in_use_is_noted(made: Store, five: dict[str, Place]) -> None:
    use(five["b"], age=DAY)
    shutil.rmtree(Path(five["c"].path).parent)
    made.note_use([five[name].path for name in "abc"])
    assert paths(made.prunable(0, 0)) == [five[name].path for name in "de"]
    assert {item.path: item.hits for item in made.entries()}[Path(five["a"].path)] == 0, "noted, not counted"


def test_ten_thousand_entries(made: Store, root: Path) -> None:
    lines = PARTS.head()
    for number in range(2500):
        folder = root / "v1" / f"{number:016x}"
        folder.mkdir()
        for more in range(4):
            descriptor = os.open(f"{folder}/{more}.artifact", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, lines)
            os.utime(descriptor, (DAY * more, DAY * more + number))
            os.close(descriptor)
    began = time.process_time()
    assert len(made.entries()) == 10_000
    listed = time.process_time() - began
    gone = made.prunable(9_000 * len(lines), float("inf"))
    pruned = time.process_time() - began - listed
    assert paths(gone) == [str(root / "v1" / f"{number:016x}" / "0.artifact") for number in range(1000)]
    assert max(listed, pruned) < 2  # 0.2 s on an idle machine
    made.remove(gone)
    assert len(list((root / "v1").rglob("*.artifact"))) == 9_000


# Locks

HOLD = """
import sys
from pathlib import Path
from pytest_wasmer.artifacts.store import Place, Store

with Store(Path(sys.argv[1]), b"").lock(Place(sys.argv[2], b"", b"")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """Scripts that are ended after the test."""
    with ExitStack() as stack:
        yield stack


def holder(made: Store, place: Place, processes: ExitStack) -> int:
    """The id of another process that holds a lock until it is killed."""
    process = processes.enter_context(start_script(HOLD, made.root, place.path))
    processes.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process.pid


ATTEMPT = """
import sys
from pathlib import Path
from filelock import FileLock, Timeout

try:
    FileLock(sys.argv[1]).acquire(timeout=0)
    print("free")
except Timeout:
    print("locked")
"""


def is_locked(place: Place) -> bool:
    return run_script(ATTEMPT, Path(place.path).with_suffix(".lock")) == ["locked"]


def test_a_lock_keeps_others_out_as_long_as_it_is_held(made: Store) -> None:
    place = made.place(PARTS)
    with made.lock(place):
        assert is_locked(place)
        assert mode(Path(place.path).with_suffix(".lock")) == 0o600
        with made.lock(made.place(PARTS._replace(compiler="slow"))):
            pass
    assert not is_locked(place)
    with pytest.raises(ZeroDivisionError), made.lock(place):
        raise ZeroDivisionError
    assert not is_locked(place)


def test_a_killed_holder_blocks_nobody(made: Store, processes: ExitStack) -> None:
    place = made.place(PARTS)
    pid = holder(made, place, processes)
    assert is_locked(place)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with made.lock(place):
        assert is_locked(place)


@pytest.mark.parametrize(
    "number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ENOSYS], ids=["nolck", "notsup", "io", "nosys"]
)
@pytest.mark.parametrize("warn", ["error", "ignore"])
def test_a_file_system_that_cannot_lock(
    made: Store, monkeypatch: pytest.MonkeyPatch, number: int, warn: Literal["error", "ignore"]
) -> None:
    entered = []
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter(warn)
        patch.setattr("fcntl.flock", failing(number))
        for _ in range(2):
            with made.lock(made.place(PARTS)):
                entered.append(number)
    assert entered == [number] * 2
    with made.lock(made.place(PARTS)):
        pass


@pytest.mark.parametrize("error", [OSError("no"), NotImplementedError("no")], ids=["os", "not-implemented"])
def test_a_lock_that_cannot_be_had(made: Store, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Broken:
        def __init__(self, *arguments: object, **named: object) -> None:
            pass

        def acquire(self, **named: object) -> None:
            raise error

        def release(self) -> None:
            raise OSError("not held")

    monkeypatch.setattr("filelock.FileLock", Broken)
    with made.lock(made.place(PARTS)):
        entered = True
    assert entered


def test_a_lock_where_there_is_no_folder(made: Store, root: Path) -> None:
    shutil.rmtree(root)
    with made.lock(made.place(PARTS)):
        shutil.rmtree(root)
    root.write_text("")
    with made.lock(made.place(PARTS)):
        entered = True
    assert entered


# Shelves


def test_a_shelf_has_the_places_of_one_backend(made: Store) -> None:
    shelf = Shelf(made, PARTS._replace(module=""))
    assert shelf.place("ab" * 32) == made.place(PARTS)
    assert shelf.used == set()


def test_a_refreshed_shelf_wants_no_older_entries(made: Store) -> None:
    place = put(made, age=10)
    for refreshed, wanted in [(None, True), (time.time() - 5, False), (time.time() - 15, True)]:
        assert Shelf(made, PARTS, refreshed).is_wanted(place) is wanted
    made.discard(place)
    assert not Shelf(made, PARTS).is_wanted(place)
    assert not Shelf(made, PARTS, time.time() - 15).is_wanted(place)


def test_the_seal_of_another_store_is_refused(tmp_path: Path, root: Path) -> None:
    """Restored without the key: all of it is a miss."""
    first = open_store(root, tmp_path / "a" / "seal.key")
    second = open_store(root, tmp_path / "b" / "seal.key")
    mine, theirs = put(first), second.place(PARTS._replace(module=hashlib.sha256(b"m").hexdigest()))
    assert mine[:2] == theirs[:2]
    with pytest.raises(entry.Broken):
        entry.read(*theirs)
    assert SEAL not in (mine.seal, theirs.seal)
