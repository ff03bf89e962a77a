"""wasm_memory_limit, PYTEST_WASMER_MEMORY_LIMIT, and the marker: what a test may take in each engine process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_wasmer.runtime import process
from tests.conftest import needs_wheels
from tests.fake_engine import module
from tests.integration.test_markers import outcomes
from tests.integration.workbench import assert_warned_once

pytestmark = pytest.mark.processes

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds what another process takes")
GROWS = """
    import pytest

    MODULE = '''(module
        (memory (export "memory") 1)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "fill") (result i32)
            (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            memory.size))'''
"""


@needs_wheels
@linux
def test_the_guest_sees_it_alike_on_each_backend(pytester: pytest.Pytester) -> None:
    """Each test has its own limit in one engine process; what instances of wider scope hold is not the test's."""
    pytester.makeini("[pytest]\nwasm_memory_limit = 64 MiB")
    pytester.makepyfile(
        GROWS
        + """
    import os
    PIDS = set()

    @pytest.fixture(autouse=True)
    def _same_process(wasm_backend, request):
        yield
        from pytest_wasmer import plugin

        session = request.config.stash[plugin.WASM].session
        PIDS.add(session.connection(wasm_backend).pid)
        assert len(PIDS) <= 3

    @pytest.fixture(scope="module")
    def held(wasm_instance):
        return wasm_instance(MODULE)

    @pytest.mark.wasm_memory_limit("256 MiB")
    def test_marker(held):
        assert held.exports.grow(3 * 1024) == 1
        assert held.exports.grow(1024) == -1

    @pytest.mark.wasm_agree("off", reason="a page more or less")
    def test_ini(held, wasm_instance):
        assert held.exports.grow(1100) == -1
        other = wasm_instance(MODULE)
        assert 1000 < other.exports.fill() < 1030
        assert held.exports.grow(16) == -1  # it is of the process, not of one memory

    @pytest.mark.wasm_memory_limit(0)
    def test_none(wasm_instance):
        assert wasm_instance(MODULE).exports.grow(8192) == 1
    """
    )
    result = pytester.runpytest("--wasm-backends=all", "-v")
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines(["wasm: *, memory limit 64 MiB (from tox.ini), *"])
    result.stdout.fnmatch_lines(["wasm: 2 tests agreed, 0 diverged, 1 not compared"])


@linux
@needs_wheels
@linux
def test_each_test_may_take_as_much_again(pytester: pytest.Pytester) -> None:
    """Also one after the other by the same setting."""
    pytester.makeini("[pytest]\nwasm_memory_limit = 64 MiB")
    pytester.makepyfile(
        GROWS
        + """
    @pytest.fixture(scope="module")
    def held(wasm_instance):
        return wasm_instance(MODULE)

    def test_one(held):
        assert held.exports.grow(800) == 1

    def test_two(held):
        assert held.exports.grow(800) == 801
        assert held.exports.grow(800) == -1
    """
    )
    pytester.runpytest("--wasm-backends=singlepass").assert_outcomes(passed=2)


def test_an_engine_that_needs_more_is_lost(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest
        from fake_engine import module, function

        EAT = module(exports={"eat": function("->", [["eat", 1 << 28]])})

        @pytest.mark.wasm_memory_limit("32 MiB")
        def test_bounded(wasm_instance):
            wasm_instance(EAT).exports.eat()

        def test_after(wasm_instance):
            wasm_instance(EAT).exports.eat()
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a", "-v")
    assert outcomes(result) == {"test_bounded[fake-a]": "FAILED", "test_after[fake-a]": "PASSED"}
    result.stdout.fnmatch_lines(["E *EngineFault: the fake-a engine failed: MemoryError: *"])


@pytest.mark.parametrize("source", ["environment", "ini"])
def test_what_is_no_size_is_a_usage_error(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    if source == "ini":
        fakes.makeini("[pytest]\nwasm_memory_limit = much")
    else:
        monkeypatch.setenv("PYTEST_WASMER_MEMORY_LIMIT", "much")
    result = fakes.runpytest()
    place = "wasm_memory_limit (from tox.ini)" if source == "ini" else "PYTEST_WASMER_MEMORY_LIMIT"
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == f"ERROR: {place}: 'much' is not a size such as 500 MiB or 2 GiB."


def test_where_it_cannot_be(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.sys, "platform", "darwin")
    fakes.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.wasm_memory_limit("1 MiB")

        def test_1(wasm_instance): wasm_instance("calc.wasm")
        def test_2(wasm_instance): wasm_instance("calc.wasm")
        """
    )
    (fakes.path / "calc.wasm").write_bytes(module())
    result = fakes.runpytest("--wasm-backends=fake-a", "-W", "default")
    assert_warned_once(result, passed=2)
    said = "marker wasm_memory_limit: without effect, since only Linux bounds what another process takes"
    result.stdout.fnmatch_lines([f"*PytestWarning: {said}"])


# Where memory runs out

CGROUP = Path("/sys/fs/cgroup/memory")
OUT_OF_MEMORY = """
    from pathlib import Path
    from fake_engine import module, function

    EAT = module(exports={"eat": function("->", [["eat", 1 << 27]])})

    def test_eats(wasm_instance, request):
        made = wasm_instance(EAT)
        from pytest_wasmer import plugin

        session = request.config.stash[plugin.WASM].session
        Path(CGROUP_TASKS).write_text(str(session.connection("fake-a").pid))
        made.exports.eat()

    def test_after(wasm_instance):
        wasm_instance(EAT).exports.eat()
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose processes can have 48 MiB."""
    group = CGROUP / f"pytest-wasmer-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(48 << 20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    with suppress(OSError):
        group.rmdir()


def test_the_kernel_ends_an_engine_process(fakes: pytest.Pytester, small_group: Path) -> None:
    fakes.makepyfile(OUT_OF_MEMORY.replace("CGROUP_TASKS", repr(str(small_group / "tasks"))))
    result = fakes.runpytest("--wasm-backends=fake-a", "-v")
    assert outcomes(result) == {"test_eats[fake-a]": "FAILED", "test_after[fake-a]": "PASSED"}
    (said,) = [line for line in result.stdout.lines if line.startswith("E ") and "was lost:" in line]
    assert "was lost: killed by SIGKILL, by the kernel for want of memory (" in said


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 3], "killed by SIGKILL"),
        ([3, 5], "killed by SIGKILL, by the kernel for want of memory (which it did 2 times meanwhile)"),
        ([None, None], "killed by SIGKILL (perhaps by the system, for want of memory)"),
    ],
)
def test_what_can_be_known(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, counts: list[int | None], said: str
) -> None:
    monkeypatch.setattr(process, "_oom_kills", lambda: counts.pop(0))
    fakes.makepyfile(
        """
        from fake_engine import module, function

        def test_it(wasm_instance):
            wasm_instance(module(exports={"die": function("->", [["signal", "SIGKILL"]])})).exports.die()
        """
    )
    result = fakes.runpytest("--wasm-backends=fake-a")
    result.stdout.fnmatch_lines([f"E *EngineLost: the fake-a engine process was lost: {said}"])
