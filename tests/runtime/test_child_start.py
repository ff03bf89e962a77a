"""The engine process's start: in which order, with which signals, and how little it imports."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.engines.registry import COMPILERS, Registry
from pytest_wasmer.runtime import child, wire
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.runtime.process import PACKAGE
from tests.conftest import needs_wheels
from tests.fake_engine import function, module
from tests.runtime.workbench import FAKE, begin, load, pid_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.engines.registry import BackendSpec

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")


# The order


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `main` does, in order, done to nobody."""
    seen: list[str] = []

    class Exited(BaseException):
        pass

    def note(text: str, answer: Any = None) -> Any:
        return lambda *arguments, **keywords: (seen.append(" ".join([text, *map(str, arguments)]).strip()), answer)[1]

    def exit_(status: int) -> None:
        seen.append(f"exit {status}")
        raise Exited

    class Server:
        def __init__(self, frames: wire.Frames, reference: str, argument: str) -> None:
            seen.append(f"engine {reference} {argument}, pipe {frames.incoming} {frames.outgoing}, {frames._patient=}")

        def serve(self) -> None:
            seen.append("serve")
            raise wire.Closed

    duplicates = iter([100, 101])
    monkeypatch.setattr(os, "dup", lambda number: (seen.append(f"dup {number}"), next(duplicates))[1])
    monkeypatch.setattr(os, "dup2", note("dup2"))
    monkeypatch.setattr(os, "open", lambda path, flags: (seen.append(f"open {path}"), 102)[1])
    monkeypatch.setattr(os, "_exit", exit_)
    monkeypatch.setattr(os, "write", note("write"))
    monkeypatch.setattr("faulthandler.enable", note("faulthandler"))
    monkeypatch.setattr(child, "tie_to_parent", note("lifeline"))
    monkeypatch.setattr(child, "volunteer_for_the_oom_killer", note("oom"))
    monkeypatch.setattr(child, "Server", Server)
    monkeypatch.setattr(sys, "argv", ["-c", "package", "module:factory", "argument", "7", "own/path"])
    monkeypatch.setattr(sys, "path", ["standard library"])
    seen.append("start")
    try:
        with pytest.raises(Exited):
            child.main()
        seen.append(f"path {sys.path}")
    finally:
        monkeypatch.undo()
    return seen


def test_order(events: list[str]) -> None:
    """The pipe is out of the way before anything can print; faulthandler comes before the engine's first Store."""
    assert events == [
        "start",
        "dup 0",
        "dup 1",
        f"open {os.devnull}",
        "dup2 102 0",
        "dup2 2 1",
        "faulthandler 2",
        "lifeline 7",
        "oom",
        "engine module:factory argument, pipe 100 101, frames._patient=True",
        "serve",
        "exit 0",
        "path ['standard library', 'own/path']",
    ]


# The lifeline


class Fcntl:
    """What is asked of the kernel, and nothing of it done: this process is not to be killed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        patch.setattr("fcntl.fcntl", self)

    def __call__(self, *arguments: int) -> int:
        self.calls.append(arguments)
        return 0


@linux
def test_the_kernel_is_asked_to_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    ours, theirs = os.pipe()
    calls = Fcntl(monkeypatch).calls
    child.tie_to_parent(ours)
    *prepared, asked = calls
    assert asked == (ours, fcntl.F_SETFL, os.O_ASYNC)
    assert sorted(prepared) == sorted(
        [
            (ours, fcntl.F_SETOWN, os.getpid()),
            (ours, fcntl.F_SETSIG, signal.SIGKILL),  # type: ignore[attr-defined]
            (ours, fcntl.F_GETFL),
        ]
    )
    os.close(ours)
    os.close(theirs)


@linux
def test_a_parent_that_is_gone_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the start of this process and the asking: no signal comes for what has happened already."""

    def exit_(status: int) -> None:
        raise SystemExit(status)

    ours, theirs = os.pipe()
    os.close(theirs)
    Fcntl(monkeypatch)
    monkeypatch.setattr(os, "_exit", exit_)
    with pytest.raises(SystemExit) as ended:
        child.tie_to_parent(ours)
    os.close(ours)
    assert ended.value.code == 0


def test_no_lifeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    child.tie_to_parent(-1)
    child.tie_to_parent(5)


# Out of memory


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EPERM])
def test_the_oom_score_cannot_be_had_everywhere(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(path: str, mode: str) -> None:
        raise OSError(number, "refused", path)

    monkeypatch.setattr(child, "open", refuse, raising=False)
    child.volunteer_for_the_oom_killer()


def test_the_oom_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "score"
    monkeypatch.setattr(child, "open", lambda path, mode: file.open(mode), raising=False)
    child.volunteer_for_the_oom_killer()
    assert file.read_text() == "1000"


# Signals


@linux
@pytest.mark.parametrize("started_by", ["main thread", "another thread"])
def test_ctrl_c_is_blocked(processes: EnginePool, started_by: str) -> None:
    if started_by == "another thread":
        import threading

        thread = threading.Thread(target=processes.connection, args=(FAKE,))
        thread.start()
        thread.join()
    begin(processes)
    status = Path(f"/proc/{pid_of(processes)}/status").read_text()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    assert blocked >> signal.SIGINT - 1 & 1


# Imports

# Says what its process has imported where it is asked for an artifact.
SPY = """
import sys
from {module} import {base}
class Spy({base}):
    {body}
    def serialize(self, module):
        return "\\n".join(sys.modules).encode()
"""
BARE = """
    def __init__(self, argument): pass
    def compile(self, wasm): return wasm
    def describe(self, module): return ("", [], [("f", ("func", ("i32",), ("i32",)))])
    def instantiate(self, module, imports): return module, [None]
    def caller(self, function, params, results): return lambda values: values
"""
# (func (export "f") (param i32) (result i32) local.get 0)
WASM = bytes.fromhex("0061736d0100000001060160017f017f03020100070501016600000a0601040020000b")
HEAVY = {
    "argparse", "ast", "asyncio", "collections", "concurrent", "contextlib", "dataclasses", "functools", "hashlib",
    "importlib.util", "inspect", "json", "logging", "multiprocessing", "operator", "pathlib", "pickle", "random", "re",
    "signal", "socket", "subprocess", "tempfile", "threading", "traceback", "typing", "weakref",
}  # fmt: skip


def imported_by(pool: EnginePool, spec: BackendSpec) -> set[str]:
    """By an engine process that has compiled and called, besides what a Python starts with that has no `site`."""
    made = load(pool, WASM, spec).instantiate()
    assert made.exports.f(41) == 41
    assert made.exports.f.map([(1,), (2,)]) == [1, 2]
    found = made.module.serialize().decode().split("\n")
    started = subprocess.run(
        [spec.python, "-I", "-S", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {*found} - {*started.stdout.split()}


def strangers(names: set[str]) -> set[str]:
    """Neither the standard library nor the child's side of this package."""
    ours = ("pytest_wasmer.runtime", "pytest_wasmer.engines", "pytest_wasmer.artifacts")
    return {
        name
        for name in names - {"pytest_wasmer", *ours, "spy_engine"}
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not name.startswith(tuple(f"{our}." for our in ours))
    }


@linux
def test_a_bare_python_is_enough(processes: EnginePool, tmp_path: Path) -> None:
    """Without any site-packages: what runs the wheels may have the wheels and nothing else."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    (tmp_path / "spy_engine.py").write_text(SPY.format(module="pytest_wasmer.engines.api", base="Engine", body=BARE))
    spec = FAKE._replace(engine="spy_engine:Spy", python=str(python), import_path=str(tmp_path))
    names = imported_by(processes, spec)
    assert strangers(names) == set()
    assert names & HEAVY == set()
    assert {name for name in names if name.startswith("pytest_wasmer.")} == {
        "pytest_wasmer.runtime",
        "pytest_wasmer.runtime.blobs",
        "pytest_wasmer.runtime.child",
        "pytest_wasmer.runtime.wire",
        "pytest_wasmer.runtime.executor",
        "pytest_wasmer.engines",
        "pytest_wasmer.engines.api",
        "pytest_wasmer.artifacts",
        "pytest_wasmer.artifacts.entry",
    }


@linux
def test_the_fake_engine_runs_on_a_bare_python(processes: EnginePool, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    wasm = module(exports={"sum": function("i32 i32 -> i32", ["sum"])})
    assert load(processes, wasm, FAKE._replace(python=str(python))).instantiate().exports.sum(1, 2) == 3


@needs_wheels
@pytest.mark.parametrize("compiler", COMPILERS)
def test_with_the_wheels(processes: EnginePool, tmp_path: Path, compiler: str) -> None:
    """Their own imports are `enum` and `types`; the repair of the LLVM one needs `ctypes`."""
    (tmp_path / "spy_engine.py").write_text(
        SPY.format(module="pytest_wasmer.engines.wheels", base="WheelsEngine", body="")
    )
    spec = Registry([], tmp_path).spec(compiler)._replace(engine="spy_engine:Spy", import_path=str(tmp_path))
    names = imported_by(processes, spec)
    wheel = f"wasmer_compiler_{compiler}"
    assert strangers(names) == {"wasmer", "wasmer.wasmer", wheel, f"{wheel}.{wheel}"}
    assert names & HEAVY == set()
    assert "site" not in names


def imports_of(path: Path) -> Iterator[str]:
    """Of a file, wherever in it, but for those that only type checkers see."""
    tree = ast.parse(path.read_text())
    unseen = [
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    ]
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def closure_of(name: str) -> dict[str, list[str]]:
    """The modules of this package that `name` may import, each with all its imports."""
    found: dict[str, list[str]] = {}
    waiting = [name]
    while waiting:
        file = PACKAGE.joinpath(*waiting.pop().split(".")).with_suffix(".py")
        if not file.is_file() and not (file := file.parent.with_suffix(".py")).is_file():
            continue
        key = str(file.relative_to(PACKAGE))
        if key not in found:
            found[key] = list(imports_of(file))
            waiting += [item.partition(".")[2] for item in found[key] if item.startswith("pytest_wasmer.")]
    return found


def test_no_module_of_the_childs_side_imports_anything_else() -> None:
    """Nor pickle or marshal, which could be made to run code."""
    closure = closure_of("runtime.child")
    assert sorted(closure) == [
        "artifacts/entry.py",
        "engines/api.py",
        "engines/libtinfo.py",
        "engines/references.py",
        "engines/wheels.py",
        "runtime/blobs.py",
        "runtime/child.py",
        "runtime/executor.py",
        "runtime/wire.py",
    ]
    tops = {item.partition(".")[0] for items in closure.values() for item in items} - {"pytest_wasmer"}
    assert tops - {"wasmer"} <= sys.stdlib_module_names
    assert not tops & {"pickle", "marshal", "shelve", "copyreg", "dill"}


def test_no_module_of_the_parents_side_imports_pickle() -> None:
    for file in (PACKAGE / "runtime").glob("*.py"):
        assert not {item.partition(".")[0] for item in imports_of(file)} & {"pickle", "marshal", "shelve"}, file
