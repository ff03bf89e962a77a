"""The traceback of a mistake ends in the user's line, not in frames of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import Caller
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.source import find, read
from pytest_wasmer.wasm.variables import Global, Table
from tests import fake_engine
from tests.fake_engine import function, memory, table, variable
from tests.wasm.workbench import load, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module

HERE = Path(__file__).parent
WASM = fake_engine.module(
    {
        "add": function("i32 i32 -> i32", ["sum"]),
        "half": function("f32 -> f32", ["host"]),
        "keep": function("funcref ->", []),
        "trap": function("->", [["trap", "UNREACHABLE"]]),
        "host": function("->", ["host"]),
        "memory": memory(1, 2),
        "counter": variable("i32", 1),
        "limit": variable("i32", 1, mutable=False),
        "table": table(1),
    },
    [("env", "log", ["func", [], []])],
)
WITH_MEMORY = fake_engine.module({}, [("env", "memory", ["memory", 1, None])])
WITH_REFERENCE = fake_engine.module({}, [("env", "keep", ["func", ["funcref"], []])])
STARTING = fake_engine.module({}, [("env", "log", ["func", [], []])], start=["host"])


def instance_of(fake: Connection) -> Instance:
    return make(fake, WASM, {"env": {"log": lambda: None}})


CALLS: dict[str, Callable[[Instance], object]] = {
    "type": lambda it: it.exports.add("a", 1),
    "float": lambda it: it.exports.half("a"),
    "float-range": lambda it: it.exports.half(1e39),
    "range": lambda it: it.exports.add(2**40, 1),
    "count": lambda it: it.exports.add(1),
    "keyword": lambda it: it.exports.add(1, b=2),
    "trap": lambda it: it.exports.trap(),
    "missing": lambda it: it.exports.ad,
    "missing-item": lambda it: it.exports["ad"],
    "map-row": lambda it: it.exports.add.map([1]),
    "map-count": lambda it: it.exports.add.map([(1, 2), (1,)]),
    "map-type": lambda it: it.exports.add.map([(1, 2), (1, "a")]),
    "references": lambda it: it.exports.keep(1),
    "references-map": lambda it: it.exports.keep.map([(1,)]),
    "no-function": lambda it: it.exports.memory(),
    "read": lambda it: it.memory.read(70000, 1),
    "read-type": lambda it: it.memory.read("a", 1),  # type: ignore[arg-type]
    "write": lambda it: it.memory.write(70000, b"a"),
    "write-type": lambda it: it.memory.write(0, "a"),  # type: ignore[arg-type]
    "number": lambda it: it.memory.read_u32(70000),
    "number-range": lambda it: it.memory.write_u8(0, 256),
    "item": lambda it: it.memory[70000],
    "item-type": lambda it: it.memory["a"],  # type: ignore[index]
    "step": lambda it: it.memory[0:4:2],
    "set-item": lambda it: it.memory.__setitem__(0, 256),
    "set-slice": lambda it: it.memory.__setitem__(slice(0, 2), b"abc"),
    "grow": lambda it: it.memory.grow(5),
    "grow-type": lambda it: it.memory.grow(1.5),  # type: ignore[arg-type]
    "global-type": lambda it: setattr(it.exports.counter, "value", "a"),
    "global-immutable": lambda it: setattr(it.exports.limit, "value", 1),
    "make-memory": lambda it: Memory("a"),  # type: ignore[arg-type]
    "make-memory-limits": lambda it: Memory(2, 1),
    "make-global": lambda it: Global("i32", "a"),  # type: ignore[arg-type]
    "make-global-type": lambda it: Global("i31", 1),
    "make-table": lambda it: Table(1),
}
LINKS: dict[str, tuple[bytes, Any]] = {
    "missing": (WASM, {}),
    "no-mapping": (WASM, 7),
    "no-namespace": (WASM, {"env": 7}),
    "kind": (WASM, {"env": {"log": 7}}),
    "extern": (WASM, {"env": {"log": Memory(1)}}),
    "function-for-memory": (WITH_MEMORY, {"env": {"memory": print}}),
    "references": (WITH_REFERENCE, {"env": {"keep": print}}),
}
SOURCES: dict[str, Callable[[], object]] = {
    "missing": lambda: read("nowhere.wasm", HERE, HERE),
    "kind": lambda: read(7, HERE, HERE),  # type: ignore[arg-type]
    "directory": lambda: read(HERE, HERE, HERE),
    "not-wasm": lambda: read(Path(__file__), HERE, HERE),
    "bytes": lambda: read(b"text", HERE, HERE),
    "cut-off": lambda: read(b"\0asm\1\0\0\0\0\xff", HERE, HERE),
    "size": lambda: read(b"\0asm\1\0\0\0\1\5a", HERE, HERE),
    "artifact": lambda: find("artifact", Path("nowhere.wasmu"), HERE, HERE),
}
HOSTS: dict[str, Callable[..., object]] = {
    "result": lambda: 7,
    "raise": lambda: 1 / 0,
}


def last_shown(raised: pytest.ExceptionInfo[BaseException]) -> Path:
    """Where the last frame is that pytest shows."""
    return Path(raised.traceback.filter(raised)[-1].path)


@pytest.mark.parametrize("mistake", CALLS.values(), ids=CALLS)
def test_a_mistake_with_an_instance(fake: Connection, mistake: Callable[[Instance], object]) -> None:
    instance = instance_of(fake)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        mistake(instance)
    assert last_shown(raised) == Path(__file__)


@pytest.mark.parametrize(("wasm", "imports"), LINKS.values(), ids=LINKS)
def test_a_mistake_with_imports(fake: Connection, wasm: bytes, imports: Any) -> None:
    module: Module = load(fake, wasm)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        module.instantiate(imports)
    assert last_shown(raised) == Path(__file__)


@pytest.mark.parametrize("mistake", SOURCES.values(), ids=SOURCES)
def test_a_mistake_with_a_source(mistake: Callable[[], object]) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        mistake()
    assert last_shown(raised) == Path(__file__)


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_a_mistake_of_a_host_function(fake: Connection, host: Callable[..., object]) -> None:
    exports = make(fake, WASM, {"env": {"log": host}}).exports
    with pytest.raises((TypeError, ZeroDivisionError)) as raised:
        exports.host()
    assert last_shown(raised) == Path(__file__)


def test_a_caller_before_there_is_an_instance(fake: Connection) -> None:
    def ask(caller: Caller) -> None:
        caller.memory.read(0, 1)

    module = load(fake, STARTING)
    with pytest.raises(Exception, match="start function") as raised:
        module.instantiate({"env": {"log": ask}})
    assert last_shown(raised) == Path(__file__)


def test_a_refused_compile(fake: Connection) -> None:
    from pytest_wasmer.wasm.errors import CompileError

    with pytest.raises(CompileError) as raised:
        load(fake, fake_engine.module({}, refuse={"*": ("compile", "no")}))
    assert last_shown(raised).name == "workbench.py"


def test_the_use_of_a_dead_instance(cache: Path) -> None:
    from pytest_wasmer.runtime.errors import EngineLost, InstanceLost
    from pytest_wasmer.runtime.pool import EnginePool
    from tests.conftest import FAKES

    engines = EnginePool("process", cache)
    exports = make(
        engines.connection(FAKES[0]),
        fake_engine.module({"die": function("->", [["signal", "SIGKILL"]]), "memory": memory()}),
    ).exports
    for kind, use in ((EngineLost, exports.die), (InstanceLost, exports.die), (InstanceLost, exports.memory.digest)):
        with pytest.raises(kind) as raised:
            use()
        assert last_shown(raised) == Path(__file__)
    engines.close()
