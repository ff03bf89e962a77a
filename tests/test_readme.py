"""The README's examples run as pasted, and its facts are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pytest_wasmer import checking, cli, markers, settings
from tests.conftest import needs_wheels
from tests.integration.workbench import own_directories

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def test_" in block]
FILES = {"test_calc.py": "CALC", "test_load.py": "LOAD", "test_pick.py": "SINK"}


@needs_wheels
def test_the_first_example_runs_as_pasted(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but what an installation brings, and with all plugins."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    monkeypatch.delenv("PYTEST_PLUGINS")
    assert len(EXAMPLES[0].splitlines()) == 20
    pytester.makepyfile(EXAMPLES[0])
    pytester.runpytest_subprocess("--wasm-backends=all").assert_outcomes(passed=6)


@needs_wheels
def test_the_red_run_is_red_on_llvm_alone(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "test_load_out_of_bounds_traps" in block]
    pytester.makepyfile(test_load=example)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_load.py::test_load_out_of_bounds_traps[[]llvm[]] - Failed: DID NOT RA*"])


def pieces(shown: str) -> list[list[str]]:
    """Of a transcript, the lines between those that say "..."; without durations, and what makes room for them."""
    parts = [part.strip("\n") for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    return [comparable(part.splitlines()) for part in parts if part]


def comparable(lines: list[str]) -> list[str]:
    return [re.sub(r"={2,}", "==", re.sub(r"\s*\d+\.\d+ ?s\b", " # s", line)) for line in lines]


@needs_wheels
@pytest.mark.skipif(pytest.version_tuple < (9,), reason="older ones word some lines in another way")
@pytest.mark.parametrize("file", FILES)
def test_a_transcript_is_what_a_run_prints(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str
) -> None:
    own_directories(monkeypatch, tmp_path)
    (code,) = [block for block in EXAMPLES if f'{FILES[file]} = """' in block]
    pytester.path.joinpath(file).write_text(code)
    ((command, shown),) = re.findall(rf"^\$ pytest ([^\n]*{file})\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    lines = comparable(pytester.runpytest_subprocess(*shlex.split(command)).stdout.lines)
    lines = [line for line in lines if set(line) != {" ", "^"}]  # from Python 3.11 on
    for piece in pieces(shown):
        assert piece[0] in lines
        start = lines.index(piece[0])
        assert lines[start : start + len(piece)] == piece
        del lines[: start + len(piece)]
    assert not [line for line in lines if line.startswith("wasm: ")], "the end is shown"


@needs_wheels
def test_the_example_of_objects_runs_as_pasted(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "Caller" in block]
    pytester.makepyfile(example)
    pytester.runpytest_subprocess("--wasm-backends=all").assert_outcomes(passed=3)


@needs_wheels
def test_the_example_of_a_disagreement_says_what_is_shown(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "SINK" in block]
    pytester.makepyfile(test_pick=example)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["llvm against singlepass and cranelift:", "map of pick over 2 rows (event 3):"])


@needs_wheels
def test_the_example_of_a_golden_writes_what_is_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in checking.CI_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (example,) = [block for block in EXAMPLES if "wasm_golden" in block]
    pytester.makepyfile(test_sqrt=example)
    result = pytester.runpytest_subprocess("--wasm-backends=all", "test_sqrt.py", "--wasm-update")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["wasm: 1 golden written"])
    written = (pytester.path / "__golden__/test_sqrt/test_sqrt.txt").read_text()
    assert f"$ cat __golden__/test_sqrt/test_sqrt.txt\n{written}```" in README


@needs_wheels
def test_the_example_of_all_at_once_says_what_is_shown(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "wasm_all" in block]
    pytester.makepyfile(test_all=example)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(failed=1)
    start = README.index(">       everywhere.exports.pick")
    shown = README[start : README.index("```", start)].splitlines()
    for line in [line for line in shown if line != "..."]:
        assert line in result.stdout.lines


@needs_wheels
def test_the_bundle_of_that_disagreement_says_what_is_shown(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [block for block in EXAMPLES if "SINK" in block]
    pytester.makepyfile(test_pick=example)
    pytester.runpytest_subprocess("--wasm-backends=all")
    (shown,) = re.findall(r"\$ pytest-wasmer (repro .*)\n((?s:.*?))```", README)
    command, output = shown
    capsys.readouterr()
    assert cli.main(command.split()) == 1
    assert capsys.readouterr().out == output


@needs_wheels
def test_the_example_of_a_round_trip_runs_as_pasted(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "wasm_round_trip" in block]
    pytester.makepyfile(example)
    pytester.runpytest_subprocess("--wasm-backends=all").assert_outcomes(passed=3)


@needs_wheels
def test_the_example_of_fuzzing_says_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [block for block in EXAMPLES if "SINK" in block]
    (tmp_path / "pick.wat").write_text(example.split('"""')[1])
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fuzz", "pick.wat"]) == 1
    shown = README.partition("$ pytest-wasmer fuzz pick.wat\n")[2].partition("```")[0]
    assert capsys.readouterr().out == shown


@needs_wheels
def test_the_example_of_property_tests_runs_as_pasted(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "@given" in block]
    pytester.makepyfile(example)
    result = pytester.runpytest_subprocess("--wasm-backends=all", "-p", "hypothesispytest")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared"])


def test_the_option_table_is_complete() -> None:
    for option in settings.OPTIONS:
        row = next(line for line in README.splitlines() if line.startswith(f"| `{option.flag}` "))
        assert f"`{option.variable}`" in row
        assert f"`{option.ini}`" in row
        assert (f"`{option.default}` (default)" if option.default else f"(default: {option.unset})") in row
    for option in settings.INI_ONLY:
        assert f"`{option.ini}` (`{option.variable}`, " in README.replace("\n", " ")
        assert not option.default or re.search(rf"default:? `{option.default}`\)", README)


def test_every_marker_is_described() -> None:
    for marker in markers.MARKERS:
        assert f"@pytest.mark.{marker.__name__}(" in README
