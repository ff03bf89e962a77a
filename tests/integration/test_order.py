"""Ids and the mirror order: by file, then backend, then the same order of tests in each backend."""

from __future__ import annotations

import pytest

from tests.integration.test_markers import outcomes

TWO = "--wasm-backends=fake-a,fake-b"
FILES = {
    "test_one": """
        import pytest

        @pytest.fixture(scope="module")
        def shared(wasm_backend): return []

        def test_plain(): pass

        @pytest.mark.parametrize("x", [3, 4])
        def test_add(wasm_backend, x): pass

        class TestClass:
            def test_in_class(self, shared): pass

        def test_last(shared): pass
    """,
    "test_two": """
        def test_wasm(wasm_backend): pass
        def test_plain(): pass
    """,
    "test_three": "def test_plain(): pass",
}
MIRRORED = [
    "test_one.py::test_plain",
    "test_one.py::test_add[fake-a-3]",
    "test_one.py::test_add[fake-a-4]",
    "test_one.py::TestClass::test_in_class[fake-a]",
    "test_one.py::test_last[fake-a]",
    "test_one.py::test_add[fake-b-3]",
    "test_one.py::test_add[fake-b-4]",
    "test_one.py::TestClass::test_in_class[fake-b]",
    "test_one.py::test_last[fake-b]",
    "test_two.py::test_wasm[fake-a]",
    "test_two.py::test_wasm[fake-b]",
    "test_two.py::test_plain",
    # pytest itself moves it behind tests with session-scoped parameters
    "test_three.py::test_plain",
]


def collected(result: pytest.RunResult) -> list[str]:
    return [line for line in result.stdout.lines if "::" in line]


def test_mirror_order(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(**FILES)
    result = fakes.runpytest(TWO, "--co", "-q")
    assert collected(result) == MIRRORED


def test_random_order_is_the_same_on_each_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(**FILES)
    orders = set()
    for seed in range(1, 6):
        found = collected(fakes.runpytest(TWO, "--co", "-q", "-p", "randomly", f"--randomly-seed={seed}"))
        assert sorted(found) == sorted(MIRRORED)
        tests = {
            name: [item.replace(name, "") for item in found if name in item and "test_one" in item]
            for name in ("fake-a", "fake-b")
        }
        assert tests["fake-a"] == tests["fake-b"]
        orders.add(tuple(found))
    assert len(orders) > 1


def test_module_fixtures_are_set_up_once_per_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def instance(wasm_instance, wasm_backend):
            print("\\nsetup", wasm_backend)

        @pytest.mark.parametrize("x", range(5))
        def test_add(instance, x): pass

        def test_other(instance): pass
        """
    )
    result = fakes.runpytest(TWO, "-s")
    result.assert_outcomes(passed=12)
    assert [line for line in result.stdout.lines if line.startswith("setup")] == ["setup fake-a", "setup fake-b"]


def test_k_selects_a_backend(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(**FILES)
    result = fakes.runpytest(TWO, "-k", "fake-b", "-v")
    assert set(outcomes(result)) == {name.partition("::")[2] for name in MIRRORED if "fake-b" in name}


def test_an_id_runs_one_test(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(**FILES)
    fakes.runpytest(TWO, "test_one.py::test_add[fake-b-3]").assert_outcomes(passed=1)


@pytest.mark.processes
def test_a_suite_without_wasm_keeps_its_order(fakes: pytest.Pytester) -> None:
    """A plugin's own order across files stays: only files with Wasm tests are drawn together."""
    fakes.makepyfile(test_a="def test_1(): pass\ndef test_2(): pass", test_b="def test_3(): pass")
    with (fakes.path / "conftest.py").open("a") as file:
        file.write("\ndef pytest_collection_modifyitems(items): items[:] = [items[0], items[2], items[1]]\n")
    result = fakes.runpytest("--co", "-q")
    assert collected(result) == ["test_a.py::test_1", "test_b.py::test_3", "test_a.py::test_2"]


def test_plain_tests_stay_before_or_behind_the_wasm_tests_of_their_file(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_it="""
        SEEN = []
        def test_first(): assert not SEEN
        def test_wasm(wasm_backend): SEEN.append(wasm_backend)
        def test_compare(): assert SEEN == ["fake-a", "fake-b"]
        """
    )
    fakes.runpytest(TWO).assert_outcomes(passed=4)


def test_stepwise_skips_only_what_has_run(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        test_a="""
        from pathlib import Path
        def test_1(wasm_backend): assert wasm_backend == "fake-a" or Path("mended").exists()
        """,
        test_b="def test_2(wasm_backend): assert wasm_backend == 'fake-b'",
    )
    fakes.runpytest(TWO, "--sw").assert_outcomes(passed=1, failed=1)
    (fakes.path / "mended").touch()
    again = fakes.runpytest(TWO, "--sw", "-v")
    assert outcomes(again) == {"test_1[fake-b]": "PASSED", "test_2[fake-a]": "FAILED"}


def test_what_is_named_twice_stays_together(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(test_x="def test_a(wasm_backend): pass\ndef test_b(wasm_backend): pass")
    for backends in ("fake-a", "fake-a,fake-b"):
        done = fakes.runpytest(
            f"--wasm-backends={backends}", "--keep-duplicates", "--collect-only", "-q", "test_x.py", "test_x.py"
        )
        ids = [line for line in done.stdout.lines if "[fake-a]" in line]
        assert ids == ["test_x.py::test_a[fake-a]"] * 2 + ["test_x.py::test_b[fake-a]"] * 2


def test_what_a_hook_takes_out_and_another_one_puts_back(fakes: pytest.Pytester) -> None:
    """While only a test without a backend of its own was left, there was nothing to put in order."""
    fakes.makeconftest(
        fakes.path.joinpath("conftest.py").read_text()
        + """
import pytest

HELD = []

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    HELD.extend(item for item in items if "fake-" in item.name)
    items[:] = [item for item in items if item not in HELD]

class Back:
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items.extend(sorted(HELD, key=lambda item: item.name))

def pytest_configure(config):
    config.pluginmanager.register(Back())
"""
    )
    fakes.makepyfile(
        test_x="def test_all(wasm_all): pass\ndef test_a(wasm_backend): pass\ndef test_b(wasm_backend): pass"
    )
    done = fakes.runpytest(TWO, "--collect-only", "-q")
    assert [line.partition("::")[2] for line in done.stdout.lines if "::" in line] == [
        "test_all",
        *["test_a[fake-a]", "test_b[fake-a]", "test_a[fake-b]", "test_b[fake-b]"],
    ]
