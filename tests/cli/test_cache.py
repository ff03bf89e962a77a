"""pytest-wasmer cache."""

from __future__ import annotations

import io
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import cli
from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.key import Parts, parts_from
from pytest_wasmer.artifacts.seal import seal_file, seal_key
from pytest_wasmer.artifacts.store import Store, open_store
from tests.conftest import needs_wheels
from tests.integration.workbench import SUITE, own_directories, stored

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86400.0
WAT = '(module (func (export "f") (result i32) (i32.const 42)))'


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_directories(monkeypatch, tmp_path)


class Command:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, list[str], str]:
        """Exit status, lines on stdout, stderr."""
        self._capsys.readouterr()
        status = cli.main(["cache", *[str(argument) for argument in arguments]])
        said = self._capsys.readouterr()
        return status, said.out.splitlines(), said.err


@pytest.fixture
def cache(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache-home" / "pytest-wasmer" / "artifacts"


@pytest.fixture
def filled(fakes: pytest.Pytester, root: Path) -> list[Path]:
    """The artifacts of two modules, of which a second run has used both; the older one first."""
    fakes.makepyfile(SUITE)
    for _ in range(2):
        fakes.runpytest("--wasm-backends=fake-a").assert_outcomes(passed=3)
    found = stored(root)
    for path, days in zip(found, (3, 1), strict=True):
        grow_old(path, days)
    return found


@pytest.fixture
def written(root: Path) -> list[Path]:
    """As `filled`, without a run."""
    store = open_store(root, seal_file())
    found = []
    for number, days in enumerate((3, 1)):
        place = store.place(PARTS._replace(module=str(number) * 64))
        entry.write(*place, b"an artifact" * 20, 1.0)
        entry.note_use(place.path)
        grow_old(Path(place.path), days)
        found.append(Path(place.path))
    return found


PARTS = Parts("1", "", "fake_engine:FakeEngine", "", "1", "fake-a", "", "", "x86_64-linux", "default", "{}")


def grow_old(path: Path, days: float) -> None:
    """As if it was made and last used so long ago."""
    moment = time.time() - days * DAY
    for file in (path, Path(entry.uses(str(path)))):
        if file.exists():
            os.utime(file, (moment, moment))


def module_in(path: Path) -> str:
    parts = parts_from(path.read_bytes())
    assert parts is not None
    return parts.module[:16]


# info and ls


def test_info(cache: Command, filled: list[Path], root: Path) -> None:
    size = sum(path.stat().st_size for path in filled)
    assert cache("info") == (
        0,
        [
            f"directory       {root}",
            f"seal key        {seal_file()}",
            "artifacts       2",
            f"size            {size / 1024:.1f} KiB",
            "hits            2",
            "last used       1 d",
            "longest unused  3 d",
        ],
        "",
    )


def test_info_of_nothing(cache: Command, root: Path) -> None:
    status, lines, _ = cache("info")
    assert status == 0
    assert lines[0] == f"directory  {root}"
    assert lines[2:] == ["artifacts  0", "size       0 B", "hits       0"]


def test_ls_has_a_line_per_artifact_last_used_first(cache: Command, filled: list[Path]) -> None:
    older, newer = filled
    status, lines, _ = cache("ls")
    assert status == 0
    assert [re.split(r"\s{2,}", line) for line in lines] == [
        ["module", "backend", "size", "made", "used", "hits"],
        [module_in(newer), "fake-a", f"{newer.stat().st_size} B", "1 d", "1 d", "1"],
        [module_in(older), "fake-a", f"{older.stat().st_size} B", "3 d", "3 d", "1"],
    ]


def test_hits_and_ages_follow_the_runs(cache: Command, filled: list[Path], fakes: pytest.Pytester) -> None:
    fakes.runpytest("--wasm-backends=fake-a", "-k", "two").assert_outcomes(passed=1, deselected=2)
    _, lines, _ = cache("ls")
    used = [re.split(r"\s{2,}", line)[3:] for line in lines[1:]]
    assert sorted(row[2] for row in used) == ["1", "2"]
    assert used[0][2] == "2"
    assert used[0][1].endswith(" s")
    assert used[0][0].endswith(" d"), "it was not made again"


def test_the_directory_is_that_of_the_option_or_the_environment(
    cache: Command, filled: list[Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, third = tmp_path / "other", tmp_path / "third"
    root.rename(other)
    assert cache("info")[1][2] == "artifacts  0"
    monkeypatch.setenv("PYTEST_WASMER_CACHE_DIR", str(other))
    assert cache("info")[1][2] == "artifacts       2"
    assert cache("--dir", third, "info")[1][0] == f"directory  {third}"
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (["--dir=~/other"], []):
        monkeypatch.setenv("PYTEST_WASMER_CACHE_DIR", "~/other")
        assert cache(*place, "info")[1][2] == "artifacts       2", "as pytest takes it"


@pytest.mark.parametrize("action", [["info"], ["ls"], ["prune"], ["clear", "--yes"]])
def test_looking_makes_nothing(cache: Command, tmp_path: Path, action: list[str]) -> None:
    assert cache("--dir", tmp_path / "store", *action)[0] == 0
    assert not (tmp_path / "store").exists()
    assert not seal_file().exists()


@pytest.mark.parametrize("action", [["info"], ["ls"], ["prune"], ["clear", "--yes"]])
def test_a_directory_that_cannot_be_used(cache: Command, root: Path, action: list[str]) -> None:
    root.mkdir(parents=True)
    root.chmod(0o777)
    assert cache(*action) == (
        2,
        [],
        f"pytest-wasmer: {root} can be written by everybody: chmod o-w {root}\n",
    )


# prune and clear


def test_prune_deletes_what_is_too_old(cache: Command, filled: list[Path], root: Path) -> None:
    older, newer = filled
    size = older.stat().st_size
    status, lines, _ = cache("prune", "--older-than", "2", "--yes")
    assert (status, len(lines)) == (0, 4)
    assert lines[0] == f"1 artifact ({size} B) in {root} will be deleted"
    assert lines[2].startswith(f"{older.parent.name}  fake-a  ")
    assert lines[3] == "deleted"
    assert stored(root) == [newer]
    assert not older.parent.exists(), "with all that was beside it"


def test_prune_deletes_the_least_recently_used_of_what_is_too_much(
    cache: Command, written: list[Path], root: Path
) -> None:
    _, newer = written
    status, lines, _ = cache("prune", "--max-size", f"{newer.stat().st_size} B", "--yes")
    assert (status, lines[-1]) == (0, "deleted")
    assert stored(root) == [newer]


@pytest.mark.parametrize("options", [[], ["--older-than", "4"], ["--max-size", "1 MiB"]])
def test_prune_of_nothing(cache: Command, written: list[Path], root: Path, options: list[str]) -> None:
    assert cache("prune", *options) == (
        0,
        ["nothing to delete (what was used within the last hour may be in use)"],
        "",
    )
    assert stored(root) == written


def test_prune_leaves_what_may_be_in_use(cache: Command, written: list[Path], root: Path) -> None:
    grow_old(written[0], 0.02)  # half an hour
    cache("prune", "--max-size", "0", "--older-than", "0", "--yes")
    assert stored(root) == written[:1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-size", "much"], "--max-size: 'much' is not a size such as 500 MiB or 2 GiB."),
        (["--older-than", "long"], "--older-than: 'long' is not a number of days."),
    ],
)
def test_bad_limits(cache: Command, written: list[Path], root: Path, options: list[str], said: str) -> None:
    assert cache("prune", *options, "--yes") == (2, [], f"pytest-wasmer: {said}\n")
    assert stored(root) == written


def test_prune_says_what_could_not_be_deleted(cache: Command, written: list[Path], root: Path) -> None:
    written[0].unlink()
    written[0].mkdir()
    grow_old(written[0], 3)
    status, lines, err = cache("prune", "--older-than", "0", "--yes")
    assert (status, lines[-1] == "deleted") == (2, False)
    assert err == f"pytest-wasmer: 1 artifact in {root} could not be deleted: may you write there?\n"
    assert stored(root) == written[:1]


def test_clear_says_what_goes_and_deletes_all(cache: Command, written: list[Path], root: Path) -> None:
    size = sum(path.stat().st_size for path in written)
    status, lines, _ = cache("clear", "--yes")
    assert status == 0
    assert lines[0] == f"2 artifacts ({size / 1024:.1f} KiB) in {root} will be deleted"
    assert [line.split()[0] for line in lines[1:]] == ["module", *[path.parent.name for path in written], "deleted"]
    assert stored(root) == []
    assert cache("info")[1][2] == "artifacts  0"


@pytest.mark.parametrize("action", [["clear"], ["prune", "--older-than", "0"]])
def test_nothing_is_deleted_where_nobody_can_be_asked(
    cache: Command, written: list[Path], root: Path, action: list[str]
) -> None:
    status, lines, err = cache(*action)
    assert status == 2
    assert lines[0].startswith("2 artifacts (")
    assert err == "pytest-wasmer: nobody can be asked here, nothing was deleted: add --yes\n"
    assert stored(root) == written


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("action", [["clear"], ["prune", "--older-than", "0"]])
@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("Yes", True), ("n", False), ("", False), ("yep", False)])
def test_they_ask_on_a_terminal(
    cache: Command,
    written: list[Path],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: list[str],
    answer: str,
    goes: bool,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    status, lines, _ = cache(*action)
    assert lines[-1] == f"Delete? [y/N] {'deleted' if goes else 'nothing was deleted'}"
    assert status == (0 if goes else 1)
    assert stored(root) == ([] if goes else written)


def test_an_end_of_input_is_a_no(
    cache: Command, written: list[Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    status, lines, _ = cache("clear")
    assert (status, lines[-2:]) == (1, ["Delete? [y/N] ", "nothing was deleted"])
    assert stored(root) == written


def test_a_long_list_is_cut(cache: Command, root: Path, tmp_path: Path) -> None:
    for number in range(25):
        folder = root / "v1" / f"{number:016}"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "x.artifact").write_bytes(b"unreadable")
    _, lines, _ = cache("clear", "--yes")
    assert len(lines) == 1 + 1 + 20 + 2
    assert lines[-2:] == ["and 5 more", "deleted"]


# explain


@pytest.fixture
def explain(
    cache: Command, pytester: pytest.Pytester, root: Path, tmp_path: Path
) -> Callable[..., tuple[int, list[str], str]]:
    pytester.path.joinpath("answer.wat").write_text(WAT)
    pytester.makepyfile("def test_it(wasm_instance): assert wasm_instance('answer.wat').exports.f() == 42")
    pytester.runpytest("--wasm-backends=singlepass,cranelift").assert_outcomes(passed=2)
    return lambda *options: cache("explain", pytester.path / "answer.wat", *options)


@needs_wheels
def test_explain_says_what_is_stored_and_what_was_never_compiled(
    explain: Callable[..., tuple[int, list[str], str]], root: Path
) -> None:
    (path,) = [path for path in stored(root) if b'compiler: "cranelift"' in path.read_bytes()]
    size = path.stat().st_size
    status, lines, _ = explain("--backends=cranelift,llvm")
    assert status == 1
    assert re.fullmatch(
        rf"cranelift: stored \d+ s ago, {size / 1024:.1f} KiB, last used \d+ s ago, 0 hits, saves 0\.\d\d\d s", lines[0]
    )
    assert lines[1] == f"    {path}"
    assert lines[2] == f"llvm: not stored: this module (SHA-256 {path.parent.name}...) was never compiled for it"
    assert len(lines) == 3
    assert explain("--backends=singlepass,cranelift")[0] == 0


@needs_wheels
def test_explain_names_what_is_other(explain: Callable[..., tuple[int, list[str], str]], root: Path) -> None:
    """Of all that is stored of the same module for that backend, the nearest."""
    (path,) = [path for path in stored(root) if b'compiler: "cranelift"' in path.read_bytes()]
    parts = parts_from(path.read_bytes())
    assert parts is not None
    path.unlink()
    store = Store(root, seal_key(seal_file()))
    for other in (
        parts._replace(features="sse2", version="wasmer 0.9", target="mips"),
        parts._replace(features="sse2"),
        parts._replace(module="0" * 64),
        parts._replace(kind="dylib"),
    ):
        entry.write(*store.place(other), b"an artifact", 1.0)
    status, lines, _ = explain("--backends=cranelift")
    assert (status, lines) == (
        1,
        [f"cranelift: not stored: same module, other features (stored: sse2, here: {parts.features})"],
    )


@needs_wheels
def test_explain_knows_what_is_stored_for_runs_with_plugins(
    explain: Callable[..., tuple[int, list[str], str]], root: Path
) -> None:
    """Which add to the key what is not known here."""
    (path,) = [path for path in stored(root) if b'compiler: "cranelift"' in path.read_bytes()]
    parts = parts_from(path.read_bytes())
    assert parts is not None
    path.unlink()
    extended = Store(root, seal_key(seal_file())).place(parts._replace(extra='{"firmware": "1"}'))
    entry.write(*extended, b"an artifact", 1.0)
    status, lines, _ = explain("--backends=cranelift")
    assert status == 0
    assert lines[0].startswith("cranelift: stored 0 s ago, ")
    assert lines[1:] == [
        f"    {extended.path}",
        '    for runs in which plugins add {"firmware": "1"} (pytest_wasmer_key_parts)',
    ]


@needs_wheels
def test_explain_says_why_it_is_refused(explain: Callable[..., tuple[int, list[str], str]], root: Path) -> None:
    for path in stored(root):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    status, lines, _ = explain("--backends=singlepass,cranelift")
    assert status == 1
    for line, name in zip(lines, ("singlepass", "cranelift"), strict=True):
        assert line.startswith(
            f"{name}: refused: its seal does not fit: damaged, or sealed with another key; the next run compiles it "
            f"again ({root}"
        )


@needs_wheels
def test_explain_of_what_cannot_be_read(cache: Command, tmp_path: Path) -> None:
    status, lines, err = cache("explain", tmp_path / "missing.wasm", "--backends=cranelift")
    assert (status, lines) == (2, [])
    assert "missing.wasm" in err


def test_explain_of_an_unknown_backend(cache: Command, tmp_path: Path) -> None:
    status, _, err = cache("explain", tmp_path / "x.wasm", "--backends=cranlift")
    assert status == 2
    assert "Did you mean 'cranelift'?" in err
