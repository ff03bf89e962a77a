"""What was made on one backend never answers in a test of another one, whatever kept it."""

from __future__ import annotations

import pytest

# What the backends answer differs, so that each test can tell who did.
TWO = "--wasm-backends=fake-a,fake-b", "--wasm-agree=off"
MODULE = """
    import pytest
    from fake_engine import module, function

    WASM = module(exports={
        "f": function("-> i32", {"fake-a": [["return", 1]], "fake-b": [["return", 2]]}),
        "die": function("->", [["signal", "SIGABRT"]]),
    })
    ANSWER = {"fake-a": 1, "fake-b": 2}
"""
KEPT = {
    "module": ("wasm_module(WASM)", "list(kept.exports) == ['f', 'die']", "exports of <bytes>"),
    "name": ("wasm_module(WASM)", "kept.name == ''", "name of <bytes>"),
    "imports": ("wasm_module(WASM)", "not kept.imports", "imports of <bytes>"),
    "wasm": ("wasm_module(WASM)", "kept.wasm == WASM", "wasm of <bytes>"),
    "sections": ("wasm_module(WASM)", "kept.custom_sections", "custom_sections of <bytes>"),
    "instance": ("wasm_module(WASM).instantiate()", "'f' in kept.exports", "exports of <bytes>"),
    "factory": (
        "wasm_module",
        "list(kept(WASM).exports) == ['f', 'die']",
        "wasm_module, wasm_instance or wasm_round_trip",
    ),
    "artifact": ("wasm_module", "kept.load_artifact('m.wasmu')", "wasm_module, wasm_instance or wasm_round_trip"),
}


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize(("made", "asked", "about"), KEPT.values(), ids=KEPT)
def test_what_a_global_keeps_is_refused(
    fakes: pytest.Pytester, made: str, asked: str, about: str, isolation: str
) -> None:
    """Green, it would say that fake-b works, which never saw the module."""
    fakes.makepyfile(
        test_it=MODULE
        + f"""
    KEPT = []

    def test_kept(wasm_module):
        if not KEPT:
            wasm_module(WASM).save("m.wasmu")
            KEPT.append({made})
        kept = KEPT[0]
        assert {asked}
    """
    )
    result = fakes.runpytest(*TWO, f"--wasm-isolation={isolation}")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"E *WrongBackend: {about}: it was made on fake-a, this test runs on fake-b"])


@pytest.mark.processes
def test_a_module_of_a_lost_process_is_asked_in_tests_of_its_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    KEPT = []

    def test_dies(wasm_module):
        KEPT.append(wasm_module(WASM))
        KEPT[-1].instantiate().exports.die()

    def test_kept(wasm_backend):
        assert list(KEPT[-1].exports) == ["f", "die"]

    def test_other(wasm_backend):
        assert list(KEPT[0].exports) == ["f", "die"]
    """
    )
    result = fakes.runpytest(*TWO, "-rA")
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines(
        ["E *WrongBackend: exports of <bytes>: it was made on fake-a, this test runs on fake-b"]
    )


def test_fixtures_are_set_up_and_torn_down_on_their_own_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.fixture(scope="module")
    def names(wasm_module, wasm_backend):
        yield list(wasm_module(WASM).exports)
        assert list(wasm_module(WASM).exports) == ["f", "die"]
        assert wasm_module(WASM).instantiate().exports.f() == ANSWER[wasm_backend]

    def test_1(names): assert names == ["f", "die"]
    def test_2(names): assert names == ["f", "die"]
    """
    )
    fakes.runpytest(*TWO).assert_outcomes(passed=4)


ASKING = """
    @pytest.fixture(scope="{scope}"{more})
    def asked(request):
        return request.getfixturevalue("wasm_instance")(WASM)

    @pytest.fixture(scope="{scope}")
    def load(request):
        return request.getfixturevalue("wasm_module")

    @pytest.fixture(scope="{scope}")
    def indirect(request):
        return request.getfixturevalue("asked")

    @pytest.fixture(scope="{scope}")
    def built(indirect):
        return [indirect]

    class TestIt:
        @pytest.mark.usefixtures("wasm_backend")
        def test_1(self, asked, wasm_backend): assert asked.exports.f() == ANSWER[wasm_backend]

        def test_2(self, load, wasm_backend): assert load(WASM).instantiate().exports.f() == ANSWER[wasm_backend]

        def test_3(self, asked, indirect, built, wasm_instance, wasm_backend):
            assert asked is indirect is built[0]
            assert asked.exports.f() == wasm_instance(WASM).exports.f() == ANSWER[wasm_backend]
            asked.exports.die()

        def test_4(self, built, load, wasm_backend):
            assert built[0].exports.f() == load(WASM).instantiate().exports.f() == ANSWER[wasm_backend]
"""


@pytest.mark.processes
@pytest.mark.parametrize("more", ["", ", autouse=True"], ids=["named", "autouse"])
@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_fixtures_that_ask_by_name_are_made_anew(fakes: pytest.Pytester, scope: str, more: str) -> None:
    """For each backend, and after a loss: only the crashing test fails. pytest does so for names in signatures."""
    fakes.makepyfile(test_it=MODULE + ASKING.format(scope=scope, more=more))
    result = fakes.runpytest(*TWO, "-rf")
    result.assert_outcomes(passed=6, failed=2)
    for backend in ("fake-a", "fake-b"):
        result.stdout.fnmatch_lines([f"FAILED test_it.py::TestIt::test_3[[]{backend}[]] - *"])


def test_a_fixture_that_asked_in_vain_is_made_anew(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    @pytest.fixture(scope="session")
    def asked(request):
        return request.getfixturevalue("wasm_instance")(WASM)

    def test_says_no_backend(asked): pass
    def test_says_it(asked, wasm_backend): assert asked.exports.f() == ANSWER[wasm_backend]
    """
    )
    fakes.runpytest(*TWO).assert_outcomes(passed=2, errors=1)


def test_fixtures_that_ask_by_name_are_made_once_per_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    MADE = []

    @pytest.fixture(scope="module")
    def asked(request, wasm_backend):
        MADE.append(1)
        return request.getfixturevalue("wasm_instance")(WASM)

    def test_1(asked): pass
    def test_2(asked): pass
    def test_3(asked, wasm_backend): assert len(MADE) == ANSWER[wasm_backend]
    """
    )
    fakes.runpytest(*TWO).assert_outcomes(passed=6)


@pytest.mark.processes
def test_other_fixtures_that_ask_by_name_are_left_alone(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    MADE = []

    @pytest.fixture(scope="session")
    def server():
        return "server"

    @pytest.fixture(scope="module")
    def asked(request):
        MADE.append(1)
        return request.getfixturevalue("server")

    def test_it(asked, wasm_instance):
        wasm_instance(WASM).exports.die()
        assert asked == "server"

    def test_after(asked, wasm_instance):
        assert len(MADE) == 1
    """
    )
    fakes.runpytest(*TWO).assert_outcomes(passed=2, failed=2)


def test_every_teardown_runs_where_one_of_them_fails(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it=MODULE
        + """
    TORN = []

    @pytest.fixture(scope="module")
    def first(request):
        yield request.getfixturevalue("wasm_instance")
        TORN.append("first")

    @pytest.fixture(scope="module")
    def second(request, first):
        yield request.getfixturevalue("wasm_instance")
        TORN.append("second")
        raise ValueError("torn")

    def test_1(first, second, wasm_backend): pass
    def test_2(wasm_backend): assert TORN == ["second", "first"] * (1 if wasm_backend == "fake-a" else 2)
    """
    )
    result = fakes.runpytest(*TWO, "-k", "not (test_2 and fake-a)")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *ValueError: torn"])
