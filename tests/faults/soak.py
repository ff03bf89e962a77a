"""Thousands of tests with random faults on three fake and three real backends, in two workers of xdist.

The outcome of each test must be what the plan of its faults says; processes, descriptors and memory must not leak.
`python -m tests.faults.soak [TESTS] [SEED]` runs it; the suite runs a small one.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pytest_wasmer.engines.registry import COMPILERS
from tests.fake_engine import NAMES
from tests.faults.workbench import Run

# What a test does and how it ends. On every backend: its last steps come from the host, in the middle of a call.
PASSES = ("add", "trap", "host", "grow", "raise", "twice")
FAILS = ("segv", "kill", "abrt", "hang", "wrong", "lost before")
# What only the fake engine can be told to do.
FAKE_FAILS = ("exit", "garbage", "close", "panic", "no exception")

# A worker has 15 descriptors, and four per engine process of six backends; now and then one of a process that goes.
DESCRIPTORS = 15 + 6 * 4 + 6
# In bytes: reports live as long as the session, those of failures with what they say.
GROWTH = 48 << 20

SUITE = """
    import json
    import os
    import signal
    from pathlib import Path

    import pytest
    from fake_engine import module, function, memory
    from pytest_wasmer import Trap

    PLAN = json.loads(Path(__file__).with_name("plan.json").read_text())
    FAKE_STEPS = {
        "exit": [["exit", 3]], "garbage": [["say", "ff" * 32]], "close": ["close"],
        "panic": [["panic", "oh no"]], "no exception": [["raise", "oh no"]],
    }

    def fake(number):
        exports = {
            "add": function("i32 i32 -> i32", ["sum"]), "trap": function("->", [["trap", "UNREACHABLE"]]),
            "host": function("i32 -> i32", ["host"]), "hang": function("->", ["hang"]),
            "grow": function("->", [["grow", "memory", 1]]), "memory": memory(1),
        }
        exports |= {name: function("->", steps) for name, steps in FAKE_STEPS.items()}
        return module(name=str(number), imports=[("env", "h", ["func", ["i32"], ["i32"]])], exports=exports)

    def real(number):
        return f'''(module $m{number}
            (import "env" "h" (func $h (param i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
            (func (export "trap") unreachable)
            (func (export "host") (param i32) (result i32) (call $h (local.get 0)))
            (func (export "hang") (loop $again (br $again)))
            (func (export "grow") (drop (memory.grow (i32.const 1)))))'''

    @pytest.fixture(scope="module")
    def held(wasm_instance, wasm_backend):
        # An instance that every loss takes along.
        source = fake("held") if wasm_backend.startswith("fake") else real("held")
        return wasm_instance(source, imports={"env": {"h": lambda value: value}})

    def body(number, what, wasm_instance, wasm_backend, session, held):
        pid = session.connection(wasm_backend).pid
        if what == "lost before":
            os.kill(pid, signal.SIGKILL)

        def host(value):
            if what in ("segv", "kill", "abrt"):
                os.kill(pid, getattr(signal, "SIG" + what.upper()))
            if what == "raise":
                raise LookupError("mine")
            return made.exports.add(value, 1) if what == "twice" else value

        source = fake if wasm_backend.startswith("fake") else real
        # A few modules, so that they are loaded again and again, but never crash three times in a row.
        made = wasm_instance(source(number % 40 if what in ("add", "trap", "host") else number), {"env": {"h": host}})
        assert held.exports.add(number, 1) == number + 1
        if what == "trap":
            with pytest.raises(Trap):
                made.exports.trap()
        elif what == "raise":
            with pytest.raises(LookupError, match="mine"):
                made.exports.host(1)
        elif what in ("host", "twice", "segv", "kill", "abrt"):
            assert made.exports.host(7) == (8 if what == "twice" else 7)
        elif what in ("hang", "grow", *FAKE_STEPS):
            made.exports[what]()
        assert made.exports.add(number, 1) == number + (2 if what == "wrong" else 1)

    @pytest.fixture
    def session(request):
        from pytest_wasmer import plugin

        return request.config.stash[plugin.WASM].session

    for backend, entries in PLAN.items():
        def made(wasm_instance, wasm_backend, session, held, number, what):
            body(number, what, wasm_instance, wasm_backend, session, held)
        made = pytest.mark.parametrize("number, what", entries, ids=[str(number) for number, _ in entries])(made)
        globals()["test_" + backend.replace("-", "_")] = pytest.mark.wasm_backends(backend)(made)
"""

# What each worker has, now and then, and what became of each test.
CONFTEST = """
import json, os
from pathlib import Path

def _measure():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * 4096

DONE = []

def pytest_runtest_logreport(report):
    if report.when == "call" and not os.environ.get("PYTEST_XDIST_WORKER"):
        with open("outcomes.jsonl", "a") as file:
            print(json.dumps([report.nodeid, report.outcome, report.longreprtext[-3000:]]), file=file)

def pytest_runtest_logfinish(nodeid):
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    DONE.append(nodeid)
    if worker and len(DONE) % 25 == 0:
        with open("measures.jsonl", "a") as file:
            print(json.dumps([worker, *_measure()]), file=file)
"""


class Result(NamedTuple):
    """`wrong`: tests that ended otherwise than planned. By worker, measures over the run."""

    tests: int
    failed: int
    seconds: float
    wrong: list[str]
    descriptors: dict[str, list[int]]
    memory: dict[str, list[int]]
    clean: bool


def plan(tests: int, backends: list[str], seed: int) -> dict[str, list[tuple[int, str]]]:
    """By backend, numbers of tests and what they do: a fault in one of four."""
    chosen = random.Random(seed)
    found: dict[str, list[tuple[int, str]]] = {name: [] for name in backends}
    for number in range(tests):
        name = chosen.choice(backends)
        fails = (*FAILS, *FAKE_FAILS) if name in NAMES else FAILS
        found[name].append((number, chosen.choice(fails if chosen.random() < 0.25 else PASSES)))
    return found


def soak(folder: Path, tests: int, backends: list[str], seed: int) -> Result:
    planned = plan(tests, backends, seed)
    (folder / "plan.json").write_text(json.dumps(planned))
    (folder / "test_soak.py").write_text("\n".join(line[4:] for line in SUITE.splitlines()))
    limits = ("--wasm-timeout=0.3", "--wasm-repro=off")
    began = time.perf_counter()
    run = Run(
        folder, f"--wasm-backends={','.join(backends)}", *limits, "-q", "-p", "xdist", "-n", "2", conftest=CONFTEST
    )
    run.finish(3600)
    seconds = time.perf_counter() - began
    lines = map(json.loads, (folder / "outcomes.jsonl").read_text().splitlines())
    outcomes = {nodeid: (outcome, text) for nodeid, outcome, text in lines if outcome != "skipped"}
    wrong, failed = [], 0
    for name, entries in planned.items():
        for number, what in entries:
            nodeid = f"test_soak.py::test_{name.replace('-', '_')}[{name}-{number}]"
            outcome, text = outcomes.pop(nodeid, ("missing", ""))
            failed += outcome == "failed"
            if not _fits(name, what, outcome, text):
                wrong.append(f"{nodeid} ({what}): {outcome} {text[-500:]}")
    wrong += [f"{nodeid}: not planned" for nodeid in outcomes]
    measures = [json.loads(line) for line in (folder / "measures.jsonl").read_text().splitlines()]
    workers = sorted({worker for worker, *_ in measures})
    descriptors, memory = ({name: [one[at] for one in measures if one[0] == name] for name in workers} for at in (1, 2))
    return Result(tests, failed, seconds, wrong, descriptors, memory, run.is_clean())


def _fits(backend: str, what: str, outcome: str, text: str) -> bool:
    if what in PASSES:
        return outcome == "passed"
    said = {
        "segv": "was lost: killed by SIGSEGV",
        "kill": "was lost: killed by SIGKILL",
        "abrt": "was lost: killed by SIGABRT",
        "lost before": "was lost: killed by SIGKILL",
        "hang": "was lost: ended after 0.3 s, the limit of a call (--wasm-timeout)",
        "exit": "was lost: exit status 3",
        "garbage": "was lost: it sent nonsense and was killed",
        "close": "was lost: it closed its pipe",
        "panic": "engine panicked in 'panic' of <bytes>: oh no",
        "no exception": "engine failed: PanicException: oh no",
        "wrong": "assert ",
    }[what]
    return outcome == "failed" and said in text and (what == "wrong" or f"the {backend} engine" in text)


def main() -> None:
    tests, seed = [*map(int, sys.argv[1:]), *(2000, 1)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = soak(Path(folder), tests, [*NAMES, *COMPILERS], seed)
    print(f"{result.tests} tests, {result.failed} failed, {result.seconds:.0f} s, clean at the end: {result.clean}")
    for worker, counts in result.descriptors.items():
        sizes = [size >> 20 for size in result.memory[worker]]
        print(f"{worker}: descriptors {counts[:1]} ... {counts[-3:]}, MiB {sizes[:2]} ... {sizes[-3:]}")
    print(f"{len(result.wrong)} otherwise than planned", *result.wrong, sep="\n")
    sys.exit(bool(result.wrong))


if __name__ == "__main__":
    main()
