"""`wasm_all`: a test that runs once, and asks all its backends at once."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needs_wheels
from tests.integration.workbench import XDIST, rows

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.processes

ALL = "--wasm-backends=fake-a,fake-b,fake-c"
MODULE = """
    import pytest
    from fake_engine import module, function, memory, variable
    from pytest_wasmer import Divergence, Trap, WrongBackend

    WASM = module(
        imports=[("env", "h", ["func", ["i32"], ["i32"]])],
        exports={
            "add": function("i32 i32 -> i32", ["sum"]),
            "odd": function("-> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]}),
            "nan": function("-> f32", {"fake-b": [["return", 0xffc00001]], "*": [["return", 0x7fc00000]]}),
            "host": function("i32 -> i32", ["host"]),
            "die": function("->", {"fake-b": [["signal", "SIGABRT"]], "*": [["return"]]}),
            "memory": memory(1),
        },
    )

    @pytest.fixture(scope="module")
    def everywhere(wasm_all):
        return wasm_all(WASM, imports={"env": {"h": lambda value: value + 1}})
"""


@pytest.fixture
def project(fakes: pytest.Pytester) -> pytest.Pytester:
    fakes.makepyfile(
        test_it=MODULE
        + """
    def test_add(everywhere): assert everywhere.exports.add(1, 2) == 3
    @pytest.mark.parametrize("n", [1, 2])
    def test_host(everywhere, n): assert everywhere.exports.host(n) == n + 1
    def test_odd(everywhere): everywhere.exports.odd()
    def test_each(wasm_backend): pass
    def test_plain(): pass
    """
    )
    return fakes


def summary(result: pytest.RunResult) -> list[str]:
    """With times left out."""
    start = next(index for index, line in enumerate(result.stdout.lines) if "= wasm backends =" in line)
    found = [re.sub(r"\d+\.\d\d s", "0.00 s", line) for line in result.stdout.lines[start + 1 :]]
    return [line for line in found if not line.startswith(("=", "FAILED", "SKIPPED", "ERROR"))]


# What runs


def test_it_runs_once_and_its_id_has_no_backend(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "--collect-only", "-q")
    assert [line for line in result.stdout.lines if "::" in line] == [
        "test_it.py::test_add",
        "test_it.py::test_host[1]",
        "test_it.py::test_host[2]",
        "test_it.py::test_odd",
        "test_it.py::test_each[fake-a]",
        "test_it.py::test_each[fake-b]",
        "test_it.py::test_each[fake-c]",
        "test_it.py::test_plain",
    ]


def test_a_divergence_is_the_test_s_own_failure(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL)
    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_odd _*",
            ">*everywhere.exports.odd()",
            "E   pytest_wasmer.Divergence: fake-b against fake-a and fake-c:",
            "E   call of 'odd' of <bytes>:",
            "E       fake-b  43  0x0000002b  0b00000000000000000000000000101011",
            "E       fake-a  42  0x0000002a  0b00000000000000000000000000101010",
            "E       fake-c  42  0x0000002a  0b00000000000000000000000000101010",
            "test_it.py:*: Divergence",
            "FAILED test_it.py::test_odd - pytest_wasmer.Divergence: fake-b against fake-*",
        ]
    )


@pytest.mark.parametrize("more", [(), XDIST], ids=["alone", "xdist"])
def test_header_and_summary_of_a_suite_of_nothing_else(fakes: pytest.Pytester, more: tuple[str, ...]) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    def test_add(everywhere): assert everywhere.exports.add(1, 2) == 3
    @pytest.mark.wasm_backends("fake-a", "fake-c")
    def test_two(everywhere): assert everywhere.exports.odd() == 42
    @pytest.mark.wasm_backends("fake-b")
    def test_one(everywhere): assert everywhere.exports.odd() == 43
    @pytest.mark.wasm_agree("off")
    def test_off(everywhere): assert everywhere.exports.odd() == 42
    @pytest.mark.wasm_backends("llvm", reason="SIMD")
    def test_none(everywhere): pass
    """
    )
    result = fakes.runpytest(ALL, "-rs", *more)
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * wasm_backends('llvm'): SIMD (selected: fake-a, fake-b, fake-c)"])
    said = summary(result)
    row = rows(result)["all at once"]
    assert (row["passed"], row["failed"], row["skipped"]) == ("4", "0", "1")
    assert sum(int(rows(result)[name]["passed"]) for name in ("fake-a", "fake-b", "fake-c")) == 0
    assert sorted(line for line in said if line.startswith("wasm:")) == [
        "wasm: 1 test asked 2 backends at once",
        "wasm: 1 test asked 3 backends at once",
        "wasm: 1 test asked 3 backends at once, told not to compare",
        "wasm: 1 test had one backend to ask: nothing was compared",
    ]


@needs_wheels
def test_the_header_is_there_without_any_setting(fakes: pytest.Pytester) -> None:
    fakes.makeini("[pytest]")
    fakes.makepyfile("def test_it(wasm_all): pass")
    result = fakes.runpytest("--collect-only")
    result.stdout.fnmatch_lines(["wasm: backends *"])


def test_modules_count_where_they_were_compiled(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "--wasm-cache=off", "-k", "test_add")
    result.assert_outcomes(passed=1, deselected=7)
    assert summary(result) == [
        "backend      passed  failed  skipped  compiled  loaded  compile   saved     run",
        "fake-a            0       0        0         1       0   0.00 s  0.00 s  0.00 s",
        "fake-b            0       0        0         1       0   0.00 s  0.00 s  0.00 s",
        "fake-c            0       0        0         1       0   0.00 s  0.00 s  0.00 s",
        "all at once       1       0        0         0       0   0.00 s  0.00 s  0.00 s",
        "wasm: 1 test asked 3 backends at once",
    ]


def test_beside_tests_that_run_on_each(project: pytest.Pytester) -> None:
    said = summary(project.runpytest(ALL, "-k", "not odd"))
    assert [line for line in said if line.startswith("wasm")] == [
        "wasm: 3 tests asked 3 backends at once",
        "wasm: nothing was compared",
    ]


def test_a_backend_s_name_selects_only_those_that_run_on_each(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "-k", "fake-a").assert_outcomes(passed=1, deselected=7)


@pytest.mark.parametrize("more", [(), XDIST], ids=["alone", "xdist"])
def test_junit(project: pytest.Pytester, tmp_path: Path, more: tuple[str, ...]) -> None:
    file = tmp_path / "junit.xml"
    project.runpytest(ALL, f"--junitxml={file}", *more).assert_outcomes(passed=7, failed=1)
    cases = {case.get("name"): case for case in ElementTree.parse(file).iter("testcase")}
    assert {"test_add", "test_host[1]", "test_odd"} <= {*cases}
    failure = cases["test_odd"].find("failure")
    assert failure is not None
    assert "Divergence: fake-b against fake-a and fake-c:" in (failure.get("message") or "")


def test_both_kinds_of_code(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "--wasm-artifacts=both", "-k", "test_add or test_odd")
    result.assert_outcomes(passed=1, failed=1, deselected=9)
    result.stdout.fnmatch_lines(
        [
            "E   *Divergence: fake-b-fresh and fake-b-reloaded against fake-a-fresh, fake-a-reloaded, *",
            "wasm: 2 tests asked 6 backends at once",
        ]
    )


def test_by_direct_call(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "--wasm-isolation=none").assert_outcomes(passed=7, failed=1)


def test_a_test_case_and_a_dynamic_request(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    import unittest

    class TestIt(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def _it(self, wasm_all):
            self.make = wasm_all

        def test_add(self):
            assert self.make(module(exports={"f": function("-> i32", [["return", 3]])})).exports.f() == 3

    def test_dynamic(request):
        wasm_all = request.getfixturevalue("wasm_all")
        odd = function("-> i32", {"fake-a": [["return", 3]], "*": [["return", 4]]})
        with pytest.raises(Divergence):
            wasm_all(module(exports={"f": odd})).exports.f()

    @pytest.mark.wasm_backends("llvm")
    def test_dynamic_none(request):
        request.getfixturevalue("wasm_all")(WASM)

    @pytest.mark.wasm_xfail(llvm="known")
    def test_dynamic_xfail(request):
        request.getfixturevalue("wasm_all")(WASM)

    def test_mixed(request, wasm_backend):
        request.getfixturevalue("wasm_all")(WASM)
    """
    )
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=2, skipped=1, failed=4)
    result.stdout.fnmatch_lines(
        [
            "marker wasm_xfail of test_it.py::test_dynamic_xfail: it names backends, and a test that uses wasm_all *",
            "test_it.py::test_mixed[[]fake-a[]] runs on each backend: it cannot ask all of them at once, too",
            "Name wasm_all in its signature, and nothing that runs it on each backend.",
        ]
    )


# Refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("wasm_all, wasm_instance", "wasm_instance"),
        ("wasm_all, wasm_module", "wasm_module"),
        ("wasm_all, wasm_round_trip", "wasm_round_trip"),
        ("wasm_all, wasm_backend", "wasm_backend"),
        ("everywhere, mine", "wasm_instance (through mine)"),
    ],
)
def test_together_with_a_fixture_per_backend(fakes: pytest.Pytester, arguments: str, said: str) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + f"""
    @pytest.fixture
    def mine(wasm_instance): pass

    def test_x({arguments}): pass
    """
    )
    result = fakes.runpytest(ALL)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    shown = [line for line in result.stdout.lines if line.startswith(("test_it.py::", "Make two"))]
    assert shown == [
        f"test_it.py::test_x uses wasm_all and {said}: wasm_all asks all backends in one test, which cannot run on "
        "each backend, too",
        "Make two tests of it, or make all its instances by wasm_all(source, imports).",
    ]


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (
            "wasm_xfail(llvm='known')",
            'Say @pytest.mark.xfail(raises=Divergence, strict=True, reason="...").',
        ),
        ("wasm_agree(host_calls=False)", "Leave out host_calls=False."),
        ("wasm_backends('fake-d')", "marker wasm_backends of test_it.py::test_x: backend 'fake-d' is unknown.*"),
    ],
)
def test_markers_that_make_no_sense(fakes: pytest.Pytester, marker: str, said: str) -> None:
    fakes.makepyfile(test_it=f"import pytest\n@pytest.mark.{marker}\ndef test_x(wasm_all): pass")
    result = fakes.runpytest(ALL)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([said])


def test_late_ones_fail_the_test(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.mark.parametrize("n", [
        pytest.param(1, marks=pytest.mark.wasm_xfail(llvm="known")),
        pytest.param(2, marks=pytest.mark.wasm_backends("llvm")),
        pytest.param(3, marks=pytest.mark.wasm_backends("lvm")),
    ])
    def test_x(everywhere, n): pass
    """
    )
    fakes.runpytest(ALL).assert_outcomes(errors=2, skipped=1)


def test_an_xfail_of_pytest_s_own(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.mark.xfail(raises=Divergence, strict=True, reason="known")
    def test_x(everywhere): everywhere.exports.odd()

    @pytest.mark.xfail(strict=True, reason="known")
    def test_crash(everywhere): everywhere.exports.die()
    """
    )
    fakes.runpytest(ALL).assert_outcomes(xfailed=1, failed=1)


# Which backends, and by which level


def test_markers_choose_backends_and_fixtures_are_made_for_them(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    made = []

    @pytest.fixture(scope="module")
    def on_top(everywhere):
        made.append(repr(everywhere))
        return everywhere

    def test_1(on_top):
        with pytest.raises(Divergence): on_top.exports.odd()
    def test_2(on_top): on_top.exports.add(1, 1)
    @pytest.mark.wasm_backends(exclude="fake-b", reason="odd")
    def test_3(on_top): on_top.exports.odd()
    @pytest.mark.wasm_backends("fake-b")
    def test_4(on_top): assert on_top.exports.odd() == 43
    def test_5(on_top):
        with pytest.raises(Divergence): on_top.exports.odd()
        assert made == [
            f"<Instance of <bytes> on {names}>"
            for names in ("fake-a, fake-b, fake-c", "fake-a, fake-c", "fake-b", "fake-a, fake-b, fake-c")
        ]
    """
    )
    fakes.runpytest(ALL).assert_outcomes(passed=5)


def test_what_was_kept_for_other_backends_is_refused(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    kept = {}

    def test_three(everywhere): kept["three"] = everywhere
    @pytest.mark.wasm_backends("fake-a", "fake-b")
    def test_two(everywhere):
        kept["two"] = everywhere
        with pytest.raises(WrongBackend, match="it was made on fake-a, fake-b, fake-c, this test asks fake-a, fake-b"):
            kept["three"].exports.add(1, 2)
    def test_less_than_all(everywhere):
        two = kept["two"]
        for work in (lambda: two.exports.odd(), lambda: two.memory.size, lambda: two.exports.odd.map([()])):
            with pytest.raises(WrongBackend, match="made on fake-a, fake-b, this test asks fake-a, fake-b, fake-c"):
                work()
    def test_per_backend(wasm_backend):
        with pytest.raises(WrongBackend):
            kept["three"].exports.add(1, 2)
    """
    )
    fakes.runpytest(ALL).assert_outcomes(passed=6)


@pytest.mark.parametrize(
    ("option", "marker", "nan", "odd"),
    [
        ("results", None, "passes", "fails"),
        ("strict", None, "fails", "fails"),
        ("off", None, "passes", "passes"),
        ("results", "strict", "fails", "fails"),
        ("strict", "results", "passes", "fails"),
        ("results", "off", "passes", "passes"),
        ("off", "strict", "fails", "fails"),
    ],
)
def test_the_level(fakes: pytest.Pytester, option: str, marker: str | None, nan: str, odd: str) -> None:
    mark = f"@pytest.mark.wasm_agree({marker!r})" if marker else ""
    fakes.makepyfile(
        test_it=MODULE
        + f"""
    def test_first(everywhere): pass
    {mark}
    def test_nan(everywhere): everywhere.exports.nan()
    {mark}
    def test_odd(everywhere): everywhere.exports.odd()
    def test_dynamic(request): pass
    """
    )
    result = fakes.runpytest(ALL, f"--wasm-agree={option}")
    failed = [nan, odd].count("fails")
    result.assert_outcomes(passed=4 - failed, failed=failed)


# Losses


@pytest.mark.parametrize("more", [(), XDIST], ids=["alone", "xdist"])
def test_a_crash_is_one_failed_test_and_fixtures_are_made_anew(fakes: pytest.Pytester, more: tuple[str, ...]) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.fixture(scope="class")
    def on_top(everywhere):
        everywhere.memory.write(0, b"fresh")
        return everywhere

    class TestIt:
        def test_before(self, on_top): assert on_top.exports.add(1, 2) == 3
        def test_dies(self, on_top): on_top.exports.die()
        def test_after(self, on_top):
            assert on_top.exports.add(1, 2) == 3
            assert on_top.memory.read(0, 5) == b"fresh"
        def test_hides(self, on_top):
            try:
                on_top.exports.die()
            except Exception:
                pass
    def test_last(everywhere): assert everywhere.exports.host(1) == 2
    """
    )
    result = fakes.runpytest(ALL, *more)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E   *EngineLost: the fake-b engine process was lost: killed by SIGABRT",
            "*Captured fake-b engine output call*",
        ]
    )
