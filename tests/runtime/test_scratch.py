"""The temporary directory of an engine process whose engine leaves files behind when it is killed."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime import process
from pytest_wasmer.runtime.errors import EngineLost
from tests.fake_engine import function, module
from tests.runtime.test_process import in_a_fork
from tests.runtime.workbench import FAKE, begin, load, losses, pid_of, start_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.pool import EnginePool

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")

MESSY = FAKE._replace(scratch=True)
WASM = module(exports={"sum": function("i32 i32 -> i32", ["sum"])})


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process has its temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def scratches(folder: Path) -> list[Path]:
    return list(folder.glob("pytest-wasmer-scratch-*"))


def variable(pid: int, name: str) -> str | None:
    found = dict(item.partition(b"=")[::2] for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    value = found.get(name.encode())
    return None if value is None else value.decode()


def test_only_engines_that_need_one_have_one(processes: EnginePool, temporary: Path) -> None:
    begin(processes)
    assert variable(pid_of(processes), "TMPDIR") == str(temporary)
    assert scratches(temporary) == []
    processes.close()
    begin(processes, MESSY)
    (folder,) = scratches(temporary)
    assert variable(pid_of(processes, MESSY), "TMPDIR") == str(folder)
    assert folder.name.startswith(f"pytest-wasmer-scratch-{os.getpid()}-")
    assert folder.stat().st_mode & 0o777 == 0o700, "no business of other users"


def test_each_process_has_its_own(processes: EnginePool, temporary: Path) -> None:
    begin(processes, MESSY)
    another = processes.connection(MESSY).another(None, {"TMPDIR": "/elsewhere", "COLOUR": "green"})
    another.make_memory(1, None, "a memory")
    folders = {variable(pid, "TMPDIR") for pid in (pid_of(processes, MESSY), another.pid)}
    assert folders == {str(folder) for folder in scratches(temporary)}
    assert len(folders) == 2
    assert variable(another.pid, "COLOUR") == "green"
    another.close()
    assert len(scratches(temporary)) == 1


def litter(folder: Path) -> None:
    """As engines do."""
    for scratch in scratches(folder):
        (scratch / "deep").mkdir()
        (scratch / "deep" / "wasmer_dylib_x.so").write_bytes(b"\x7fELF")


def close(pool: EnginePool) -> None:
    pool.close()


def drop(pool: EnginePool) -> None:
    pool._connections.clear()
    gc.collect()


def kill(pool: EnginePool) -> None:
    os.kill(pid_of(pool, MESSY), signal.SIGKILL)
    with pytest.raises(EngineLost):
        load(pool, WASM, MESSY)
    losses(pool)


@pytest.mark.parametrize("end", [close, drop, kill])
def test_it_goes_with_its_process(processes: EnginePool, temporary: Path, end: Callable[[EnginePool], None]) -> None:
    begin(processes, MESSY)
    litter(temporary)
    end(processes)
    assert scratches(temporary) == []


def test_nothing_is_left_of_a_process_that_cannot_start(processes: EnginePool, temporary: Path) -> None:
    with pytest.raises(FileNotFoundError):
        processes.connection(MESSY._replace(python="/no/such/python"))
    assert scratches(temporary) == []


def test_a_linker_that_writes_on_while_it_is_removed(
    processes: EnginePool, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compile that is killed leaves gcc running: 5 % of the directories could not be removed at the first try."""
    begin(processes, MESSY)
    remove, tries = process.shutil.rmtree, []

    def meanwhile(folder: str, ignore_errors: bool) -> None:
        tries.append(folder)
        if len(tries) > 1:
            remove(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(process.shutil, "rmtree", meanwhile)
    processes.close()
    assert len(tries) == 2
    assert scratches(temporary) == []


def test_a_fork_of_the_test_process_leaves_it(processes: EnginePool, temporary: Path) -> None:
    made = load(processes, WASM, MESSY).instantiate()

    def work() -> None:
        processes.close()
        gc.collect()

    assert in_a_fork(work) == "None"
    assert len(scratches(temporary)) == 1
    assert made.exports.sum(1, 2) == 3


# Of test processes that were killed


KILLED = """
pool = new_pool()
load(pool, WASM, FAKE._replace(scratch=True)).instantiate().exports.sum(1, 2)
print("ready", flush=True)
time.sleep(60)
"""


def abandoned() -> None:
    """By a test process that was killed."""
    script = start_script(KILLED)
    assert script.stdout is not None
    with script.stdout:
        assert script.stdout.readline() == "ready\n"
        script.kill()
    script.wait()


def test_those_of_killed_test_processes_go_with_the_next_start(processes: EnginePool, temporary: Path) -> None:
    abandoned()
    litter(temporary)
    begin(processes)
    assert len(scratches(temporary)) == 1, "engines that need none do not look"
    begin(processes, MESSY._replace(name="messy"))
    (mine,) = scratches(temporary)
    assert f"-{os.getpid()}-" in mine.name


def test_what_may_be_in_use_stays(processes: EnginePool, temporary: Path, tmp_path: Path) -> None:
    """Of living processes, also those of other users; what is not named like ours; what is only linked."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").touch()
    gone = 2**22 + 1  # more than Linux gives
    names = [f"{os.getpid()}-a", f"{os.getppid()}-a", "1-a", "x-a", "", "-", f"{'9' * 30}-a", "0-a", "²-a"]
    # An orphan's parent is process 1.
    folders = [temporary / f"pytest-wasmer-scratch-{name}" for name in dict.fromkeys(names)]
    for folder in folders:
        folder.mkdir()
    link = temporary / f"pytest-wasmer-scratch-{gone}-link"
    link.symlink_to(mine)
    (temporary / f"pytest-wasmer-scratch-{gone}-a").mkdir()
    begin(processes, MESSY)
    processes.close()
    assert sorted(scratches(temporary)) == sorted([*folders, link])
    assert list(mine.iterdir()) == [mine / "thesis"]


def test_another_user_s_process_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        assert number == 0
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert not process._is_gone(4321)


def test_windows_ends_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("this would end the process"))
    assert not process._is_gone(4321)
