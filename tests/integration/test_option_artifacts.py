"""--wasm-artifacts, PYTEST_WASMER_ARTIFACTS, wasm_artifacts: which code tests run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import needs_wheels
from tests.integration.test_markers import outcomes
from tests.integration.workbench import MARKING, SUITE, XDIST, counts, own_directories, register, rows, stored

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = "--wasm-backends=fake-a", "--wasm-backends=fake-a,fake-b"
BOTH = "--wasm-artifacts=both"
NAMED = """
    from fake_engine import module

    def test_name(wasm_module, wasm_backend):
        print("\\n", wasm_backend.variant, "runs", wasm_module(module(name="compiled")).name)
"""


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_directories(monkeypatch, tmp_path)


def what_ran(result: pytest.RunResult) -> dict[str, str]:
    lines = [line.split() for line in result.stdout.lines if " runs " in line]
    return {variant: name for variant, _, name in lines}


@pytest.mark.parametrize(
    ("cache", "isolation"), [("on", "process"), ("on", "none"), ("off", "process"), ("refresh", "process")]
)
@pytest.mark.parametrize(
    ("artifacts", "ran"),
    [
        ("cached", {"marking": "reloaded"}),
        ("fresh", {"marking": "compiled"}),
        ("both", {"marking-fresh": "compiled", "marking-reloaded": "reloaded"}),
    ],
)
def test_says_which_code_runs(
    pytester: pytest.Pytester, artifacts: str, ran: dict[str, str], cache: str, isolation: str
) -> None:
    """In the first run already: it tests what all later ones run."""
    register(pytester, "marking", MARKING, "Marking")
    pytester.makepyfile(NAMED)
    options = [f"--wasm-artifacts={artifacts}", f"--wasm-cache={cache}", f"--wasm-isolation={isolation}"]
    for _ in range(2 if isolation == "process" else 1):
        result = pytester.runpytest("--wasm-backends=marking", *options, "-s")
        result.assert_outcomes(passed=len(ran))
        assert what_ran(result) == ran


def test_cached_compiles_once_and_is_the_default(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    assert counts(fakes.runpytest(ONE)) == (2, 0, 0)
    assert counts(fakes.runpytest(ONE)) == (0, 2, 0)
    assert counts(fakes.runpytest(ONE, "--wasm-artifacts=cached")) == (0, 2, 0)


def test_fresh_compiles_in_each_run_and_stores_nothing(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fakes.makepyfile(SUITE)
    for _ in range(2):
        assert counts(fakes.runpytest(ONE, "--wasm-artifacts=fresh")) == (2, 0, 0)
    assert stored(tmp_path) == []


def test_fresh_uses_nothing_that_is_stored(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    assert counts(fakes.runpytest(ONE, "--wasm-artifacts=fresh")) == (2, 0, 0)


def test_both_stores_for_the_reloaded_ones(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    first, second = fakes.runpytest(ONE, BOTH), fakes.runpytest(ONE, BOTH)
    for result, reloaded in ((first, (2, 0, 0)), (second, (0, 2, 0))):
        result.assert_outcomes(passed=6)
        assert counts(result, "fake-a-fresh") == (2, 0, 0)
        assert counts(result, "fake-a-reloaded") == reloaded
    assert counts(fakes.runpytest(ONE)) == (0, 2, 0), "the same entries serve runs without variants"


@pytest.mark.processes
def test_precedence_is_command_line_environment_ini(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.makepyfile(SUITE)
    fakes.makeini("[pytest]\nwasm_backends = fake-a\nwasm_artifacts = fresh")
    fakes.runpytest().stdout.fnmatch_lines(["wasm: *, artifacts fresh (from tox.ini), isolation process"])
    monkeypatch.setenv("PYTEST_WASMER_ARTIFACTS", "both")
    environment = fakes.runpytest()
    environment.stdout.fnmatch_lines(["wasm: *, artifacts both (from PYTEST_WASMER_ARTIFACTS), isolation process"])
    environment.assert_outcomes(passed=6)
    option = fakes.runpytest("--wasm-artifacts=cached")
    option.stdout.fnmatch_lines(["wasm: *, artifacts cached (from --wasm-artifacts), isolation process"])
    option.assert_outcomes(passed=3)


@pytest.mark.parametrize("source", ["option", "environment", "ini", "xdist"])
def test_another_value_is_a_usage_error(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    arguments, place = ["--wasm-artifacts=reshf"], "--wasm-artifacts"
    if source == "environment":
        arguments, place = [], "PYTEST_WASMER_ARTIFACTS"
        monkeypatch.setenv(place, "reshf")
    elif source == "ini":
        arguments, place = [], "wasm_artifacts (from tox.ini)"
        fakes.makeini("[pytest]\nwasm_artifacts = reshf")
    elif source == "xdist":
        arguments += XDIST
    result = fakes.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        f"ERROR: {place}: 'reshf' is unknown. Did you mean 'fresh'? Known: cached, fresh, both."
    )


# both


def test_both_runs_each_test_on_each_in_mirror_order(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_first="""
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(wasm_backend, number): pass

        def test_last(wasm_backend): pass
        """,
        test_second="def test_it(wasm_backend): pass",
    )
    result = fakes.runpytest("--wasm-backends=fake-b,fake-a", BOTH, "--co", "-q")
    variants = [f"fake-{name}-{code}" for name in "ab" for code in ("fresh", "reloaded")]
    first = [[f"test_it[{name}-1]", f"test_it[{name}-2]", f"test_last[{name}]"] for name in variants]
    expected = [f"test_first.py::{test}" for tests in first for test in tests]
    expected += [f"test_second.py::test_it[{name}]" for name in variants]
    assert [line for line in result.stdout.lines if "::" in line] == expected


def test_both_sets_fixtures_up_once_per_variant(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def shared(wasm_instance, wasm_backend):
            print("\\nset-up", wasm_backend.variant)

        def test_one(shared): pass

        def test_two(shared): pass
        """
    )
    result = fakes.runpytest(TWO, BOTH, "-s")
    result.assert_outcomes(passed=8)
    made = [line.split()[1] for line in result.stdout.lines if line.startswith("set-up")]
    assert made == ["fake-a-fresh", "fake-a-reloaded", "fake-b-fresh", "fake-b-reloaded"]


def test_a_backend_equals_its_name_in_both_variants(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        def test_it(wasm_backend, request):
            assert wasm_backend == "fake-a" and {wasm_backend: 1}["fake-a"]
            assert request.node.name == f"test_it[{wasm_backend.variant}]"
            assert wasm_backend.variant in ("fake-a-fresh", "fake-a-reloaded")
        """
    )
    fakes.runpytest(ONE, BOTH).assert_outcomes(passed=2)


def test_the_variant_is_the_name_where_there_is_one(fakes: pytest.Pytester) -> None:
    fakes.makepyfile("def test_it(wasm_backend): assert wasm_backend.variant == 'fake-a'")
    fakes.runpytest(ONE).assert_outcomes(passed=1)


def test_markers_name_backends_and_count_for_both_variants(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest

        @pytest.mark.wasm_backends("fake-b", reason="one will do")
        def test_named(wasm_backend): pass

        @pytest.mark.wasm_xfail(**{"fake-b": "known"})
        def test_known(wasm_backend):
            assert wasm_backend == "fake-a"
        """
    )
    result = fakes.runpytest(TWO, BOTH, "-v")
    result.assert_outcomes(passed=4, skipped=2, xfailed=2)
    said = outcomes(result)
    for code in ("fresh", "reloaded"):
        assert said[f"test_named[fake-a-{code}]"] == "SKIPPED"
        assert said[f"test_known[fake-b-{code}]"] == "XFAIL"


def test_a_marker_does_not_know_variants(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest

        @pytest.mark.wasm_backends("fake-a-fresh")
        def test_it(wasm_backend): pass
        """
    )
    result = fakes.runpytest(ONE, BOTH)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*backend 'fake-a-fresh' is unknown. Did you mean 'fake-a'? Known: *"])


def test_variants_can_be_chosen_by_k(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    result = fakes.runpytest(TWO, BOTH, "-k", "fresh", "-v")
    result.assert_outcomes(passed=6, deselected=6)
    assert {name.partition("[")[2] for name in outcomes(result)} == {"fake-a-fresh]", "fake-b-fresh]"}
    assert list(rows(result)) == ["fake-a-fresh", "fake-b-fresh"]


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_what_the_fresh_test_made_cannot_serve_the_reloaded_one(fakes: pytest.Pytester, isolation: str) -> None:
    fakes.makepyfile(
        """
        from fake_engine import module, function

        KEPT = []

        def test_kept(wasm_instance):
            if not KEPT:
                KEPT.append(wasm_instance(module(exports={"add": function("i32 i32 -> i32", ["sum"])})))
            assert KEPT[0].exports.add(1, 2) == 3
        """
    )
    result = fakes.runpytest(ONE, BOTH, f"--wasm-isolation={isolation}")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["E *WrongBackend: exports of <bytes>: it was made on fake-a-fresh, this test runs on fake-a-reloaded"]
    )


TEST_CASE = """
    import unittest
    import pytest

    {mark}
    class TestIt(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def _backend(self, wasm_backend): pass

        def test_it(self): pass
"""


@pytest.mark.parametrize("mark", ["", "@pytest.mark.wasm_backends('fake-a')"])
def test_a_test_case_says_what_to_do(fakes: pytest.Pytester, mark: str) -> None:
    fakes.makepyfile(test_it=TEST_CASE.format(mark=mark))
    result = fakes.runpytest(ONE, BOTH)
    result.assert_outcomes(errors=1)
    assert (
        "test_it.py::TestIt::test_it asks for a Wasm fixture but does not run on each backend "
        "(fake-a-fresh, fake-a-reloaded): a TestCase cannot be parametrized\n"
        "Use a plain class, or say @pytest.mark.wasm_backends('fake-a') and run with --wasm-artifacts=cached"
    ) in result.stdout.str()


def test_a_test_case_on_one_variant_runs(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_it=TEST_CASE.format(mark="@pytest.mark.wasm_backends('fake-a')"))
    fakes.runpytest(TWO, "--wasm-artifacts=fresh").assert_outcomes(passed=1)


def test_both_under_xdist(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    result = fakes.runpytest(TWO, BOTH, *XDIST)
    result.assert_outcomes(passed=12)
    names = [f"fake-{name}-{code}" for name in "ab" for code in ("fresh", "reloaded")]
    assert list(rows(result)) == names
    for name in names[1::2]:
        compiled, _, refused = counts(result, name)
        assert (compiled, refused) == (2, 0), name
    second = fakes.runpytest(TWO, BOTH, *XDIST)
    second.assert_outcomes(passed=12)
    assert [counts(second, name)[0] for name in names[1::2]] == [0, 0]


@pytest.mark.parametrize("name", ["mine-fresh", "mine-reloaded"])
def test_a_name_that_looks_like_a_variant_is_a_usage_error(pytester: pytest.Pytester, name: str) -> None:
    register(pytester, name, MARKING, "Marking")
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest(f"--wasm-backends={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        f"ERROR: backend {name!r}, registered by conftest.py: names that end like this are of --wasm-artifacts=both"
    )


@needs_wheels
def test_the_three_compilers_compile_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_wasmer import Trap

        WAT = '''(module $calc
          (import "env" "log" (func $log (param i32)))
          (memory (export "memory") 1)
          (func (export "div") (param i32 i32) (result i32)
            (call $log (local.get 0)) (i32.div_s (local.get 0) (local.get 1))))'''

        def test_div(wasm_instance):
            log = []
            calc = wasm_instance(WAT, {"env": {"log": log.append}})
            assert calc.exports.div(7, 2) == 3
            with pytest.raises(Trap):
                calc.exports.div(1, 0)
            assert log == [7, 1]
        """
    )
    first = pytester.runpytest_subprocess("--wasm-backends=all")
    second = pytester.runpytest_subprocess("--wasm-backends=all")
    for result, expected in ((first, (1, 0, 0)), (second, (0, 1, 0))):
        result.assert_outcomes(passed=3)
        assert [counts(result, name) for name in ("singlepass", "cranelift", "llvm")] == [expected] * 3


@pytest.mark.processes
def test_lines_to_type_name_the_backend(fakes: pytest.Pytester) -> None:
    """Neither markers nor --wasm-backends know variants."""
    fakes.makepyfile(
        """
        from fake_engine import module, function

        def test_refused(wasm_module): wasm_module(module(refuse={"*": ("compile", "no")}))

        def test_lost(wasm_instance): wasm_instance(module(exports={"f": function("->", [["exit", 3]])})).exports.f()
        """
    )
    result = fakes.runpytest(ONE, BOTH)
    result.assert_outcomes(failed=4)
    text = result.stdout.str()
    assert 'wasm_backends(exclude="fake-a", reason="...")' in text
    assert "This backend alone: pytest --wasm-backends=fake-a\n" in text
