"""Handlers of signals, kept as the engine needs them where it shares the test process."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.engines.registry import COMPILERS
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.runtime.sigactions import Sigactions
from tests.conftest import needs_wheels_here
from tests.runtime.workbench import FAKE, begin, run_script

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="no sigaction")

TRAPPING = """(module (memory 1)
  (func (export "load") (param i32) (result i32) local.get 0 i32.load)
  (func (export "one") (result i32) i32.const 1))"""

SCRIPT = f"""
from pytest_wasmer import Trap
pool = new_pool("none")
spec = spec_of(sys.argv[1])
def trap():
    made = load(pool, pool.connection(spec).convert({TRAPPING!r}, "t"), spec).instantiate()
    assert made.exports.one() == 1
    try:
        made.exports.load(65536)
    except Trap as error:
        print(error.kind.name, flush=True)
BEFORE
trap()
CHANGE
SETTLE
trap()
print("alive", flush=True)
"""
CHANGES = {
    "faulthandler enabled late": ("", "faulthandler.enable()"),
    "faulthandler disabled": ("faulthandler.enable()", "faulthandler.disable()"),
    "a Python handler": ("", "signal.signal(signal.SIGSEGV, lambda *a: None)"),
    "the default action": ("", "signal.signal(signal.SIGSEGV, signal.SIG_DFL)"),
}


def script(before: str, change: str, settle: str) -> str:
    return SCRIPT.replace("BEFORE", before).replace("CHANGE", change).replace("SETTLE", settle)


@needs_wheels_here
@posix
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("change", CHANGES)
def test_settled(compiler: str, change: str) -> None:
    """A trap stays a trap, whoever changed the handlers after the engine's first Store."""
    done = run_script(script(*CHANGES[change], "pool.settle()"), compiler)
    assert done.stdout == "MEMORY_OUT_OF_BOUNDS\nMEMORY_OUT_OF_BOUNDS\nalive\n"
    assert done.returncode == 0


@needs_wheels_here
@posix
# (With a Python handler it is worse: an endless loop, since the handler runs after the faulting instruction only.)
@pytest.mark.parametrize("change", [name for name in CHANGES if name != "a Python handler"])
def test_not_settled(change: str) -> None:
    """Else the next trap is the end: what `settle` is for."""
    done = run_script(script(*CHANGES[change], ""), "cranelift")
    assert done.stdout.startswith("MEMORY_OUT_OF_BOUNDS\n")
    assert "alive" not in done.stdout
    assert done.returncode != 0


def handlers() -> dict[int, bytes]:
    """The addresses of the four handlers: the first field of each structure."""
    return {number: saved[:8] for number, saved in Sigactions.now()._saved.items()}


@posix
def test_restore() -> None:
    """All four, and only what was changed."""
    before = {
        number: signal.getsignal(number) for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
    }
    saved, found = Sigactions.now(), handlers()
    try:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        assert set(handlers().values()) != set(found.values())
        saved.restore()
        assert handlers() == found
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        saved.restore()


def test_nothing_to_restore_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    saved = Sigactions.now()
    monkeypatch.undo()
    assert saved._saved == {}
    saved.restore()


@posix
def test_settle_in_an_engine_process_leaves_this_process_alone(processes: EnginePool) -> None:
    begin(processes)
    before, handler = handlers(), signal.getsignal(signal.SIGFPE)
    try:
        signal.signal(signal.SIGFPE, signal.SIG_IGN)
        changed = handlers()
        assert changed != before
        processes.settle()
        assert handlers() == changed
    finally:
        signal.signal(signal.SIGFPE, handler or signal.SIG_DFL)


@posix
def test_settle_restores_what_the_first_store_left(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = EnginePool("none", cache)
    pool.settle()
    # The fake engine installs no handlers: as if those of now had been a Store's.
    before, found = Sigactions.now(), handlers()
    monkeypatch.setattr(Sigactions, "installed", before)
    pool.connection(FAKE)
    handler = signal.getsignal(signal.SIGFPE)
    try:
        signal.signal(signal.SIGFPE, signal.SIG_IGN)
        pool.settle()
        assert handlers() == found
    finally:
        signal.signal(signal.SIGFPE, handler or signal.SIG_DFL)
        before.restore()
        pool.close()
