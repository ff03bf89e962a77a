"""wasm_backends and wasm_xfail."""

from __future__ import annotations

import pytest

from tests.conftest import KNOWN

RUN = "--wasm-backends=fake-a,fake-b,fake-c"
MODULE = """
    import pytest
    from fake_engine import module, function

    WASM = module(exports={
        "odd": function("-> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]}),
        "die": function("->", {"fake-b": [["signal", "SIGKILL"]], "*": [["return"]]}),
    })
"""


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """What `-v` says per test id."""
    lines = [line.split() for line in result.stdout.lines if "::" in line and "%]" in line]
    return {line[0].partition("::")[2]: line[1] for line in lines}


def test_names_and_exclude(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.wasm_backends(exclude="fake-c", reason="no SIMD")

        @pytest.mark.wasm_backends("fake-a", "fake-c")
        def test_named(wasm_backend): pass

        @pytest.mark.wasm_backends(exclude=["fake-a"])
        class TestExcluded:
            def test_it(self, wasm_backend): pass

        def test_module_marker_only(wasm_backend): pass
        """
    )
    result = fakes.runpytest(RUN, "-v", "-rs")
    assert outcomes(result) == {
        "test_named[fake-a]": "PASSED",
        "TestExcluded::test_it[fake-a]": "SKIPPED",
        "test_module_marker_only[fake-a]": "PASSED",
        "test_named[fake-b]": "SKIPPED",
        "TestExcluded::test_it[fake-b]": "PASSED",
        "test_module_marker_only[fake-b]": "PASSED",
        "test_named[fake-c]": "SKIPPED",
        "TestExcluded::test_it[fake-c]": "SKIPPED",
        "test_module_marker_only[fake-c]": "SKIPPED",
    }
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED *: wasm_backends('fake-a', 'fake-c')",
            "SKIPPED *: wasm_backends(exclude='fake-a')",
            "SKIPPED *: wasm_backends(exclude='fake-c'): no SIMD",
        ]
    )


WRONG = "marker of test_wrong.py::test_it: "


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "wasm_backends('lvm')",
            "marker wasm_backends of test_wrong.py::test_it: backend 'lvm' is unknown. Did you mean 'llvm'? "
            f"Known: {KNOWN}.",
        ),
        (
            "wasm_backends(exclude='fake')",
            "marker wasm_backends of test_wrong.py::test_it: backend 'fake' is unknown. Did you mean 'fake-c'? "
            f"Known: {KNOWN}.",
        ),
        (
            "wasm_backends()",
            "marker of test_wrong.py::test_it: name a backend: wasm_backends('llvm'), or "
            "wasm_backends(exclude='singlepass', reason='...')",
        ),
        (
            "wasm_backends('fake-a', colour='x')",
            "marker of test_wrong.py::test_it: wasm_backends() got an unexpected keyword argument 'colour'",
        ),
        ("wasm_backends(3)", "marker of test_wrong.py::test_it: a backend is named by a str, not 3"),
        ("wasm_backends('fake-a', reason=3)", "marker of test_wrong.py::test_it: reason is a str, not 3"),
        (
            "wasm_xfail()",
            "marker of test_wrong.py::test_it: name a backend and the reason: wasm_xfail(llvm='...')",
        ),
        (
            "wasm_xfail(llvm=True)",
            "marker of test_wrong.py::test_it: the reason for llvm is a str that says why, not True",
        ),
        (
            "wasm_xfail(lvm='x')",
            "marker wasm_xfail of test_wrong.py::test_it: backend 'lvm' is unknown. Did you mean 'llvm'? "
            f"Known: {KNOWN}.",
        ),
        ("wasm_timeout()", f"{WRONG}say what it limits: wasm_timeout(2), or wasm_timeout(compile=60)"),
        ("wasm_timeout('2')", f"{WRONG}seconds is a number of seconds, not '2'"),
        ("wasm_timeout(compile=-1)", f"{WRONG}compile is a number of seconds, not -1"),
        ("wasm_timeout(float('nan'))", f"{WRONG}seconds is a number of seconds, not nan"),
        ("wasm_memory_limit('much')", f"{WRONG}size is a number of bytes, or a str such as '64 MiB', not 'much'"),
        ("wasm_memory_limit(1.5)", f"{WRONG}size is a number of bytes, or a str such as '64 MiB', not 1.5"),
    ],
)
def test_wrong_arguments_are_collection_errors(fakes: pytest.Pytester, marker: str, message: str) -> None:
    fakes.makepyfile(test_wrong=f"import pytest\n@pytest.mark.{marker}\ndef test_it(wasm_backend): pass")
    result = fakes.runpytest(RUN)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert message in result.stdout.lines


def test_wrong_arguments_are_collection_errors_of_workers_of_xdist(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_wrong="import pytest\n@pytest.mark.wasm_timeout()\ndef test_it(wasm_backend): pass")
    result = fakes.runpytest(RUN, "-p", "xdist", "-n", "1")
    assert result.ret == 1
    assert f"{WRONG}say what it limits: wasm_timeout(2), or wasm_timeout(compile=60)" in result.stdout.lines


def test_xfail_is_strict(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        MODULE
        + """
    @pytest.mark.wasm_xfail(**{"fake-b": "wasmer#1: wrong result"})
    def test_known(wasm_instance):
        assert wasm_instance(WASM).exports.odd() == 42

    @pytest.mark.wasm_xfail(**{"fake-a": "mended upstream"})
    @pytest.mark.wasm_backends("fake-a")
    def test_mended(wasm_instance):
        assert wasm_instance(WASM).exports.odd() == 42
    """
    )
    result = fakes.runpytest(RUN, "-rx")
    result.assert_outcomes(passed=2, xfailed=1, failed=1, skipped=2)
    result.stdout.fnmatch_lines(["*XPASS(strict)*mended upstream*", "XFAIL *test_known[[]fake-b[]] - wasmer#1*"])


def test_the_nearest_xfail_of_a_backend_counts(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        MODULE
        + """
    @pytest.mark.wasm_xfail(**{"fake-b": "of the class"})
    class TestIt:
        @pytest.mark.wasm_xfail(**{"fake-b": "of the test"})
        def test_known(self, wasm_instance):
            assert wasm_instance(WASM).exports.odd() == 42
    """
    )
    result = fakes.runpytest(RUN, "-rx")
    result.stdout.fnmatch_lines(["XFAIL *test_known[[]fake-b[]] - of the test*"])


@pytest.mark.processes
def test_xfail_does_not_hide_a_lost_process_or_a_missing_module(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        MODULE
        + """
    EXPECTED = pytest.mark.wasm_xfail(**{"fake-b": "expected"})

    @EXPECTED
    def test_dies(wasm_instance):
        wasm_instance(WASM).exports.die()

    @EXPECTED
    @pytest.mark.wasm_backends("fake-b")
    def test_missing(wasm_instance):
        wasm_instance("nowhere.wasm")
    """
    )
    result = fakes.runpytest("--wasm-backends=fake-a,fake-b", "-v")
    assert outcomes(result) == {
        "test_dies[fake-a]": "PASSED",
        "test_missing[fake-a]": "SKIPPED",
        "test_dies[fake-b]": "FAILED",
        "test_missing[fake-b]": "FAILED",
    }
    result.stdout.fnmatch_lines_random(["E *EngineLost: the fake-b engine process was lost: killed by SIGKILL"])


@pytest.mark.processes
def test_markers_are_registered(fakes: pytest.Pytester) -> None:
    result = fakes.runpytest("--markers")
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.wasm_backends([*]names, exclude=(), reason=''): run on these Wasm backends only, "
            "or on all but the excluded ones.",
            "@pytest.mark.wasm_xfail([*][*]{backend: reason}): expected to fail on these Wasm backends; "
            "a pass is a failure (strict).",
        ]
    )


def test_markers_of_parameters(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("x", [
            1,
            pytest.param(2, marks=pytest.mark.wasm_backends("fake-b", reason="there only")),
            pytest.param(3, marks=pytest.mark.wasm_xfail(**{"fake-a": "known"})),
            pytest.param(4, marks=pytest.mark.wasm_backends("fake-d")),
        ])
        def test_it(wasm_backend, x):
            assert x != 3 or wasm_backend != "fake-a"
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a,fake-b", "-rs")
    result.assert_outcomes(passed=4, skipped=1, xfailed=1, errors=2)
    result.stdout.fnmatch_lines(["*test_it[[]fake-a-4[]]: backend 'fake-d' is unknown. Did you mean *"])
    result.stdout.fnmatch_lines(["SKIPPED *: wasm_backends('fake-b'): there only"])
