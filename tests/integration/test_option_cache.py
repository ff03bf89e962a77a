"""--wasm-cache, PYTEST_WASMER_CACHE, wasm_cache: what is kept for later runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.workbench import (
    MARKING,
    SUITE,
    XDIST,
    counts,
    own_directories,
    register,
    remarks,
    rows,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.processes

ONE, TWO = "--wasm-backends=fake-a", "--wasm-backends=fake-a,fake-b"
# A compile takes long enough for others to come meanwhile.
SLOW = """
import time
from fake_engine import FakeEngine

class Slow(FakeEngine):
    def compile(self, wasm):
        time.sleep(0.3)
        return super().compile(wasm)
"""
# Tests of one module that take long enough for two workers to share them.
SHARED = """
    import time
    import pytest
    from fake_engine import module

    @pytest.mark.parametrize("number", range(8))
    def test_it(wasm_module, number):
        wasm_module(module(name="one"))
        time.sleep(0.1)
"""


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_directories(monkeypatch, tmp_path)


def test_on_is_the_default(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fakes.makepyfile(SUITE)
    first, second = fakes.runpytest(TWO), fakes.runpytest(TWO, "--wasm-cache=on")
    assert [counts(first, name) for name in ("fake-a", "fake-b")] == [(2, 0, 0)] * 2
    assert [counts(second, name) for name in ("fake-a", "fake-b")] == [(0, 2, 0)] * 2
    assert len(stored(tmp_path)) == 4


def test_off_compiles_in_each_run_and_leaves_no_file(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fakes.makepyfile(SUITE)
    for _ in range(2):
        assert counts(fakes.runpytest(ONE, "--wasm-cache=off")) == (2, 0, 0)
    assert not (tmp_path / "cache-home" / "pytest-wasmer" / "artifacts").exists()
    assert not [*(tmp_path / "data-home").rglob("seal.key")]


def test_off_uses_nothing_that_is_stored(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    assert counts(fakes.runpytest(ONE, "--wasm-cache=off")) == (2, 0, 0)


def test_refresh_compiles_once_more_and_replaces_what_is_stored(fakes: pytest.Pytester, tmp_path: Path) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    before = {path: path.stat().st_mtime_ns for path in stored(tmp_path)}
    assert counts(fakes.runpytest(ONE, "--wasm-cache=refresh")) == (2, 0, 0)
    after = {path: path.stat().st_mtime_ns for path in stored(tmp_path)}
    assert list(after) == list(before)
    assert not set(after.values()) & set(before.values())
    assert counts(fakes.runpytest(ONE)) == (0, 2, 0)


def test_with_isolation_none(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(SUITE)
    options = (ONE, "--wasm-isolation=none")
    assert counts(fakes.runpytest(*options)) == (2, 0, 0)
    assert counts(fakes.runpytest(*options)) == (0, 2, 0)
    assert counts(fakes.runpytest(ONE)) == (0, 2, 0), "one store serves both kinds of isolation"


def test_precedence_is_command_line_environment_ini(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.makepyfile(SUITE)
    fakes.makeini("[pytest]\nwasm_backends = fake-a\nwasm_cache = refresh")
    fakes.runpytest().stdout.fnmatch_lines(["wasm: *, cache refresh (from tox.ini), isolation process"])
    monkeypatch.setenv("PYTEST_WASMER_CACHE", "off")
    environment = fakes.runpytest()
    environment.stdout.fnmatch_lines(["wasm: *, cache off (from PYTEST_WASMER_CACHE), isolation process"])
    assert counts(environment) == (2, 0, 0)
    option = fakes.runpytest("--wasm-cache=on")
    option.stdout.fnmatch_lines(["wasm: *, cache on (from --wasm-cache), isolation process"])
    assert counts(option) == (0, 2, 0)


@pytest.mark.parametrize("source", ["option", "environment", "ini"])
def test_another_value_is_a_usage_error(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    arguments, place = ["--wasm-cache=refesh"], "--wasm-cache"
    if source == "environment":
        arguments, place = [], "PYTEST_WASMER_CACHE"
        monkeypatch.setenv(place, "refesh")
    elif source == "ini":
        arguments, place = [], "wasm_cache (from tox.ini)"
        fakes.makeini("[pytest]\nwasm_cache = refesh")
    result = fakes.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        f"ERROR: {place}: 'refesh' is unknown. Did you mean 'refresh'? Known: on, off, refresh."
    )


# What the summary says


def test_seconds_saved_are_what_the_compile_had_taken(pytester: pytest.Pytester) -> None:
    register(pytester, "slow", SLOW, "Slow")
    pytester.makepyfile("from fake_engine import module\n\ndef test_it(wasm_module): wasm_module(module())")
    first = rows(pytester.runpytest("--wasm-backends=slow"))["slow"]
    second = rows(pytester.runpytest("--wasm-backends=slow"))["slow"]
    assert 0.3 <= float(first["compile"].split()[0]) < 3
    assert first["saved"] == "0.00 s"
    assert second["compile"] == "0.00 s"
    # Less what the load took, which depends on how busy the machine is.
    assert 0 < float(second["saved"].split()[0]) <= float(first["compile"].split()[0])


def test_what_fixtures_of_wider_scope_load_is_counted(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest
        from fake_engine import module

        @pytest.fixture(scope="session")
        def kept(wasm_module): return wasm_module(module())

        def test_first(kept): pass

        def test_second(kept, wasm_module): wasm_module(module(name="other"))
        """
    )
    assert counts(fakes.runpytest(ONE)) == (2, 0, 0)
    assert counts(fakes.runpytest(ONE)) == (0, 2, 0)


# What keys depend on


def test_a_backend_without_identity_is_never_stored_but_runs_reloaded(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    register(pytester, "marking", MARKING, "Marking", identity="")
    pytester.makepyfile(
        """
        from fake_engine import module

        def test_it(wasm_module):
            assert wasm_module(module(name="compiled")).name == "reloaded"
        """
    )
    for _ in range(2):
        result = pytester.runpytest("--wasm-backends=marking")
        result.assert_outcomes(passed=1)
        assert counts(result, "marking") == (1, 0, 0)
    assert stored(tmp_path) == []


def test_another_identity_is_a_miss(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("from fake_engine import module\n\ndef test_it(wasm_module): wasm_module(module())")
    # Of other lengths: a conftest of the same size and second would be taken for the same.
    for identity, expected in (("1", (1, 0, 0)), ("22", (1, 0, 0)), ("1", (0, 1, 0))):
        register(pytester, "marking", MARKING, "Marking", identity)
        assert counts(pytester.runpytest("--wasm-backends=marking"), "marking") == expected


def test_what_the_hook_adds_is_part_of_the_key(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.makepyfile(SUITE)
    fakes.path.joinpath("firmware.py").write_text(
        'import os\n\ndef pytest_wasmer_key_parts(config):\n    return {"firmware": os.environ["FIRMWARE"]}\n'
    )
    fakes.syspathinsert()
    for firmware, expected in (("1", (2, 0, 0)), ("2", (2, 0, 0)), ("1", (0, 2, 0))):
        monkeypatch.setenv("FIRMWARE", firmware)
        assert counts(fakes.runpytest(ONE, "-p", "firmware")) == expected
    assert counts(fakes.runpytest(ONE)) == (2, 0, 0), "nor may a run without the hook use them"


@pytest.mark.parametrize("returned", ["['firmware']", "{'firmware': 1}", "'firmware'"])
def test_a_hook_that_returns_something_else_is_named(fakes: pytest.Pytester, returned: str) -> None:
    fakes.makepyfile(SUITE)
    fakes.path.joinpath("firmware.py").write_text(f"def pytest_wasmer_key_parts(config):\n    return {returned}\n")
    fakes.syspathinsert()
    result = fakes.runpytest(ONE, "-p", "firmware", "-k", "two")
    result.assert_outcomes(failed=1, deselected=2)
    said = [line for line in result.stdout.lines if line.startswith("E  ")]
    assert [line.partition("UsageError: ")[2] for line in said] == [
        f"the hook pytest_wasmer_key_parts returned {returned}: it is to be a dict of str"
    ]


# What is stored but not to be used


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("position", [-1, -70, 0, 30], ids=["end", "artifact", "title", "head"])
def test_a_flipped_byte_is_refused_compiled_again_and_replaced(
    fakes: pytest.Pytester, tmp_path: Path, position: int
) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    flip(stored(tmp_path)[0], position)
    second = fakes.runpytest(ONE)
    second.assert_outcomes(passed=3)
    assert counts(second) == (1, 1, 1)
    assert remarks(second) == []
    assert counts(fakes.runpytest(ONE)) == (0, 2, 0)


@pytest.mark.parametrize("workers", [(), XDIST], ids=["alone", "xdist"])
def test_without_the_seal_key_everything_is_a_miss_and_nothing_an_error(
    fakes: pytest.Pytester, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    (seal,) = (tmp_path / "data-home").rglob("seal.key")
    seal.unlink()
    second = fakes.runpytest(ONE, *workers)
    second.assert_outcomes(passed=3)
    compiled, _, refused = counts(second)
    assert (compiled, refused) == (2, 2)
    assert counts(fakes.runpytest(ONE)) == (0, 2, 0)


def test_an_entry_under_another_name_is_refused(fakes: pytest.Pytester, tmp_path: Path) -> None:
    """Its seal is good: what it is for is not."""
    fakes.makepyfile(SUITE)
    fakes.runpytest(ONE)
    one, two = stored(tmp_path)
    two.write_bytes(one.read_bytes())
    second = fakes.runpytest(ONE)
    second.assert_outcomes(passed=3)
    assert counts(second) == (1, 1, 1)


def test_an_entry_that_kills_the_engine_is_not_tried_twice(pytester: pytest.Pytester, tmp_path: Path) -> None:
    code = """
import os
from fake_engine import FakeEngine

class Deadly(FakeEngine):
    def deserialize(self, artifact, *more):
        if os.path.exists({deadly!r}):
            os.remove({deadly!r})
            os.abort()
        return super().deserialize(artifact, *more)
"""
    deadly = tmp_path / "deadly"
    register(pytester, "deadly", code.format(deadly=str(deadly)), "Deadly")
    pytester.makepyfile(
        """
        from fake_engine import module

        def test_first(wasm_module): wasm_module(module())

        def test_second(wasm_module): wasm_module(module())
        """
    )
    pytester.runpytest("--wasm-backends=deadly").assert_outcomes(passed=2)
    deadly.touch()
    result = pytester.runpytest("--wasm-backends=deadly")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*the deadly engine process was lost: killed by SIGABRT", "*serving: load of the stored artifact of <bytes>"]
    )
    assert counts(result, "deadly") == (1, 0, 0)


# Engine processes that are lost


def test_modules_of_a_lost_engine_come_back_from_the_store(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest
        from fake_engine import module, function

        WASM = module(exports={"f": function("-> i32", [["return", 7]]), "die": function("->", [["exit", 3]])})

        @pytest.fixture(scope="session")
        def kept(wasm_module): return wasm_module(WASM)

        def test_before(kept): assert kept.instantiate().exports.f() == 7

        def test_dies(kept): kept.instantiate().exports.die()

        def test_after(kept): assert kept.instantiate().exports.f() == 7
        """
    )
    for expected in ((1, 1, 0), (0, 2, 0)):
        result = fakes.runpytest(ONE)
        result.assert_outcomes(passed=2, failed=1)
        assert counts(result) == expected


def test_without_a_store_they_are_compiled_again(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        from fake_engine import module, function

        WASM = module(exports={"die": function("->", [["exit", 3]])})

        def test_dies(wasm_instance): wasm_instance(WASM).exports.die()

        def test_after(wasm_instance): wasm_instance(WASM)
        """
    )
    result = fakes.runpytest(ONE, "--wasm-cache=off")
    result.assert_outcomes(passed=1, failed=1)
    assert counts(result) == (2, 0, 0)


# Several processes


def test_xdist_compiles_each_module_once(pytester: pytest.Pytester) -> None:
    register(pytester, "slow", SLOW, "Slow")
    pytester.makepyfile(SHARED)
    first, second, again = (
        pytester.runpytest("--wasm-backends=slow", *XDIST, *more) for more in ([], [], ["--wasm-cache=refresh"])
    )
    for result, expected in ((first, (1, 1, 0)), (second, (0, 2, 0)), (again, (1, 1, 0))):
        result.assert_outcomes(passed=8)
        assert counts(result, "slow") == expected


def test_two_sessions_at_once_compile_each_module_once_in_total(pytester: pytest.Pytester) -> None:
    register(pytester, "slow", SLOW, "Slow")
    pytester.makepyfile(
        """
        import pytest
        from fake_engine import module

        @pytest.mark.parametrize("number", range(3))
        def test_it(wasm_module, number): wasm_module(module(name=str(number)))
        """
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--wasm-backends=slow"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    results = []
    for run in runs:
        lines = run.communicate(timeout=60)[0].splitlines()
        results.append(pytest.RunResult(run.returncode, lines, [], 0))
    assert [result.ret for result in results] == [0, 0]
    compiled, loaded, refused = (
        sum(column) for column in zip(*[counts(result, "slow") for result in results], strict=True)
    )
    assert (compiled, loaded, refused) == (3, 3, 0)


def test_refresh_counts_from_the_begin_of_the_run_also_for_a_worker_that_replaces_another(
    fakes: pytest.Pytester,
) -> None:
    fakes.makepyfile(
        """
        import os
        from fake_engine import module

        def test_first(wasm_module): wasm_module(module())

        def test_second(wasm_module): os._exit(1)

        def test_third(wasm_module): wasm_module(module())
        """
    )
    result = fakes.runpytest(ONE, "--wasm-cache=refresh", "-p", "xdist", "-n", "1")
    result.assert_outcomes(passed=2, failed=1)
    assert counts(result) == (1, 1, 0)
