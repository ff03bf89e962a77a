"""wasm_cache_max_size and wasm_cache_max_age: ini and environment, no option."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.workbench import SUITE, XDIST, counts, own_directories, remarks, stored

if TYPE_CHECKING:
    from pathlib import Path

ONE = "--wasm-backends=fake-a"
DAY = 86400.0


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_directories(monkeypatch, tmp_path)


def say(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str, name: str, value: str) -> None:
    if source == "ini":
        fakes.makeini(f"[pytest]\nwasm_{name} = {value}")
    else:
        monkeypatch.setenv(f"PYTEST_WASMER_{name.upper()}", value)


def grow_old(folder: Path, days: float) -> None:
    """As if nobody had used what is stored for so long."""
    moment = time.time() - days * DAY
    for path in folder.rglob("*"):
        if path.suffix in (".artifact", ".uses"):
            os.utime(path, (moment, moment))


# Two modules, run by -k; both have some 600 bytes with their heads.
def fill(fakes: pytest.Pytester, folder: Path, days: float) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE, "-k", "add")
    grow_old(folder, days)


@pytest.mark.parametrize("source", ["ini", "environment"])
def test_what_is_too_much_goes_and_the_summary_says_so(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    fill(fakes, tmp_path, days=1)
    say(fakes, monkeypatch, source, "cache_max_size", "10 b")
    result = fakes.runpytest(ONE, "-k", "two")
    result.assert_outcomes(passed=1, deselected=2)
    (remark,) = remarks(result)
    assert re.fullmatch(r"wasm: evicted 1 stored artifact \(\d+ B\)", remark)
    assert len(stored(tmp_path)) == 1, "what this run used stays"


@pytest.mark.parametrize("source", ["ini", "environment"])
def test_what_is_too_old_goes_and_the_summary_says_so(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    fill(fakes, tmp_path, days=3)
    say(fakes, monkeypatch, source, "cache_max_age", "2")
    result = fakes.runpytest(ONE, "-k", "two")
    (remark,) = remarks(result)
    assert re.fullmatch(r"wasm: evicted 1 stored artifact \(\d+ B\)", remark)
    assert len(stored(tmp_path)) == 1


def test_the_defaults_are_2_gib_and_90_days(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fill(fakes, tmp_path, days=89)
    assert remarks(fakes.runpytest(ONE, "-k", "two")) == []
    grow_old(tmp_path, 91)
    result = fakes.runpytest(ONE, "--wasm-cache=refresh", "-k", "two")
    (remark,) = remarks(result)
    assert re.fullmatch(r"wasm: evicted 1 stored artifact \(\d+ B\)", remark)
    limit = 2 * 1024**3
    (left,) = stored(tmp_path)
    with left.open("r+b") as file:
        file.truncate(limit + 1)  # a sparse file
    grow_old(tmp_path, 1)
    result = fakes.runpytest(ONE, "-k", "add")
    assert remarks(result) == ["wasm: evicted 1 stored artifact (2.0 GiB)"]


def test_what_is_in_use_stays(fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_WASMER_CACHE_MAX_SIZE", "0")
    monkeypatch.setenv("PYTEST_WASMER_CACHE_MAX_AGE", "0")
    fill(fakes, tmp_path, days=1)
    result = fakes.runpytest(ONE)
    assert counts(result) == (1, 1, 0)
    assert remarks(result) == []
    assert len(stored(tmp_path)) == 2


def test_what_is_in_use_stays_also_where_its_use_cannot_be_noted(
    fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_WASMER_CACHE_MAX_SIZE", "0")
    fill(fakes, tmp_path, days=1)
    (path,) = stored(tmp_path)
    path.with_suffix(".uses").mkdir()
    grow_old(tmp_path, days=1)
    result = fakes.runpytest(ONE)
    assert counts(result) == (1, 1, 0)
    assert remarks(result) == []
    assert len(stored(tmp_path)) == 2


def test_nothing_goes_where_nothing_was_added(
    fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it looked for: that takes its time where there is much."""
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    grow_old(tmp_path, 1)
    monkeypatch.setenv("PYTEST_WASMER_CACHE_MAX_SIZE", "0")
    fakes.runpytest(ONE, "-k", "two")
    assert len(stored(tmp_path)) == 2


def test_the_controller_of_xdist_does_it_for_all(
    fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fakes, tmp_path, days=1)
    monkeypatch.setenv("PYTEST_WASMER_CACHE_MAX_SIZE", "0")
    result = fakes.runpytest(ONE, "-k", "two", *XDIST)
    (remark,) = remarks(result)
    assert re.fullmatch(r"wasm: evicted 1 stored artifact \(\d+ B\)", remark)
    assert len(stored(tmp_path)) == 1


def test_what_workers_of_xdist_use_stays_however_long_they_run(
    fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fakes, tmp_path, days=1)
    monkeypatch.setenv("PYTEST_WASMER_CACHE_MAX_SIZE", "0")
    fakes.path.joinpath("suite.py").write_text("\n".join(line[4:] for line in SUITE.splitlines()))
    fakes.makepyfile(
        f"""
        import os
        from pathlib import Path
        from suite import ONE, TWO

        def test_short(wasm_instance):
            wasm_instance(TWO)

        def test_long(wasm_instance):
            wasm_instance(ONE)
            for path in Path({str(tmp_path)!r}).rglob("*.uses"):
                os.utime(path, (0, 0))
        """
    )
    result = fakes.runpytest(ONE, "-p", "xdist", "-n", "1")
    assert counts(result) == (1, 1, 0)
    assert remarks(result) == []
    assert len(stored(tmp_path)) == 2


def test_environment_comes_before_ini(fakes: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(fakes, tmp_path, days=1)
    say(fakes, monkeypatch, "ini", "cache_max_size", "0")
    say(fakes, monkeypatch, "environment", "cache_max_size", "1 MiB")
    fakes.runpytest(ONE, "-k", "two")
    assert len(stored(tmp_path)) == 2


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("cache_max_size", "much", "'much' is not a size such as 500 MiB or 2 GiB."),
        ("cache_max_size", "-1", "'-1' is not a size such as 500 MiB or 2 GiB."),
        ("cache_max_size", "2 GiB or so", "'2 GiB or so' is not a size such as 500 MiB or 2 GiB."),
        ("cache_max_age", "a week", "'a week' is not a number of days."),
        ("cache_max_age", "-1", "'-1' is not a number of days."),
        ("cache_max_age", "1 h", "'1 h' is not a number of days."),
    ],
)
@pytest.mark.parametrize("source", ["ini", "environment"])
def test_a_bad_value_is_a_usage_error(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str, name: str, value: str, reason: str
) -> None:
    say(fakes, monkeypatch, source, name, value)
    result = fakes.runpytest()
    place = f"wasm_{name} (from tox.ini)" if source == "ini" else f"PYTEST_WASMER_{name.upper()}"
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == f"ERROR: {place}: {reason}"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[("0", 0), ("1048576", 1 << 20), ("1k", 1024), ("1 KB", 1024), ("1 kib", 1024), ("1.5 MiB", 3 << 19)],
        *[("500 MB", 500 << 20), ("2 GiB", 2 << 30), ("2g", 2 << 30), (" 1 T ", 1 << 40), ("7 B", 7)],
    ],
)
def test_sizes(text: str, size: int) -> None:
    from pytest_wasmer.checking import size_in_bytes
    from pytest_wasmer.settings import CACHE_MAX_SIZE, Setting

    assert size_in_bytes(CACHE_MAX_SIZE, Setting(text, "tox.ini")) == size


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("90", 90), ("0.5", 0.5), ("1 day", 1), ("7 days", 7), ("3d", 3)]
)
def test_days(text: str, number: float) -> None:
    from pytest_wasmer.checking import days
    from pytest_wasmer.settings import CACHE_MAX_AGE, Setting

    assert days(CACHE_MAX_AGE, Setting(text, "tox.ini")) == number


def test_they_are_no_options_but_in_the_help(fakes: pytest.Pytester) -> None:
    assert fakes.runpytest("--wasm-cache-max-size=1").ret == pytest.ExitCode.USAGE_ERROR
    text = re.sub(r"\s+", " ", fakes.runpytest("--help").stdout.str())
    for name in ("wasm_cache_max_size", "wasm_cache_max_age"):
        assert f"{name} (string):" in text
        assert f"also: PYTEST_WASMER_{name[5:].upper()}" in text


@pytest.mark.processes
@pytest.mark.parametrize("source", ["ini", "environment"])
def test_the_header_shows_them_where_they_are_given(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    fakes.makepyfile(SUITE)
    (shown,) = [line for line in fakes.runpytest(ONE).stdout.lines if line.startswith("wasm: backends")]
    assert "max" not in shown
    monkeypatch.setenv("PYTEST_WASMER_CACHE_MAX_AGE", "7 days")
    say(fakes, monkeypatch, source, "cache_max_size", "500 MiB")
    place = "tox.ini" if source == "ini" else "PYTEST_WASMER_CACHE_MAX_SIZE"
    assert fakes.runpytest(ONE).stdout.lines[2] == (
        f"wasm: backends fake-a (from --wasm-backends), cache max size 500 MiB (from {place}), "
        "cache max age 7 days (from PYTEST_WASMER_CACHE_MAX_AGE), isolation process"
    )
