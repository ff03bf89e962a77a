"""--wasm-agree, PYTEST_WASMER_AGREE, wasm_agree; the marker wasm_agree; test_x[backends-agree]."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ALL = "--wasm-backends=fake-a,fake-b,fake-c"
MODULE = """
    import pytest
    from fake_engine import module, function, memory, variable

    def odd(one, other):
        return {"fake-b": other, "*": one}

    WASM = module(exports={
        "m": memory(1),
        "odd": function("i32 -> i32", odd([["return", 42]], [["return", 43]])),
        "even": function("i32 -> i32", [["return", 4]]),
        "trap": function("->", odd([["trap", "UNREACHABLE"]], [["return"]])),
        "nan": function("-> f32", odd([["return", 0x7fc00000]], [["return", 0xffc00001]])),
        "host": function("-> i32", [["host"]]),
    }, imports=[("env", "h", ["func", [], ["i32"]])])
"""
TEST = """
    @pytest.fixture
    def w(wasm_instance):
        return wasm_instance(WASM, imports={"env": {"h": lambda: 1}})

    def test_odd(w): w.exports.odd(7)
    def test_even(w): assert w.exports.even(7) == 4
    @pytest.mark.parametrize("n", [1, 2])
    def test_some(w, n): w.exports.even(n) if n == 1 else w.exports.odd(n)
"""


@pytest.fixture
def project(fakes: pytest.Pytester) -> pytest.Pytester:
    fakes.makepyfile(test_it=MODULE + TEST)
    return fakes


def test_a_disagreement_is_a_failed_test_of_its_own(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL)
    result.assert_outcomes(passed=12, failed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*_ test_odd[[]backends-agree[]] _*",
            "fake-b against fake-a and fake-c:",
            "call odd(7) (event 3):",
            "    fake-b  43  0x0000002b  0b00000000000000000000000000101011",
            "    fake-a  42  0x0000002a  0b00000000000000000000000000101010",
            "    fake-c  42  0x0000002a  0b00000000000000000000000000101010",
            "Again: pytest 'test_it.py::test_odd[[]fake-a[]]' 'test_it.py::test_odd[[]fake-b[]]' "
            "'test_it.py::test_odd[[]fake-c[]]'",
            "wasm: 2 tests agreed, 2 diverged, 0 not compared",
            "FAILED test_it.py::test_odd[[]backends-agree[]]*",
            "FAILED test_it.py::test_some[[]2-backends-agree[]]*",
        ]
    )


def test_off(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "--wasm-agree=off")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(
        ["wasm: * agree off (from --wasm-agree)*", "wasm: nothing was compared", "    4: told*"]
    )


def test_precedence(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.makeini("[pytest]\nwasm_agree = off")
    project.runpytest(ALL).assert_outcomes(passed=12)
    monkeypatch.setenv("PYTEST_WASMER_AGREE", "strict")
    project.runpytest(ALL).assert_outcomes(passed=12, failed=2)
    project.runpytest(ALL, "--wasm-agree=off").assert_outcomes(passed=12)


def test_unknown_values(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "--wasm-agree=strickt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --wasm-agree: 'strickt' is unknown. Did you mean 'strict'? *"])


@pytest.mark.parametrize(("level", "failed"), [("results", 0), ("strict", 1)])
def test_nan_bits(fakes: pytest.Pytester, level: str, failed: int) -> None:
    fakes.makepyfile(
        MODULE
        + """
    def test_nan(wasm_instance):
        wasm_instance(WASM, imports={"env": {"h": lambda: 1}}).exports.nan()
    """
    )
    fakes.runpytest(ALL, f"--wasm-agree={level}").assert_outcomes(passed=3, failed=failed)


@pytest.mark.parametrize("plugins", [(), ("-p", "xdist.plugin", "-n2")], ids=["alone", "xdist"])
def test_under_xdist(project: pytest.Pytester, plugins: tuple[str, ...]) -> None:
    result = project.runpytest(ALL, *plugins)
    result.assert_outcomes(passed=12, failed=2)
    result.stdout.fnmatch_lines(["wasm: 2 tests agreed, 2 diverged, 0 not compared"])


def test_x_stops_after_it(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "-x")
    result.stdout.fnmatch_lines(["*1 failed*"])
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_junit(project: pytest.Pytester, tmp_path: Path) -> None:
    project.runpytest(ALL, f"--junitxml={tmp_path / 'out.xml'}")
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()[0]
    assert suite.get("failures") == "2"
    failed = {case.get("name"): case.findtext("failure") for case in suite if case.find("failure") is not None}
    assert failed.keys() == {"test_odd[backends-agree]", "test_some[2-backends-agree]"}
    assert failed["test_odd[backends-agree]"].startswith("fake-b against")  # type: ignore[union-attr]


def test_lf_runs_the_members_on_all_backends(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "-p", "cacheprovider").assert_outcomes(passed=12, failed=2)
    again = project.runpytest(ALL, "-p", "cacheprovider", "--lf")
    again.assert_outcomes(passed=6, failed=2)


def test_lf_forgets_only_what_was_compared_and_agreed(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "-p", "cacheprovider")
    project.runpytest(ALL, "-p", "cacheprovider", "--lf", "-k", "fake-a").assert_outcomes(passed=2, deselected=4)
    project.runpytest(ALL, "-p", "cacheprovider", "--lf").assert_outcomes(passed=6, failed=2)
    # Of another size: a file of the same size and second would be taken for the same.
    project.makepyfile(test_it=(MODULE + TEST).replace('["return", 43]', '["return", 42 ]'))
    project.runpytest(ALL, "-p", "cacheprovider", "--lf").assert_outcomes(passed=6)
    project.runpytest(ALL, "-p", "cacheprovider", "--lf").assert_outcomes(passed=12)


def test_parts_of_a_group_are_not_compared(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "-k", "fake-a or fake-b")
    result.assert_outcomes(passed=8, deselected=4)
    result.stdout.fnmatch_lines(["wasm: nothing was compared", "    4: 2 of 3 backends ran it"])


def test_one_backend(project: pytest.Pytester) -> None:
    result = project.runpytest("--wasm-backends=fake-a")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["wasm: nothing was compared", "    4: one backend only"])


def test_a_member_that_fails_is_one_failure_only(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        MODULE
        + """
    def test_odd(wasm_instance):
        assert wasm_instance(WASM, imports={"env": {"h": lambda: 1}}).exports.odd(1) == 42
    """
    )
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["    1: did not pass on fake-b"])


def test_excluded_backends_are_no_members(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        MODULE
        + """
    @pytest.mark.wasm_backends(exclude="fake-b", reason="odd")
    def test_odd(wasm_instance):
        wasm_instance(WASM, imports={"env": {"h": lambda: 1}}).exports.odd(1)
    """
    )
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared"])


def test_inputs_that_differ_are_said(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        MODULE
        + """
    def test_random(wasm_instance, wasm_backend):
        w = wasm_instance(WASM, imports={"env": {"h": lambda: 1}})
        w.exports.even(len(wasm_backend) + ord(wasm_backend[-1]))
    """
    )
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "    1: the test itself is not deterministic: test_*::test_random[[]backends-agree[]]: "
            "call even(103) on fake-a, call even(104) on fake-b, call even(105) on fake-c"
        ]
    )


STATES = """
    @pytest.fixture
    def w(wasm_instance):
        return wasm_instance(WASM, imports={"env": {"h": lambda: 1}})

    def test_read(w, wasm_backend):
        assert w.memory.size == 65536

    def test_memory_differs(w, wasm_backend):
        if wasm_backend == "fake-b":
            w.memory._use().write(w.memory._handle, 70, b"x", "behind the recorder's back")
        w.exports.even(1)

    def test_memory_of_a_dead_instance(wasm_instance, wasm_backend):
        w = wasm_instance(WASM, imports={"env": {"h": lambda: 1}})
        w.exports.even(1)
        if wasm_backend == "fake-c":
            w.memory._use().write(w.memory._handle, 70, b"x", "behind the recorder's back")
        del w
"""


def test_what_is_left_of_instances_is_compared(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(MODULE + STATES)
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=9, failed=2)
    result.stdout.fnmatch_lines(
        [
            "fake-b against fake-a and fake-c:",
            "After the test, memory 'm' of instance 0 differs:",
            "    fake-b  1 pages; page 0 *",
            "    fake-a  1 pages; page 0 zeros",
            "fake-c against fake-a and fake-b:",
        ]
    )


SHARED = """
    @pytest.fixture(scope="module")
    def w(wasm_instance):
        return wasm_instance(WASM, imports={"env": {"h": lambda: 1}})

    def test_first(w): w.exports.even(1)
    def test_second(w): w.exports.even(2)
    def test_odd(w): w.exports.odd(3)
"""


def test_shared_instances_with_equal_histories(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(MODULE + SHARED)
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=9, failed=1)
    result.stdout.fnmatch_lines(["wasm: 2 tests agreed, 1 diverged, 0 not compared"])


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (
            """
    @pytest.mark.wasm_backends("fake-b", reason="here only")
    def test_between(w): w.exports.even(9)
    """,
            "one backend only",
        ),
        (
            """
    def test_between(w, wasm_backend): w.exports.even(8 if wasm_backend == "fake-b" else 10)
    """,
            "the test itself is not deterministic: *",
        ),
    ],
    ids=["a call more", "other arguments"],
)
def test_another_history_is_no_false_alarm(fakes: pytest.Pytester, between: str, why: str) -> None:
    fakes.makepyfile(f"{MODULE}{SHARED}{between}\n    def test_last(w): w.exports.even(10)\n")
    result = fakes.runpytest(ALL)
    result.stdout.fnmatch_lines(
        [
            "wasm: 2 tests agreed, 1 diverged, 2 not compared",
            f"    1: {why}",
            "    1: instances that tests share had been used otherwise before*",
        ]
    )


def test_the_last_attempt_of_a_flaky_test_counts(fakes: pytest.Pytester) -> None:
    pytest.importorskip("pytest_rerunfailures")
    fakes.makepyfile(
        MODULE
        + """
    TRIES = []

    @pytest.mark.flaky(reruns=2)
    def test_flaky(wasm_instance, wasm_backend):
        TRIES.append(wasm_backend)
        w = wasm_instance(WASM, imports={"env": {"h": lambda: 1}})
        if wasm_backend == "fake-b" and TRIES.count("fake-b") == 1:
            w.exports.odd(1)
            assert False
        w.exports.even(1)
    """
    )
    result = fakes.runpytest(ALL, "-p", "rerunfailures")
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared"])


def test_host_calls_are_compared(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
    import pytest
    from fake_engine import module, function

    WASM = module(exports={"f": function("-> i32", {"fake-b": [["return", 1]], "*": [["host"]]})},
                  imports=[("env", "h", ["func", [], ["i32"]])])

    @pytest.mark.parametrize("level", [pytest.param(0, marks=pytest.mark.wasm_agree(host_calls=False)), 1])
    def test_host(wasm_instance, level):
        assert wasm_instance(WASM, imports={"env": {"h": lambda: 1}}).exports.f() == 1
    """
    )
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["    fake-b  1 *", "    fake-a  host call env.h()"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("wasm_agree('strickt')", "level 'strickt' is unknown. Did you mean 'strict'? Known: results, strict, off"),
        ("wasm_agree(memory=0)", "memory is True or False, not 0"),
        ("wasm_agree()", 'say what it changes: wasm_agree("strict"), or wasm_agree(memory=False, reason="...")'),
    ],
)
def test_wrong_markers(fakes: pytest.Pytester, marker: str, message: str) -> None:
    fakes.makepyfile(f"import pytest\n@pytest.mark.{marker}\ndef test_it(wasm_backend): pass")
    result = fakes.runpytest(ALL)
    result.assert_outcomes(errors=1)
    assert any(message in line for line in result.stdout.lines)


def test_x_under_xdist_hands_out_no_more_tests(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_more=MODULE + "    @pytest.mark.parametrize('n', range(60))\n    def test_more(wasm_backend, n): pass"
    )
    result = project.runpytest(
        ALL, "-p", "xdist.plugin", "-n1", "-x", "--maxschedchunk=1", "test_it.py", "test_more.py"
    )
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1
    assert outcomes["passed"] < 12 + 30
    result.stdout.fnmatch_lines(["*test_odd[[]backends-agree[]]*", "*stopping after 1 failures*"])


def test_maxfail_counts_it(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "--maxfail=2").stdout.fnmatch_lines(["*stopping after 2 failures*"])


def test_stepwise_goes_on_at_its_members(project: pytest.Pytester) -> None:
    arguments = (ALL, "-p", "cacheprovider", "-p", "stepwise", "--sw")
    project.runpytest(*arguments).assert_outcomes(passed=9, failed=1)
    again = project.runpytest(*arguments)
    again.assert_outcomes(passed=9, failed=1)  # nothing is mended: from the first member on
    project.makepyfile(test_it=(MODULE + TEST).replace('["return", 43]', '["return", 42 ]'))
    project.runpytest(*arguments).assert_outcomes(passed=12)


def test_a_hook_that_changes_its_list_changes_that_of_one_member(fakes: pytest.Pytester) -> None:
    """Members that saw the same share what was unpacked."""
    fakes.makeconftest(
        fakes.path.joinpath("conftest.py").read_text()
        + """
LENGTHS = []

def pytest_wasmer_normalize(group, events):
    LENGTHS.append(len(events))
    del events[-1]
    return events

def pytest_unconfigure():
    print("lengths:", LENGTHS)
"""
    )
    fakes.makepyfile(
        MODULE
        + """
    def test_even(wasm_instance):
        wasm_instance(WASM, imports={"env": {"h": lambda: 1}}).exports.even(7)
    """
    )
    result = fakes.runpytest(ALL, "-s")
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared", "lengths: [[]4, 4, 4[]]"])
