"""--wasm-update, PYTEST_WASMER_UPDATE, wasm_update; the fixture wasm_golden."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.checking import CI_VARIABLES
from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from pathlib import Path

ALL = "--wasm-backends=fake-a,fake-b,fake-c"
MODULE = """
    import pytest
    from fake_engine import module, function, memory, variable

    WASM = module(exports={
        "m": memory(1),
        "even": function("i32 -> i32", [["return", 4]]),
        "odd": function("-> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]}),
        "nan": function("-> f32", {"fake-b": [["return", 0x7fc00000]], "*": [["return", 0xffc00001]]}),
        "trap": function("->", {"fake-a": [["trap", "UNKNOWN"]], "*": [["trap", "UNREACHABLE"]]}),
        "vague": function("->", [["trap", "UNKNOWN"]]),
        "deep": function("->", [["trap", "STACK_OVERFLOW"]]),
    })
"""
TEST = """
    @pytest.mark.parametrize("n", [1, 2])
    def test_even(wasm_instance, wasm_golden, n):
        w = wasm_instance(WASM)
        w.memory.write(n, b"abc")
        w.exports.even(n)
"""
NAMES = ["test_even[1].txt", "test_even[2].txt"]
TEXT = """\
pytest-wasmer golden 1
test "test_even[1]"
level results
write 0 "m" 1 "616263"
call 0 "even" "i32" 1
result "i32" 4
state 0 "m" "memory" 1 1
  page 0 33e2abfc72635949a8b36529
"""


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in CI_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def project(fakes: pytest.Pytester) -> pytest.Pytester:
    fakes.makepyfile(test_it=MODULE + TEST)
    return fakes


def goldens(project: pytest.Pytester) -> dict[str, str]:
    """Contents by name."""
    return {path.name: path.read_text() for path in sorted((project.path / "__golden__").glob("*/*"))}


def change(project: pytest.Pytester, old: str, new: str) -> None:
    """Of another size: a file of the same size and second would be taken for the same."""
    file = project.path / "test_it.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new) + f"# {new!r}\n")


def test_what_is_missing_fails_with_the_line_to_type(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "-k", "fake-b and 1")
    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(
        [
            "there is no golden __golden__/test_it/test_even[[]1[]].txt",
            "To write it: pytest test_it.py::test_even --wasm-backends=fake-a,fake-b,fake-c --wasm-update",
        ]
    )
    assert not (project.path / "__golden__").exists()


def test_the_line_to_type_writes_it_and_then_all_pass(project: pytest.Pytester) -> None:
    result = project.runpytest("test_it.py::test_even", ALL, "--wasm-update")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["wasm: 2 goldens written"])
    assert list(goldens(project)) == NAMES
    lines = goldens(project)[NAMES[0]].splitlines()
    assert lines[3].startswith('instance 0 "')
    assert [*lines[:3], *lines[4:]] == TEXT.splitlines()
    result = project.runpytest(ALL)
    result.assert_outcomes(passed=6)
    result.stdout.no_fnmatch_line("*golden*")
    project.runpytest("--wasm-backends=fake-c").assert_outcomes(passed=2)


def test_a_difference_fails_each_backend_with_a_diff(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "--wasm-update")
    before = goldens(project)
    change(project, '["return", 4]', '["return", 5555]')
    result = project.runpytest("--wasm-backends=fake-b", "-k", "1")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "fake-b does something else than its golden says:",
            "--- __golden__/test_it/test_even[[]1[]].txt",
            "+++ fake-b",
            ' call 0 "even" "i32" 1',
            '-result "i32" 4',
            '+result "i32" 5555',
            ' state 0 "m" "memory" 1 1',
            "If this is right: pytest test_it.py::test_even --wasm-update=all",
        ]
    )
    result = project.runpytest(ALL, "--wasm-update=new")
    result.assert_outcomes(failed=6)
    assert goldens(project) == before
    result = project.runpytest(ALL, "--wasm-update=all")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["wasm: 2 goldens updated"])
    assert goldens(project)[NAMES[0]] == before[NAMES[0]].replace('result "i32" 4', 'result "i32" 5555').replace(
        before[NAMES[0]].splitlines()[3], goldens(project)[NAMES[0]].splitlines()[3]
    )


def test_another_build_that_does_the_same_fits(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "--wasm-update")
    change(project, "WASM = module(", 'WASM = module(name="rebuilt", ')
    result = project.runpytest(ALL)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["wasm: 2 goldens fit, but other modules are tested now: pytest --wasm-update=all*"])
    before = goldens(project)
    project.runpytest(ALL, "--wasm-update").assert_outcomes(passed=6)
    assert goldens(project) == before
    project.runpytest(ALL, "--wasm-update=all").stdout.fnmatch_lines(["wasm: 2 goldens updated"])
    project.runpytest(ALL).stdout.no_fnmatch_line("*golden*")


def test_new_leaves_what_is_there(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "--wasm-update")
    (project.path / "__golden__/test_it" / NAMES[1]).unlink()
    kept = (project.path / "__golden__/test_it" / NAMES[0]).stat()
    project.runpytest(ALL, "--wasm-update").stdout.fnmatch_lines(["wasm: 1 golden written"])
    assert (project.path / "__golden__/test_it" / NAMES[0]).stat().st_ino == kept.st_ino
    project.runpytest(ALL, "--wasm-update=all").stdout.no_fnmatch_line("*golden*")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--wasm-backends=fake-a",), "one backend only"),
        (("--wasm-backends=fake-a", "--wasm-agree=off"), "one backend only"),
        ((ALL, "-k", "fake-a or fake-b"), "2 of 3 backends ran it"),
    ],
)
def test_a_part_of_the_backends_writes_nothing(
    project: pytest.Pytester, arguments: tuple[str, ...], reason: str
) -> None:
    result = project.runpytest(*arguments, "--wasm-update")
    result.stdout.fnmatch_lines(
        ["wasm: 2 goldens not written", f"    test_it.py::test_even[[]1-backends-agree[]]: {reason}"]
    )
    assert not goldens(project)


@pytest.mark.parametrize("level", ["results", "off"])
def test_backends_that_disagree_write_nothing(fakes: pytest.Pytester, level: str) -> None:
    fakes.makepyfile(test_it=MODULE + "    def test_odd(wasm_instance, wasm_golden): wasm_instance(WASM).exports.odd()")
    result = fakes.runpytest(ALL, "--wasm-update=all", f"--wasm-agree={level}")
    result.assert_outcomes(passed=3, failed=int(level == "results"))
    result.stdout.fnmatch_lines(
        ["wasm: 1 golden not written", "    test_it.py::test_odd[[]backends-agree[]]: the backends disagree"]
    )
    assert not goldens(fakes)


@pytest.mark.parametrize("level", ["results", "off"])
def test_a_member_that_fails_writes_nothing(fakes: pytest.Pytester, level: str) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    def test_it(wasm_instance, wasm_golden, wasm_backend):
        wasm_instance(WASM).exports.even(1)
        assert wasm_backend != "fake-c"
    """
    )
    result = fakes.runpytest(ALL, "--wasm-update", f"--wasm-agree={level}")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["    test_it.py::test_it[[]backends-agree[]]: did not pass on fake-c"])
    assert not goldens(fakes)


@pytest.mark.parametrize("marker", ["", "@pytest.mark.wasm_agree('off')"])
def test_goldens_are_compared_where_backends_are_not(project: pytest.Pytester, marker: str) -> None:
    arguments = [ALL] if marker else [ALL, "--wasm-agree=off"]
    change(project, "@pytest.mark.param", f"{marker}\n@pytest.mark.param")
    project.runpytest(*arguments, "--wasm-update").stdout.fnmatch_lines(["wasm: 2 goldens written"])
    project.runpytest(*arguments).assert_outcomes(passed=6)
    change(project, '["return", 4]', '["return", 5555]')
    project.runpytest(*arguments).assert_outcomes(failed=6)


def test_nan_bits(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_it=MODULE + "    def test_nan(wasm_instance, wasm_golden): wasm_instance(WASM).exports.nan()")
    fakes.runpytest(ALL, "--wasm-update").stdout.fnmatch_lines(["wasm: 1 golden written"])
    assert 'result "f32" nan=0x7fc00000\n' in goldens(fakes)["test_nan.txt"]
    fakes.runpytest(ALL).assert_outcomes(passed=3)
    fakes.runpytest(ALL, "--wasm-agree=strict").assert_outcomes(passed=3, failed=1)
    strict = ("--wasm-backends=fake-a,fake-c", "--wasm-agree=strict")
    (fakes.path / "__golden__/test_it/test_nan.txt").unlink()
    fakes.runpytest(*strict, "--wasm-update").stdout.fnmatch_lines(["wasm: 1 golden written"])
    assert "level strict\n" in goldens(fakes)["test_nan.txt"]
    assert 'result "f32" nan=0xffc00001\n' in goldens(fakes)["test_nan.txt"]
    fakes.runpytest("--wasm-backends=fake-b", "--wasm-agree=strict").assert_outcomes(failed=1)
    fakes.runpytest("--wasm-backends=fake-b").assert_outcomes(passed=1)


def test_who_tells_traps_apart_says_which_it_is(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.mark.parametrize("name", ["trap", "vague", "deep"])
    def test_it(wasm_instance, wasm_golden, name):
        with pytest.raises(Exception):
            wasm_instance(WASM).exports[name]()
    """
    )
    result = fakes.runpytest(ALL, "--wasm-update=all")
    result.assert_outcomes(passed=6, failed=3)
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_it[[]fake-a-deep[]] cannot have a golden: it exhausts the stack, at a depth *",
            "wasm: 1 golden written, 1 golden not written",
            "    test_it.py::test_it[[]vague-backends-agree[]]: no backend says which trap it was",
        ]
    )
    assert [text.splitlines()[-1] for text in goldens(fakes).values()] == ['state 0 "m" "memory" 1 1']
    assert 'trap "UNREACHABLE"\n' in goldens(fakes)["test_it[trap].txt"]
    fakes.runpytest(ALL, "-k", "trap").assert_outcomes(passed=3, deselected=6)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("def test_it(wasm_golden): pass", "*nothing was asked of Wasm, there is nothing that a golden could hold"),
        (
            "def test_it(wasm_backend, request): request.getfixturevalue('wasm_golden')",
            "wasm_golden: name it in the signature of a test function, or of a fixture of it",
        ),
    ],
)
def test_what_cannot_have_a_golden(project: pytest.Pytester, test: str, said: str) -> None:
    project.runpytest(ALL, "--wasm-update")
    change(project, "@pytest.mark.param", f"{test}\n\n@pytest.mark.param")
    result = project.runpytest(ALL, "--wasm-update")
    result.assert_outcomes(passed=6, failed=3)
    result.stdout.fnmatch_lines([said])


def test_usefixtures_and_fixtures_of_wider_scope(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.fixture(scope="module")
    def w(wasm_instance, wasm_golden):
        return wasm_instance(WASM)

    @pytest.mark.usefixtures("wasm_golden")
    class TestA:
        def test_one(self, w): w.exports.even(1)
        def test_two(self, w): w.exports.even(2)

    def test_three(wasm_instance): wasm_instance(WASM).exports.even(3)
    def test_four(w, wasm_golden): assert wasm_golden.path.name == "test_four.txt"; w.exports.even(4)
    """
    )
    fakes.runpytest(ALL, "--wasm-update").assert_outcomes(passed=12)
    assert list(goldens(fakes)) == ["TestA.test_one.txt", "TestA.test_two.txt", "test_four.txt"]
    fakes.runpytest(ALL).assert_outcomes(passed=12)
    # Shared instances that do not change may be used in any order.
    fakes.runpytest(ALL, "-k", "test_two").assert_outcomes(passed=3, deselected=9)


def test_a_testcase_that_is_the_first_to_ask(fakes: pytest.Pytester) -> None:
    """Before it, nothing was known of Wasm."""
    fakes.makepyfile(
        """
        import unittest
        import pytest

        @pytest.mark.usefixtures("wasm_golden")
        class TestA(unittest.TestCase):
            def test_one(self): pass
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a")
    result.stdout.fnmatch_lines(["*wasm_golden*: name it in the signature of a test function*"])
    result.stdout.no_fnmatch_line("*AttributeError*")


def test_the_hook_that_normalizes(project: pytest.Pytester) -> None:
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + """
def pytest_wasmer_normalize(group, events):
    return [event for event in events if event[0] != "write"]
"""
    )
    project.runpytest(ALL, "--wasm-update").assert_outcomes(passed=6)
    assert "write" not in goldens(project)[NAMES[0]]
    project.runpytest(ALL).assert_outcomes(passed=6)


def test_a_long_test(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    def test_long(wasm_instance, wasm_golden):
        w = wasm_instance(WASM)
        for n in range(5000):
            w.exports.even(n)
        w.exports.even(9999999)
    """
    )
    two = "--wasm-backends=fake-a,fake-b"
    fakes.runpytest(two, "--wasm-update").assert_outcomes(passed=2)
    (text,) = goldens(fakes).values()
    assert len(text) < 200_000
    assert "\nmore " in text
    fakes.runpytest(two).assert_outcomes(passed=2)
    change(fakes, "9999999", "99999998")
    result = fakes.runpytest("--wasm-backends=fake-b")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["-more *", "+more *"])


@pytest.mark.parametrize("plugins", [("-p", "xdist.plugin", "-n2")], ids=["xdist"])
def test_under_xdist(project: pytest.Pytester, plugins: tuple[str, ...]) -> None:
    result = project.runpytest(ALL, *plugins, "--wasm-update")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["wasm: 2 goldens written"])
    (project.path / "__golden__/test_it/test_gone.txt").write_text("x")
    result = project.runpytest(ALL, *plugins)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["wasm: 1 golden without a test: rm __golden__/test_it/test_gone.txt"])


def test_both_kinds_of_code_have_one_golden(project: pytest.Pytester) -> None:
    both = ("--wasm-backends=fake-a,fake-b", "--wasm-artifacts=both")
    project.runpytest(*both, "--wasm-update").assert_outcomes(passed=8)
    assert list(goldens(project)) == NAMES
    project.runpytest(*both).assert_outcomes(passed=8)
    project.runpytest("--wasm-backends=fake-c").assert_outcomes(passed=2)


# Files that no test uses


def test_unused_goldens_are_reported(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "--wasm-update")
    folder = project.path / "__golden__"
    (folder / "test_it" / "test_gone.txt").write_text("x")
    (folder / "test_gone").mkdir()
    (folder / "test_gone" / "test_a b.txt").write_text("x")
    gone = "wasm: 2 goldens without a test: rm __golden__/test_it/test_gone.txt '__golden__/test_gone/test_a b.txt'"
    assert gone in project.runpytest(ALL).stdout.lines
    assert gone in project.runpytest("--wasm-backends=fake-a", "--wasm-update=all").stdout.lines
    assert (folder / "test_it" / "test_gone.txt").exists()
    orphan = "wasm: 1 golden without a test: rm '__golden__/test_gone/test_a b.txt'"
    for partly in (
        ("-k", "1"),
        ("test_it.py::test_even[fake-a-1]",),
        ("--deselect", "test_it.py::test_even[fake-a-1]"),
    ):
        assert orphan in project.runpytest(ALL, *partly).stdout.lines


# Files that cannot be used


@pytest.mark.parametrize(
    ("content", "said", "remedy"),
    [
        ("", "it does not begin with 'pytest-wasmer golden 1'", "To write it anew: pytest *--wasm-update=all"),
        ('pytest-wasmer golden 1\ntest "test_even[1]"\n<<<<', "line 3 makes no sense*", "To write it anew: *"),
        (
            "pytest-wasmer golden 9\n",
            "it is of a newer version (9, *",
            "To read it: pip install --upgrade pytest-wasmer",
        ),
    ],
)
def test_a_file_that_is_no_golden(project: pytest.Pytester, content: str, said: str, remedy: str) -> None:
    project.runpytest(ALL, "--wasm-update")
    path = project.path / "__golden__/test_it" / NAMES[0]
    path.write_text(content)
    for arguments in ([], ["--wasm-update"]):
        result = project.runpytest(ALL, *arguments)
        result.assert_outcomes(passed=3, failed=3)
        result.stdout.fnmatch_lines(
            [f"the golden __golden__/test_it/test_even[[]1[]].txt cannot be used: {said}", remedy]
        )
    newer = "newer" in said
    project.runpytest(ALL, "--wasm-update=all").assert_outcomes(passed=3 if newer else 6, failed=3 if newer else 0)
    assert (path.read_text() == content) == newer


# The option


@pytest.mark.parametrize("variable", CI_VARIABLES)
def test_refused_on_ci(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "true")
    result = project.runpytest(ALL, "--wasm-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        f"ERROR: --wasm-update: goldens are not written on CI, and {variable}=true says that this is CI."
    )
    assert project.runpytest(ALL, "--co", "-q").ret == 0


def test_ci_that_is_none(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "false")
    project.runpytest(ALL, "--wasm-update").assert_outcomes(passed=6)


def test_precedence(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.makeini("[pytest]\nwasm_update = new")
    monkeypatch.setenv("PYTEST_WASMER_UPDATE", "off")
    project.runpytest(ALL).assert_outcomes(failed=6)
    monkeypatch.delenv("PYTEST_WASMER_UPDATE")
    project.runpytest(ALL, "--wasm-update=off").assert_outcomes(failed=6)
    project.runpytest(ALL).assert_outcomes(passed=6)


@pytest.mark.parametrize("arguments", [("--wasm-update", "test_it.py"), ("--wasm-update=test_it.py",)])
def test_a_file_is_no_value(project: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    result = project.runpytest(ALL, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[:2] == [
        "ERROR: --wasm-update: 'test_it.py' is unknown. Known: new, all, off.",
        "Without a value it comes last on the command line, or before another option: --wasm-update.",
    ]


@needs_wheels
def test_native(pytester: pytest.Pytester, tmp_path: Path) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest
        from pytest_wasmer import Trap

        WAT = '''(module (memory (export "memory") 1)
          (func (export "root") (param f64) (result f64) (f64.store (i32.const 8) (f64.sqrt (local.get 0)))
            (f64.load (i32.const 8)))
          (func (export "out") (result i32) (i32.load (i32.const 65536))))'''

        def test_root(wasm_instance, wasm_golden):
            w = wasm_instance(WAT)
            w.exports.root(2.0)
            w.exports.root(-1.0)
            with pytest.raises(Trap):
                w.exports.out()
        """
    )
    pytester.runpytest_subprocess("--wasm-backends=all", "--wasm-update").assert_outcomes(passed=3)
    (text,) = goldens(pytester).values()
    assert '\nresult "f64" 1.4142135623730951=0x3ff6a09e667f3bcd\n' in text
    assert '\nresult "f64" nan=0x7ff8000000000000\n' in text
    assert '\ntrap "MEMORY_OUT_OF_BOUNDS"\n' in text
    assert '\ninstance 0 "wat:' in text
    # Which is on a page whose NaN bits are not the same on all backends.
    assert text.splitlines()[-1].startswith("  page 0 ")
    pytester.runpytest_subprocess("--wasm-backends=all", "--wasm-artifacts=both").assert_outcomes(passed=6)
