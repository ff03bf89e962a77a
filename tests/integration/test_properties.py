"""Tests with `@given` that run on each backend: the same examples on each, so that they are compared."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = "--wasm-backends=fake-a,fake-b,fake-c"
# Each example is written down by backend.
MODULE = """
    import pytest
    from hypothesis import given, seed, settings, strategies as st
    from fake_engine import module, function

    WASM = module(exports={"even": function("i32 -> i32", [["return", 4]]),
                           "odd": function("i32 -> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]})})

    def note(backend, test, number):
        with open("examples.txt", "a") as file:
            print(backend, test, number, file=file)
"""


@pytest.fixture
def project(fakes: pytest.Pytester) -> Iterator[pytest.Pytester]:
    fakes.makeini("[pytest]\naddopts = -p hypothesispytest")
    set_hypothesis_home_dir(fakes.path / ".hypothesis")
    profile = settings.get_current_profile_name()
    settings.load_profile("default")  # on CI there is no database
    yield fakes
    settings.load_profile(profile)
    set_hypothesis_home_dir(None)


def run(project: pytest.Pytester, test: str, *options: str) -> tuple[pytest.RunResult, dict[str, dict[str, list[str]]]]:
    """The result, and by test and backend what it was called with."""
    project.makepyfile(test_it=MODULE + test)
    Path(project.path, "examples.txt").unlink(missing_ok=True)
    # Options of Hypothesis hold for the rest of a process.
    result = (project.runpytest_subprocess if options else project.runpytest_inprocess)(ALL, *options)
    examples: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in Path(project.path, "examples.txt").read_text().splitlines():
        backend, name, number = line.split()
        examples[name][backend].append(number)
    return result, examples


EVEN = """
    @settings(max_examples=30{settings})
    {decorators}
    @given(number=st.integers(-2**31, 2**31 - 1))
    def test_even(wasm_instance, wasm_backend, number{parameters}):
        note(wasm_backend, "even{name}", number)
        wasm_instance(WASM).exports.even(number)
"""


def even(settings: str = "", decorators: str = "", parameters: str = "", name: str = "") -> str:
    return EVEN.format(settings=settings, decorators=decorators, parameters=parameters, name=name)


def same(examples: dict[str, list[str]]) -> list[str]:
    """The examples that all three backends got."""
    first, second, third = examples.values()
    assert first == second == third
    return first


@pytest.mark.parametrize(
    "test",
    [even(), even(", derandomize=True"), even(", database=None")],
    ids=["plain", "derandomize", "without a database"],
)
def test_each_backend_gets_the_same_examples(project: pytest.Pytester, test: str) -> None:
    result, examples = run(project, test)
    result.assert_outcomes(passed=3)
    assert len(same(examples["even"])) >= 20
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared"])


def test_seeds_of_the_user_are_respected(project: pytest.Pytester) -> None:
    plain = same(run(project, even())[1]["even"])
    assert same(run(project, even())[1]["even"]) == plain
    assert same(run(project, even(), "--hypothesis-seed=5")[1]["even"]) != plain
    seven = same(run(project, even(decorators="@seed(7)"))[1]["even"])
    assert seven != plain
    assert same(run(project, even(decorators="@seed(7)"), "--hypothesis-seed=5")[1]["even"]) == seven


@pytest.mark.parametrize("settings", ["", ", derandomize=True"])
def test_with_parameters(project: pytest.Pytester, settings: str) -> None:
    decorators = '@pytest.mark.parametrize("n", [1, 2])'
    result, examples = run(project, even(settings, decorators, ", n", '" + str(n) + "'))
    result.assert_outcomes(passed=6)
    assert same(examples["even1"]) != same(examples["even2"])
    result.stdout.fnmatch_lines(["wasm: 2 tests agreed, 0 diverged, 0 not compared"])


def test_methods(project: pytest.Pytester) -> None:
    """Hypothesis would find that they have "differing executors"."""
    result, examples = run(
        project,
        """
    class TestIt:
        @settings(max_examples=30)
        @given(number=st.integers(0, 100))
        def test_even(self, wasm_instance, wasm_backend, number):
            note(wasm_backend, "even", number)
            wasm_instance(WASM).exports.even(number)
    """,
    )
    result.assert_outcomes(passed=3)
    assert same(examples["even"])


def test_under_xdist(project: pytest.Pytester) -> None:
    result, examples = run(project, even(), "-p", "xdist", "-n2")
    result.assert_outcomes(passed=3)
    assert same(examples["even"])
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared"])


def test_a_disagreement_turns_red(project: pytest.Pytester) -> None:
    result, _ = run(
        project,
        """
    @given(number=st.integers(0, 100))
    def test_odd(wasm_instance, wasm_backend, number):
        note(wasm_backend, "odd", number)
        wasm_instance(WASM).exports.odd(number)
    """,
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["fake-b against fake-a and fake-c:", "call odd(0) (event 3):"])


FAILING = """
    @settings(max_examples=20)
    @given(number=st.integers(0, 2**31 - 1))
    def test_it(wasm_instance, wasm_backend, number):
        note(wasm_backend, "it", number)
        wasm_instance(WASM).exports.even(number)
        assert {condition}
"""
FAILS_ON_B = FAILING.format(condition='wasm_backend != "fake-b" or number < 1000')


def test_what_failed_on_one_backend_is_replayed_on_each(project: pytest.Pytester) -> None:
    result, _ = run(project, FAILS_ON_B)
    result.assert_outcomes(passed=2, failed=1)
    for _ in range(2):  # that it passes on fake-a does not delete it
        result, examples = run(project, FAILS_ON_B)
        result.assert_outcomes(passed=2, failed=1)
        assert [numbers[0] for numbers in examples["it"].values()] == ["1000", "1000", "1000"]


def test_what_passes_on_each_is_forgotten_and_the_replay_is_compared(project: pytest.Pytester) -> None:
    condition = 'wasm_backend != "fake-b" or number < 1000 or Path("mended").exists()'
    test = "    from pathlib import Path\n" + FAILING.format(condition=condition)
    run(project, test)
    Path(project.path, "mended").touch()
    result, examples = run(project, test)
    result.assert_outcomes(passed=3)
    assert same(examples["it"])[0] == "1000"
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared"])
    result, examples = run(project, test)
    assert same(examples["it"])[0] != "1000"


def test_a_part_of_the_backends_deletes_nothing(project: pytest.Pytester) -> None:
    run(project, FAILS_ON_B)
    run(project, FAILS_ON_B, "-k", "fake-a")
    _, examples = run(project, FAILS_ON_B)
    assert [numbers[0] for numbers in examples["it"].values()] == ["1000", "1000", "1000"]


def test_nothing_is_imported_for_other_tests(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import sys
        from fake_engine import module

        def test_it(wasm_module):
            wasm_module(module())
            assert "hypothesis" not in sys.modules
            assert "pytest_wasmer.properties" not in sys.modules
        """
    )
    fakes.runpytest_subprocess(ALL).assert_outcomes(passed=3)
