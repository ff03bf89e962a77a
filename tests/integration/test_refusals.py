"""No silent first backend: what cannot be parametrized says its backend, or is an error."""

from __future__ import annotations

import pytest

TWO = "--wasm-backends=fake-a,fake-b"


def test_overriding_the_backend_fixture_is_a_collection_error(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it="""
        import pytest

        @pytest.fixture
        def wasm_backend(): return "fake-a"

        def test_add(wasm_instance): pass
        """
    )
    result = fakes.runpytest(TWO)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert (
        "fixture wasm_backend cannot be overridden; choose backends by marker: "
        "@pytest.mark.wasm_backends('llvm') (test_it.py::test_add)"
    ) in result.stdout.lines


@pytest.mark.parametrize("names", ["'wasm_backend'", "'x, wasm_backend'", "['wasm_backend', 'x']"])
def test_parametrizing_the_backend_is_a_collection_error(fakes: pytest.Pytester, names: str) -> None:
    values = "['fake-a']" if "x" not in names else "[('fake-a', 'fake-a')]"
    arguments = "wasm_backend" if "x" not in names else "wasm_backend, x"
    fakes.makepyfile(
        test_it=f"import pytest\n@pytest.mark.parametrize({names}, {values})\ndef test_add({arguments}): pass"
    )
    result = fakes.runpytest(TWO)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert (
        "wasm_backend cannot be parametrized; choose backends by marker: "
        "@pytest.mark.wasm_backends('llvm') (test_it.py::test_add)"
    ) in result.stdout.lines


DYNAMIC = """
    def test_add(request):
        request.getfixturevalue("wasm_instance")
"""
TEST_CASE = """
    import unittest
    import pytest
    from fake_engine import module, function

    WASM = module(exports={"add": function("i32 i32 -> i32", ["sum"])})

    class TestAdd(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def _instance(self, wasm_instance, wasm_backend):
            self.instance, self.backend = wasm_instance(WASM), wasm_backend

        %s
        def test_add(self):
            self.assertEqual(self.instance.exports.add(1, 2), 3)
            print("ran on", self.backend)

        %s
        def test_again(self):
            print("again on", self.backend)
"""


def test_a_dynamic_request_is_an_error_with_its_remedy(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_it=DYNAMIC)
    result = fakes.runpytest(TWO)
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    text = result.stdout.str()
    assert (
        "test_it.py::test_add asks for a Wasm fixture but does not run on each backend (fake-a, fake-b): "
        "it is requested by getfixturevalue\n"
        "Name the fixture in the test's signature, or add @pytest.mark.usefixtures('wasm_backend')"
    ) in text


def test_a_doctest_is_an_error_with_its_remedy(fakes: pytest.Pytester) -> None:
    """It has no signature to name a fixture in."""
    fakes.path.joinpath("guide.txt").write_text('>>> getfixture("wasm_instance")\n<wasm_instance on fake-a>\n')
    result = fakes.runpytest(TWO, "--doctest-glob=guide.txt")
    result.assert_outcomes(failed=1)
    assert (
        "guide.txt::guide.txt asks for a Wasm fixture but does not run on each backend (fake-a, fake-b): "
        "a doctest cannot be parametrized\n"
        "Run it on one: --wasm-backends=fake-a"
    ) in result.stdout.str()
    fakes.runpytest("--wasm-backends=fake-a", "--doctest-glob=guide.txt").assert_outcomes(passed=1)


def test_a_dynamic_request_runs_where_one_backend_is_left(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_it=DYNAMIC)
    fakes.runpytest("--wasm-backends=fake-b").assert_outcomes(passed=1)
    fakes.makepyfile(test_it=f"    import pytest\n    @pytest.mark.wasm_backends('fake-a'){DYNAMIC}")
    fakes.runpytest(TWO).assert_outcomes(passed=1)
    fakes.runpytest("--wasm-backends=fake-b").assert_outcomes(skipped=1)
    fakes.makepyfile(test_it=f"    import pytest\n    @pytest.mark.usefixtures('wasm_backend'){DYNAMIC}")
    fakes.runpytest(TWO).assert_outcomes(passed=2)


def test_a_test_case_is_an_error_with_its_remedy(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_it=TEST_CASE % ("", ""))
    result = fakes.runpytest(TWO)
    result.assert_outcomes(errors=2)
    assert (
        "test_it.py::TestAdd::test_add asks for a Wasm fixture but does not run on each backend (fake-a, fake-b): "
        "a TestCase cannot be parametrized\n"
        "Use a plain class, or say @pytest.mark.wasm_backends('fake-a')"
    ) in result.stdout.str()


def test_each_test_of_a_test_case_runs_on_the_backend_it_says(fakes: pytest.Pytester) -> None:
    """pytest caches the fixture of the first one for the session: a wrong green, were it not made anew."""
    say = "@pytest.mark.wasm_backends('fake-%s')"
    fakes.makepyfile(test_it=TEST_CASE % (say % "b", say % "a"))
    result = fakes.runpytest(TWO, "-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["*ran on fake-b*", "*again on fake-a*"])


def test_xfail_counts_for_a_test_case(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it="""
        import unittest
        import pytest

        @pytest.mark.wasm_backends("fake-b")
        class TestIt(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _backend(self, wasm_backend): pass

            @pytest.mark.wasm_xfail(**{"fake-b": "known"})
            def test_known(self): self.fail()

            @pytest.mark.wasm_xfail(**{"fake-b": "mended"})
            def test_mended(self): pass
        """
    )
    fakes.runpytest(TWO).assert_outcomes(xfailed=1, failed=1)


KEPT = """
    import pytest
    from fake_engine import module, function

    WASM = module(exports={"add": function("i32 i32 -> i32", ["sum"])})
    KEPT = []

    @pytest.fixture(scope="session")
    def dynamic(request):
        return request.getfixturevalue("wasm_instance")(WASM)

    def test_kept(wasm_instance):
        if not KEPT:
            KEPT.append(wasm_instance(WASM).exports.add)
        assert KEPT[0](1, 2) == 3

    def test_dynamic(wasm_backend, dynamic):
        assert dynamic.exports.add(1, 2) == 3

    @pytest.mark.wasm_backends("fake-b")
    def test_marked():
        assert KEPT[0](1, 2) == 3
"""


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_what_another_backend_made_is_refused(fakes: pytest.Pytester, isolation: str) -> None:
    """Green, it would say that fake-b works, and fake-a had run."""
    fakes.makepyfile(test_it=KEPT)
    result = fakes.runpytest(TWO, f"--wasm-isolation={isolation}")
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        ["E *WrongBackend: call of 'add' of <bytes>: it was made on fake-a, this test runs on fake-b"]
    )


def test_paths_are_those_of_the_test_where_something_else_calls(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it="""
        from concurrent.futures import ThreadPoolExecutor
        import pytest
        from fake_engine import module
        from pytest_wasmer import CompileError

        def test_raises(wasm_module, request):
            (request.path.parent / "bad.wasm").write_bytes(module(refuse={"*": ("compile", "no")}))
            pytest.raises(CompileError, wasm_module, "bad.wasm")
        """
    )
    fakes.runpytest("--wasm-backends=fake-a", "--rootdir", str(fakes.path)).assert_outcomes(passed=1)


def test_tracebacks_of_bad_sources_end_in_the_users_line(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it="""
        import pytest
        from fake_engine import module

        REFUSED = module(refuse={"*": ("compile", "no")})
        NEEDY = module({}, [("env", "f", ["func", [], []])])

        @pytest.mark.parametrize("source", ["nowhere.wasm", b"text", b"", 7, "(module", REFUSED, NEEDY])
        def test_source(wasm_instance, source):
            wasm_instance(source)

        def test_artifact(wasm_module):
            wasm_module.load_artifact("nowhere.wasmu")
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a", "--tb=short")
    result.assert_outcomes(failed=8)
    shown = [line for line in result.stdout.lines if ": in " in line]
    assert shown == ["test_it.py:9: in test_source"] * 7 + ["test_it.py:12: in test_artifact"]
