"""xdist, randomly, rerunfailures, cov, Hypothesis, the cache provider, JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tests.integration.test_markers import outcomes

pytestmark = pytest.mark.processes

TWO = "--wasm-backends=fake-a,fake-b"
ODD = """
    import pytest
    from fake_engine import module, function

    WASM = module(exports={
        "add": function("i32 i32 -> i32", ["sum"]),
        "odd": function("-> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]}),
    })

    @pytest.mark.parametrize("x", range(4))
    def test_add(wasm_instance, x):
        assert wasm_instance(WASM).exports.add(x, 1) == x + 1

    def test_odd(wasm_instance):
        assert wasm_instance(WASM).exports.odd() == 42

    def test_plain():
        pass
"""


def test_xdist(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(ODD)
    for arguments in (
        ["-p", "xdist", "-n", "2"],
        ["-p", "xdist", "-n", "2", "--dist", "loadfile"],
        ["-p", "xdist", "-n", "2", "--dist", "loadscope"],
    ):
        result = fakes.runpytest(TWO, *arguments)
        result.assert_outcomes(passed=10, failed=1)
        result.stdout.fnmatch_lines(["*= wasm backends =*", "fake-a *5 *0 *", "fake-b *4 *1 *"])


def test_x_stops_at_the_first_failure(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(ODD)
    result = fakes.runpytest(TWO, "-x")
    result.assert_outcomes(passed=9, failed=1)


def test_last_failed_reruns_the_backend_that_failed(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(ODD)
    fakes.runpytest(TWO).assert_outcomes(passed=10, failed=1)
    again = fakes.runpytest(TWO, "--lf", "-v")
    assert outcomes(again) == {"test_odd[fake-b]": "FAILED"}


def test_failed_first(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_a="def test_plain(): pass", test_b=ODD)
    fakes.runpytest(TWO)
    again = fakes.runpytest(TWO, "--ff", "-v")
    assert next(iter(outcomes(again))) == "test_odd[fake-b]"


def test_junit_has_a_case_per_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(ODD)
    fakes.runpytest(TWO, "--junit-xml=out.xml")
    cases = ElementTree.parse(fakes.path / "out.xml").iter("testcase")
    names = sorted(str(case.get("name")) for case in cases if str(case.get("name")).startswith("test_odd"))
    assert names == ["test_odd[fake-a]", "test_odd[fake-b]"]


def test_reruns_get_a_live_engine(fakes: pytest.Pytester) -> None:
    """The first attempt kills the engine process under a module-scoped instance."""
    fakes.makepyfile(
        """
        import pytest
        from fake_engine import module, function

        WASM = module(exports={"f": function("-> i32", [["return", 1]]), "die": function("->", [["exit", 3]])})
        ATTEMPTS = []

        @pytest.fixture(scope="module")
        def instance(wasm_instance):
            return wasm_instance(WASM)

        @pytest.mark.flaky(reruns=2)
        def test_flaky(instance, wasm_backend):
            ATTEMPTS.append(wasm_backend)
            if len(ATTEMPTS) == 1:
                instance.exports.die()
            assert instance.exports.f() == 1

        def test_after(instance):
            assert instance.exports.f() == 1
        """
    )
    result = fakes.runpytest(TWO, "-p", "rerunfailures")
    result.stdout.fnmatch_lines(["fake-a *2 *0 *", "*4 passed*1 rerun*"])


def test_coverage_of_the_test_process_is_not_disturbed(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    fakes.makepyfile(ODD, helper="def used(): return 1")
    result = fakes.runpytest_subprocess(TWO, "-p", "pytest_cov", "--cov=.", "--cov-report=term")
    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(["TOTAL *"])
    result.stdout.no_fnmatch_line("*CoverageWarning*")


def test_hypothesis_with_the_session_scoped_factories(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        from fake_engine import module, function
        from hypothesis import given, strategies

        WASM = module(exports={"add": function("i32 i32 -> i32", ["sum"])})
        numbers = strategies.integers(0, 1000)

        @given(x=numbers, y=numbers)
        def test_add(wasm_instance, x, y):
            assert wasm_instance(WASM).exports.add(x, y) == x + y
        """
    )
    fakes.runpytest(TWO, "-p", "hypothesispytest").assert_outcomes(passed=2)


def test_setup_plan_and_fixtures_start_nothing(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(ODD)
    for option in ("--setup-plan", "--fixtures", "--collect-only"):
        result = fakes.runpytest(TWO, option)
        assert result.ret == 0
        result.stdout.no_fnmatch_line("*= wasm backends =*")
