"""The table at the end of a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def test_counts_tests_modules_and_time_per_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest
        from fake_engine import module, function

        ONE = module(exports={"odd": function("-> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]})})
        TWO = module(name="two")

        def test_odd(wasm_instance):
            wasm_instance(ONE)
            assert wasm_instance(ONE).exports.odd() == 42

        @pytest.mark.wasm_backends("fake-a", reason="one is enough")
        def test_second(wasm_module):
            assert wasm_module(ONE) is wasm_module(bytes(ONE))
            wasm_module(TWO)

        @pytest.mark.wasm_xfail(**{"fake-a": "known", "fake-b": "known"})
        def test_known(wasm_backend):
            assert False

        @pytest.fixture
        def broken(wasm_instance):
            raise RuntimeError

        def test_error(broken): pass

        def test_plain(): pass
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a,fake-b")
    result.assert_outcomes(passed=3, failed=1, skipped=1, xfailed=2, errors=2)
    start = next(index for index, line in enumerate(result.stdout.lines) if "= wasm backends =" in line)
    table = [re.sub(r"\d+\.\d\d s", "0.00 s", line) for line in result.stdout.lines[start + 1 : start + 4]]
    assert table == [
        "backend  passed  failed  skipped  xfailed  compiled  loaded  compile   saved     run",
        "fake-a        2       1        0        1         2       0   0.00 s  0.00 s  0.00 s",
        "fake-b        0       2        1        1         1       0   0.00 s  0.00 s  0.00 s",
    ]


def test_counts_tests_that_ask_by_name_each(fakes: pytest.Pytester) -> None:
    """The second of them gets the backend that the first one asked for: nobody chooses it again."""
    fakes.makepyfile(
        """
        import unittest
        import pytest
        from fake_engine import module

        def test_one(request):
            request.getfixturevalue("wasm_instance")(module(name="one"))

        def test_two(request):
            request.getfixturevalue("wasm_instance")(module(name="two"))

        @pytest.fixture
        def instance(request):
            request.cls.instance = request.getfixturevalue("wasm_instance")(module(name="three"))

        @pytest.mark.usefixtures("instance")
        class TestThree(unittest.TestCase):
            def test_three(self):
                assert self.instance

        def test_plain(): pass
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a")
    result.assert_outcomes(passed=4)
    result.stdout.re_match_lines([r"fake-a +3 +0 +0 "])


def test_what_is_not_compared_on_one_backend_has_one_reason(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        from fake_engine import module

        def test_one(wasm_instance):
            wasm_instance(module(name="one"))
        """
    )
    for arguments in ([], ["--wasm-agree=off"], ["--wasm-agree=off", "--wasm-report=run.json"]):
        result = fakes.runpytest("--wasm-backends=fake-a", *arguments)
        result.stdout.fnmatch_lines(["wasm: nothing was compared", "    1: one backend only"])


def test_counts_what_became_of_tests_in_the_end(fakes: pytest.Pytester) -> None:
    """Other plugins change outcomes of reports after they were made."""
    fakes.makeconftest(
        fakes.path.joinpath("conftest.py").read_text()
        + """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    if report.when == "call" and "to_fail" in report.nodeid:
        report.outcome, report.longrepr = "failed", "the log has errors"
    if report.when == "call" and "to_pass" in report.nodeid:
        report.outcome, report.longrepr = "passed", None
"""
    )
    fakes.makepyfile(
        """
        from fake_engine import module, function

        ONE = module(exports={"add": function("i32 i32 -> i32", ["sum"])})

        def test_to_fail(wasm_instance): assert wasm_instance(ONE).exports.add(1, 2) == 3
        def test_to_pass(wasm_instance): assert wasm_instance(ONE).exports.add(1, 2) == 4
        def test_add(wasm_instance): assert wasm_instance(ONE).exports.add(1, 2) == 3
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a,fake-b")
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(
        [
            "fake-a        2       1        0 *",
            "fake-b        2       1        0 *",
            "wasm: 2 tests agreed, 0 diverged, 1 not compared",
            "    1: did not pass on fake-a, fake-b",
        ]
    )
