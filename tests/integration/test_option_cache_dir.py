"""--wasm-cache-dir, PYTEST_WASMER_CACHE_DIR, wasm_cache_dir: where artifacts are kept."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.integration.workbench import SUITE, XDIST, counts, own_directories, remarks, stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE = "--wasm-backends=fake-a"


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_directories(monkeypatch, tmp_path)


def test_the_default_is_the_user_s_cache_directory(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    root = tmp_path / "cache-home" / "pytest-wasmer" / "artifacts"
    assert len(stored(root)) == 2
    assert sorted(path.name for path in root.iterdir()) == [".gitignore", "CACHEDIR.TAG", "v1"]
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.processes
def test_a_relative_path_starts_from_rootdir(fakes: pytest.Pytester, tmp_path: Path) -> None:
    folder = fakes.mkdir("below")
    folder.joinpath("test_it.py").write_text("\n".join(line[4:] for line in SUITE.splitlines()))
    for place in (fakes.path, folder):
        os.chdir(place)
        result = fakes.runpytest(ONE, "--wasm-cache-dir=store", f"--rootdir={fakes.path}", str(folder))
        result.stdout.fnmatch_lines(["wasm: *, cache in store (from --wasm-cache-dir), isolation process"])
    assert counts(result) == (0, 2, 0)
    assert len(stored(fakes.path / "store")) == 2
    assert stored(tmp_path) == []


def test_in_a_directory_with_other_things_only_its_own_is_hidden_from_git(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    for _ in range(2):
        fakes.runpytest(ONE, "--wasm-cache-dir=.").assert_outcomes(passed=3)
    assert len(stored(fakes.path / "v1")) == 2
    assert not (fakes.path / ".gitignore").exists()
    assert not (fakes.path / "CACHEDIR.TAG").exists()
    assert (fakes.path / "v1" / ".gitignore").read_text() == "*\n"


def test_a_tilde_is_the_home_directory(fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE, "--wasm-cache-dir=~/store")
    assert len(stored(tmp_path / "home" / "store")) == 2


@pytest.mark.processes
def test_precedence_is_command_line_environment_ini(
    fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.makepyfile(SUITE)
    fakes.makeini("[pytest]\nwasm_backends = fake-a\nwasm_cache_dir = of the ini file")
    fakes.runpytest().stdout.fnmatch_lines(["wasm: *, cache in of the ini file (from tox.ini), isolation process"])
    monkeypatch.setenv("PYTEST_WASMER_CACHE_DIR", str(tmp_path / "variable"))
    fakes.runpytest().stdout.fnmatch_lines(["wasm: *, cache in *variable (from PYTEST_WASMER_CACHE_DIR), *"])
    fakes.runpytest(f"--wasm-cache-dir={tmp_path / 'option'}")
    for folder in (fakes.path / "of the ini file", tmp_path / "variable", tmp_path / "option"):
        assert len(stored(folder)) == 2, folder


def a_link(folder: Path) -> str:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")
    return f"is a symbolic link; name what it points to: {folder.parent / 'elsewhere'}"


def a_file(folder: Path) -> str:
    folder.write_text("I was here first")
    return "File exists"


def below_a_file(folder: Path) -> str:
    folder.mkdir(mode=0o700)
    (folder / "v1").write_text("I was here first")
    return "File exists"


def for_everybody(folder: Path) -> str:
    folder.mkdir()
    folder.chmod(0o777)
    return f"can be written by everybody: chmod o-w {folder}"


def whose_inside_is_for_everybody(folder: Path) -> str:
    (folder / "v1").mkdir(parents=True)
    (folder / "v1").chmod(0o777)
    return f"/v1 can be written by everybody: chmod o-w {folder / 'v1'}"


UNUSABLE = [a_link, a_file, below_a_file, for_everybody, whose_inside_is_for_everybody]


@pytest.mark.parametrize(("spoil", "isolation"), [*((each, "process") for each in UNUSABLE), (a_link, "none")])
def test_one_that_cannot_be_used_is_said_once_and_the_run_goes_on(
    fakes: pytest.Pytester, tmp_path: Path, spoil: Callable[[Path], str], isolation: str
) -> None:
    fakes.makepyfile(SUITE)
    folder = tmp_path / "store"
    reason = spoil(folder)
    result = fakes.runpytest(
        "--wasm-backends=fake-a,fake-b", f"--wasm-cache-dir={folder}", f"--wasm-isolation={isolation}"
    )
    result.assert_outcomes(passed=6)
    assert [counts(result, name) for name in ("fake-a", "fake-b")] == [(2, 0, 0)] * 2
    (said,) = remarks(result)
    assert said.startswith(f"wasm: artifacts are not stored: {folder}")
    assert said.endswith(reason)
    assert stored(tmp_path) == []


def test_it_is_said_once_under_xdist_too(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fakes.makepyfile(SUITE)
    reason = for_everybody(tmp_path / "store")
    result = fakes.runpytest(ONE, f"--wasm-cache-dir={tmp_path / 'store'}", *XDIST)
    result.assert_outcomes(passed=3)
    assert remarks(result) == [f"wasm: artifacts are not stored: {tmp_path / 'store'} {reason}"]


def test_an_unusable_one_does_not_matter_where_nothing_is_stored(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fakes.makepyfile(SUITE)
    a_link(tmp_path / "store")
    for option in ("--wasm-cache=off", "--wasm-artifacts=fresh"):
        result = fakes.runpytest(ONE, f"--wasm-cache-dir={tmp_path / 'store'}", option)
        result.assert_outcomes(passed=3)
        assert remarks(result) == []


def test_a_seal_key_that_cannot_be_made_is_said(
    fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.makepyfile(SUITE)
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    result = fakes.runpytest(ONE)
    result.assert_outcomes(passed=3)
    (said,) = remarks(result)
    assert said == (
        f"wasm: artifacts are not stored: the seal key {tmp_path / 'file'}/pytest-wasmer/seal.key: Not a directory"
    )


def test_a_directory_that_is_deleted_during_the_run_is_made_again(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import shutil
        from pathlib import Path
        from fake_engine import module

        def test_first(wasm_module): wasm_module(module(name="one"))

        def test_second(wasm_module):
            shutil.rmtree(Path(__file__).parent / "store")
            wasm_module(module(name="two"))
        """
    )
    result = fakes.runpytest(ONE, "--wasm-cache-dir=store")
    result.assert_outcomes(passed=2)
    assert remarks(result) == []
    assert len(stored(fakes.path / "store")) == 1


def test_what_cannot_be_written_is_said_with_the_place(fakes: pytest.Pytester) -> None:
    """A directory in the place of an entry: reading and replacing it fail, for root too."""
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE, "--wasm-cache-dir=store")
    for entry in stored(fakes.path / "store"):
        entry.unlink()
        entry.joinpath("something").mkdir(parents=True)
    result = fakes.runpytest(ONE, "--wasm-cache-dir=store")
    result.assert_outcomes(passed=3)
    assert counts(result) == (2, 0, 2)
    assert remarks(result) == [f"wasm: artifacts of fake-a are not stored: Is a directory ({fakes.path / 'store'})"]


def test_what_cannot_be_written_for_several_backends_is_one_line(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    both = ("--wasm-backends=fake-b,fake-a", "--wasm-cache-dir=store")
    fakes.runpytest(*both)
    for entry in stored(fakes.path / "store"):
        entry.unlink()
        entry.joinpath("something").mkdir(parents=True)
    for workers in ((), XDIST):
        assert remarks(fakes.runpytest(*both, *workers)) == [
            f"wasm: artifacts of fake-a, fake-b are not stored: Is a directory ({fakes.path / 'store'})"
        ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_used_for_reading(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE, "--wasm-cache-dir=store", "-k", "two")
    folders = [path for path in (fakes.path / "store").rglob("*") if path.is_dir()] + [fakes.path / "store"]
    for folder in folders:
        folder.chmod(0o500)
    try:
        result = fakes.runpytest(ONE, "--wasm-cache-dir=store")
    finally:
        for folder in folders:
            folder.chmod(0o700)
    result.assert_outcomes(passed=3)
    assert counts(result) == (1, 1, 0)
    assert remarks(result) == [f"wasm: artifacts of fake-a are not stored: Permission denied ({fakes.path / 'store'})"]
