"""What starting costs: the plugin in a suite without Wasm, and an engine process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from figures.engines import backends, cache_directory
from figures.figure import Figure, at_most, compared, seconds, typical
from figures.runs import WITH_PLUGIN, WITHOUT_PLUGIN, run
from pytest_wasmer.runtime.pipe import PipeConnection
from pytest_wasmer.runtime.process import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.engines.registry import BackendSpec

CHILD = Path(__file__).resolve().parent.parent / "children" / "timed_pytest.py"
RUNS = 15
STARTS = 31
PLAIN_TESTS = 50
PYTEST = ("pytest", "_pytest", "pluggy")


class Cost(NamedTuple):
    """Seconds that a run spent in the plugin's import and hooks, and the modules that it had loaded in the end."""

    imports: float
    hooks: float
    modules: frozenset[str]


def no_wasm() -> Iterator[Figure]:
    """Import and hooks of the plugin in a suite of 50 plain tests, and what it imports, beyond pytest's own."""
    costs = [_run_plain_suite(WITH_PLUGIN) for _ in range(RUNS + 1)][1:]
    total = typical([cost.imports + cost.hooks for cost in costs]) * 1e3
    imports = typical([cost.imports for cost in costs]) * 1e3
    hooks = typical([cost.hooks for cost in costs]) * 1e3
    note = f"import {imports:.2f} ms, hooks of {PLAIN_TESTS} tests {hooks:.2f} ms"
    yield at_most(5.0, "no-wasm", total, "ms", note)

    added = costs[-1].modules - _run_plain_suite(WITHOUT_PLUGIN).modules
    ours = {name for name in added if name.split(".")[0] == "pytest_wasmer"}
    standard = {name for name in added - ours if name.split(".")[0] in sys.stdlib_module_names}
    foreign = {name for name in added - ours - standard if name.split(".")[0] not in PYTEST}
    note = f"foreign: {_listed(foreign)}; standard library: {_listed(standard)}; {len(ours)} of its own"
    yield at_most(0, "no-wasm-imports", len(foreign), "foreign modules", note)


def _run_plain_suite(plugins: list[str]) -> Cost:
    directory, report = cache_directory() / "plain", cache_directory() / "report.json"
    directory.mkdir(exist_ok=True)
    tests = "\n".join(f"def test_{number}(): pass" for number in range(PLAIN_TESTS))
    (directory / "test_plain.py").write_text(tests)
    run([str(CHILD), str(report)], directory, plugins)
    said = json.loads(report.read_text())
    imports = said["spent"].pop("import", 0.0)
    return Cost(imports, sum(said["spent"].values()), frozenset(said["modules"]))


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def engine_start() -> Iterator[Figure]:
    """An engine process until it can take requests, against a Python until it has imported the wheels."""
    for spec in backends():
        start, imports = compared(STARTS, partial(_start, spec), partial(seconds, partial(_import_wheels, spec.name)))
        note = f"start {start * 1e3:.1f} ms, imports {imports * 1e3:.1f} ms (without the end of either process)"
        yield at_most(10.0, f"engine-start {spec.name}", (start - imports) * 1e3, "ms more", note)


def _start(spec: BackendSpec) -> float:
    connections: list[PipeConnection] = []

    def start() -> None:
        connections.append(PipeConnection(spec, cache_directory() / "pycache"))
        # The first message is not waited for before the first request.
        connections[0]._greet()

    duration = seconds(start)
    connections[0].close()
    return duration


# The wheel of LLVM needs the loader's repair; it is imported as engine processes do, without the package's __init__.
REPAIR = """
import sys
package = type(sys)("pytest_wasmer")
package.__path__ = [sys.argv[1]]
sys.modules["pytest_wasmer"] = package
from pytest_wasmer.engines import libtinfo
libtinfo.provide()
"""


def _import_wheels(compiler: str) -> None:
    """Comes back as soon as the other Python says that it has imported them."""
    repair = REPAIR if compiler == "llvm" else ""
    code = f"{repair}import wasmer, wasmer_compiler_{compiler}; print(flush=True)"
    command = [sys.executable, "-I", "-X", f"pycache_prefix={cache_directory() / 'pycache'}", "-c", code, str(PACKAGE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 1) == b"\n"
