"""The hook pytest_wasmer_backends: what is wrong with what it returns is a usage error that names who returned it."""

from __future__ import annotations

import pytest

from tests.conftest import HERE, needs_wheels

EXAMPLE = 'It returns a list: [BackendSpec("mine", engine="my_engine:MyEngine")]'
HOOK = """
from pytest_wasmer import BackendSpec

def pytest_wasmer_backends(config):
    return {returned}
"""


def refusal(pytester: pytest.Pytester, *arguments: str) -> list[str]:
    """What the run says, which is one with a Wasm test."""
    pytester.makepyfile("def test_it(wasm_backend): pass")
    result = pytester.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return [line for line in result.stderr.lines if line]


@pytest.mark.parametrize("arguments", [[], ["--wasm-backends=mine"], ["-p", "xdist", "-n", "1"]], ids=str)
@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("['mine']", "has 'mine' in its list"),
        ("[None]", "has None in its list"),
        ("'mine'", "returned 'mine'"),
        ("7", "returned 7"),
        ("BackendSpec('mine', 'm:M')", "returned BackendSpec(name='mine', *"),
    ],
)
def test_what_is_no_list_of_backends(pytester: pytest.Pytester, returned: str, said: str, arguments: list[str]) -> None:
    pytester.makeconftest(HOOK.format(returned=returned))
    first, second = refusal(pytester, *arguments)
    pytest.LineMatcher([first]).fnmatch_lines([f"ERROR: pytest_wasmer_backends of conftest.py {said}"])
    assert second == EXAMPLE


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("all", "that means several, in --wasm-backends=all"),
        ("available", "that means several, in --wasm-backends=available"),
        *[
            (name, "a name is of letters, digits and . + - _, such as 'mine-2.0'")
            for name in ("my b,ck", "", "a[b]", 7)
        ],
        ("mine-fresh", "names that end like this are of --wasm-artifacts=both"),
    ],
)
def test_a_name_that_cannot_be_selected(pytester: pytest.Pytester, name: object, said: str) -> None:
    pytester.makeconftest(HOOK.format(returned=f"[BackendSpec({name!r}, 'm:M')]"))
    assert refusal(pytester) == [f"ERROR: backend {name!r}, registered by conftest.py: {said}"]


def test_one_name_of_two_plugins(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(HOOK.format(returned="[BackendSpec('mine', 'm:M')]"))
    pytester.path.joinpath("other.py").write_text(HOOK.format(returned="[BackendSpec('mine', 'o:O')]"))
    pytester.syspathinsert()
    assert refusal(pytester, "-p", "other") == [
        "ERROR: backend 'mine' is registered twice: by conftest.py and by plugin 'other'",
        'Give one of them another name: BackendSpec("mine-2", ...)',
    ]


def test_one_name_twice_in_one_list(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(HOOK.format(returned="[BackendSpec('mine', 'm:M'), BackendSpec('mine', 'o:O')]"))
    assert refusal(pytester)[0] == "ERROR: backend 'mine' is registered twice: by conftest.py and by conftest.py"


def test_plugins_side_by_side(pytester: pytest.Pytester) -> None:
    spec = "BackendSpec({name!r}, 'fake_engine:FakeEngine', 'fake-a', import_path={here!r}, identity='1')"
    one, two = (f"[{spec.format(name=name, here=str(HERE))}]" for name in ("mine", "yours-2.0"))
    pytester.makeconftest(HOOK.format(returned=one))
    pytester.path.joinpath("other.py").write_text(HOOK.format(returned=two))
    pytester.syspathinsert()
    pytester.makepyfile("def test_it(wasm_backend): pass")
    pytester.runpytest("-p", "other", "--wasm-backends=mine,yours-2.0").assert_outcomes(passed=2)


@needs_wheels
@pytest.mark.parametrize("xdist", [[], ["-p", "xdist", "-n", "1"]], ids=["one-process", "xdist"])
def test_what_stands_in_a_compilers_place_is_said(pytester: pytest.Pytester, xdist: list[str]) -> None:
    spec = f"BackendSpec('llvm', 'fake_engine:FakeEngine', 'fake-a', import_path={str(HERE)!r}, identity='1')"
    pytester.makeconftest(HOOK.format(returned=f"[{spec}]"))
    pytester.makepyfile("def test_it(wasm_module): pass")
    result = pytester.runpytest(*xdist)
    result.assert_outcomes(passed=3)
    said = "wasm: llvm is not Wasmer's: a plugin has put fake_engine:FakeEngine in its place"
    assert result.stdout.lines.count(said) == 1
    result = pytester.runpytest("--wasm-backends=cranelift", *xdist)
    assert said not in result.stdout.lines
