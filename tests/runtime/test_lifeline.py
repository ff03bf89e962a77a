"""An engine process never outlives its test process, however that ends and whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.engines.registry import COMPILERS
from tests.conftest import needs_wheels
from tests.runtime.workbench import ends, eventually, start_script, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    Scripts = list[subprocess.Popen[str]]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")

IDLE = """
pool = new_pool()
made = load(pool, WASM, spec_of(sys.argv[1])).instantiate()
print(pool.connection(spec_of(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""
HANG = """
pool = new_pool()
spec = spec_of(sys.argv[1])
wasm = LOOP if sys.argv[1] == "fake-a" else pool.connection(spec).convert(LOOP_WAT, "the loop")
ready = lambda: print(pool.connection(spec).pid, flush=True)
load(pool, wasm, spec).instantiate({"env": {"ready": ready}}).exports.loop()
"""
STARTING = """
real = subprocess.Popen
def start(*arguments, **keywords):
    process = real(*arguments, **keywords)
    print(process.pid, flush=True)
    time.sleep(float(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGKILL)
subprocess.Popen = start
new_pool().connection(FAKE)
"""
FORKED = """
pool = new_pool()
made = load(pool, LOOP).instantiate({"env": {"ready": lambda: None}})
ready, say = os.pipe()
fork = os.fork()
if not fork:
    os.write(say, b"x")
    time.sleep(60)
    os._exit(0)
os.read(ready, 1)
print(pid_of(pool), flush=True)
print(fork, flush=True)
made.exports.loop()
"""


@pytest.fixture
def scripts() -> Iterator[Scripts]:
    """Scripts that end with the test."""
    running: Scripts = []
    yield running
    for script in running:
        script.kill()
        script.communicate()


def number_from(script: subprocess.Popen[str]) -> int:
    assert script.stdout is not None
    line = script.stdout.readline()
    if not line.strip().isdigit():
        script.kill()
        pytest.fail(line + script.stdout.read())
    return int(line)


def start(scripts: Scripts, text: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A script, and the engine process of which it printed the number."""
    scripts.append(start_script(text, *arguments))
    return scripts[-1], number_from(scripts[-1])


def is_busy(pid: int) -> bool:
    """Whether it computes, so that it is not waiting for its pipe any more."""
    return state_of(pid) == "R"


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_an_idle_one(scripts: Scripts, death: signal.Signals) -> None:
    script, engine = start(scripts, IDLE, "fake-a")
    assert eventually(lambda: state_of(engine) == "S")
    script.send_signal(death)
    assert ends(engine)


@pytest.mark.parametrize("backend", ["fake-a", *[pytest.param(name, marks=needs_wheels) for name in COMPILERS]])
def test_one_in_an_endless_loop(scripts: Scripts, backend: str) -> None:
    """Native code holds the GIL: no Python in that process could notice anything."""
    script, engine = start(scripts, HANG, backend)
    assert eventually(lambda: is_busy(engine))
    script.kill()
    assert ends(engine)


@pytest.mark.parametrize("after", ["0", "0.005", "0.01", "0.015", "0.02", "0.03"])
def test_one_that_starts(scripts: Scripts, after: str) -> None:
    """From before its Python is up until it waits for requests."""
    _, engine = start(scripts, STARTING, after)
    assert ends(engine)


def test_a_fork_of_the_test_process_does_not_keep_it(scripts: Scripts) -> None:
    """As by multiprocessing: a fork that lives on has copies of all descriptors, unless it lets go of them."""
    script, engine = start(scripts, FORKED)
    fork = number_from(script)
    try:
        assert eventually(lambda: is_busy(engine))
        script.kill()
        assert ends(engine)
        assert state_of(fork) not in ("", "Z")
    finally:
        os.kill(fork, signal.SIGKILL)


@pytest.mark.parametrize(
    "before",
    ["signal.signal(signal.SIGIO, signal.SIG_IGN)", "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])"],
    ids=["ignored", "blocked"],
)
def test_whatever_the_test_process_does_about_the_signal(scripts: Scripts, before: str) -> None:
    """A new process inherits what is ignored and what is blocked."""
    script, engine = start(scripts, f"{before}\n{HANG}", "fake-a")
    assert eventually(lambda: is_busy(engine))
    script.kill()
    assert ends(engine)


@pytest.mark.parametrize("text", ["", "sys.exit(3)", "raise SystemError", "os._exit(0)", "os.abort()"])
def test_the_ordinary_end(scripts: Scripts, text: str) -> None:
    """Nobody closes the pool."""
    body = IDLE.replace("time.sleep(60)", text)
    _, engine = start(scripts, body, "fake-a")
    assert ends(engine)


def test_a_thread_that_started_it_may_end(scripts: Scripts) -> None:
    """What the parent-death signal of Linux gets wrong."""
    text = (
        "pool = new_pool()\n"
        "thread = threading.Thread(target=lambda: pool.connection(FAKE))\n"
        "thread.start()\n"
        "thread.join()\n"
        "time.sleep(0.05)\n"
        "assert load(pool, WASM).instantiate().exports.sum(1, 2) == 3\n"
        "print(pid_of(pool), flush=True)\n"
        "time.sleep(60)\n"
    )
    script, engine = start(scripts, text)
    script.kill()
    assert ends(engine)
