"""The README's examples run as pasted, and its facts are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_wasmer import markers, settings
from tests.conftest import needs_wheels

if TYPE_CHECKING:
    import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def test_" in block]


@needs_wheels
def test_the_first_example_runs_as_pasted(pytester: pytest.Pytester) -> None:
    assert len(EXAMPLES[0].splitlines()) == 20
    pytester.makepyfile(EXAMPLES[0])
    pytester.runpytest_subprocess("--wasm-backends=all").assert_outcomes(passed=6)


@needs_wheels
def test_the_red_run_is_red_on_llvm_alone(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "test_load_out_of_bounds_traps" in block]
    pytester.makepyfile(test_load=example)
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    result.assert_outcomes(passed=2, failed=1)
    shown = README[README.index("test_load.py:") :].splitlines()[0]
    assert shown in result.stdout.lines
    result.stdout.fnmatch_lines(["FAILED test_load.py::test_load_out_of_bounds_traps[[]llvm[]] - Failed: DID NOT RA*"])


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
    start = README.index("llvm against singlepass and cranelift:")
    for line in README[start : README.index("...", start)].splitlines():
        assert line in result.stdout.lines


@needs_wheels
def test_the_example_of_a_round_trip_runs_as_pasted(pytester: pytest.Pytester) -> None:
    (example,) = [block for block in EXAMPLES if "wasm_round_trip" in block]
    pytester.makepyfile(example)
    pytester.runpytest_subprocess("--wasm-backends=all").assert_outcomes(passed=3)


def test_the_option_table_is_complete() -> None:
    for option in settings.OPTIONS:
        row = next(line for line in README.splitlines() if line.startswith(f"| `{option.flag}` "))
        assert f"`{option.variable}`" in row
        assert f"`{option.ini}`" in row
        assert (
            f"`{option.default}` (default)" if option.default else "(default: in the user's cache directory)"
        ) in row
    for option in settings.INI_ONLY:
        assert f"`{option.ini}` (`{option.variable}`, " in README.replace("\n", " ")
        assert not option.default or f"default `{option.default}`)" in README


def test_every_marker_is_described() -> None:
    for marker in markers.MARKERS:
        assert f"@pytest.mark.{marker.__name__}(" in README
