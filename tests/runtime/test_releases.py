"""What the test lets go of is let go of in the engine: with the next request, never in the middle of a call."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime import wire
from pytest_wasmer.runtime.direct import DirectConnection
from pytest_wasmer.runtime.pipe import PipeConnection
from tests.fake_engine import function, memory, module
from tests.runtime.workbench import FAKE, instance, load

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.runtime.pool import EnginePool

HOSTING = module(
    imports=[("env", "h", ["func", [], []])],
    exports={"f": function("->", [["host"]]), "sum": function("i32 i32 -> i32", ["sum"]), "m": memory(1)},
)
SMALL = module(exports={"m": memory(1)})


class Spy:
    """What is released, and at which depth of host calls, over either transport."""

    def __init__(self, connection: Connection, patch: pytest.MonkeyPatch) -> None:
        self.released: list[tuple[int, list[int]]] = []
        self._connection = connection
        if isinstance(connection, DirectConnection):
            release = connection._executor.release
            patch.setattr(
                connection._executor,
                "release",
                lambda handles: (self._note(handles := list(handles)), release(handles)),
            )
        else:
            assert isinstance(connection, PipeConnection)
            write = connection._frames.write

            def spy(op: int, sequence: int, body: bytes, before: bytes = b"") -> None:
                if before:
                    length, release, _ = wire.HEADER.unpack_from(before)
                    assert (length, release) == (len(before) - wire.HEADER.size, wire.RELEASE)
                    (handles,) = wire.OPERATIONS["release"].arguments.unpack(before[wire.HEADER.size :])
                    self._note(handles)
                write(op, sequence, body, before)

            patch.setattr(connection._frames, "write", spy)

    def _note(self, handles: list[int]) -> None:
        self.released.append((self._connection.hosts.depth, handles))


@pytest.fixture
def spy(pool: EnginePool, monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(pool.connection(FAKE), monkeypatch)


def is_there(connection: Connection, module_handle: int) -> bool:
    try:
        connection.serialize(module_handle, "serialize")
    except Exception:
        return False
    return True


def test_with_the_next_request(pool: EnginePool, spy: Spy) -> None:
    connection = pool.connection(FAKE)
    made = instance(pool, SMALL)
    memory_of_it = made.memory
    assert memory_of_it.size == 65536
    del made
    assert spy.released == []
    assert memory_of_it.size == 65536  # the export keeps it
    del memory_of_it
    gc.collect()
    assert spy.released == []
    assert len(connection.releases) == 2  # the instance and the module
    connection.make_memory(1, None, "a memory")
    assert [(depth, len(handles)) for depth, handles in spy.released] == [(0, 2)]
    assert connection.releases == []


def test_the_engine_has_them_no_more(pool: EnginePool) -> None:
    loaded = load(pool, SMALL)
    connection, handle = loaded._code.loaded("").connection, loaded._code.loaded("").handle
    assert is_there(connection, handle)
    del loaded
    gc.collect()
    assert not is_there(connection, handle)


def test_an_instance_goes_with_its_exports(pool: EnginePool) -> None:
    connection = pool.connection(FAKE)
    handle, _ = connection.compile(SMALL, "compile")
    first = connection.instantiate(handle, [], "instantiation")
    assert connection.memory_pages(first + 1, "size") == 1
    connection.releases.append(first)
    with pytest.raises(Exception, match="KeyError"):
        connection.memory_pages(first + 1, "size")
    assert connection.lost is None


def test_unknown_handles_do_no_harm(pool: EnginePool) -> None:
    connection = pool.connection(FAKE)
    connection.releases += [12345, 12345]
    assert connection.make_memory(1, None, "a memory") > 0


def test_never_during_a_host_call(pool: EnginePool, spy: Spy) -> None:
    """Of frames that are still on the stack, that is: what they run on would be freed under them."""
    connection = pool.connection(FAKE)
    seen: list[int] = []

    def host() -> None:
        other = load(pool, SMALL).instantiate()
        assert other.memory.size == 65536
        del other
        gc.collect()
        assert len(connection.releases) == 2
        assert made.exports.sum(1, 2) == 3
        assert made.exports.sum.map([(1, 2)]) == [3]
        assert made.memory.read(0, 1) == b"\0"
        seen.append(len(connection.releases))

    made = instance(pool, HOSTING, h=host)
    made.exports.f()
    assert seen == [2]
    assert spy.released == []
    assert made.exports.sum(1, 2) == 3
    assert [(depth, len(handles)) for depth, handles in spy.released] == [(0, 2)]


@pytest.mark.parametrize("request_kind", ["call", "map", "read", "compile"])
def test_with_any_request(pool: EnginePool, spy: Spy, request_kind: str) -> None:
    requests: dict[str, Any] = {
        "call": lambda: made.exports.sum(1, 2),
        "map": lambda: made.exports.sum.map([(1, 2)]),
        "read": lambda: made.memory.read(0, 1),
        "compile": lambda: load(pool, SMALL),
    }
    made = instance(pool, HOSTING, h=lambda: None)
    made.exports.sum(1, 2)
    assert made.memory.size
    pool.connection(FAKE).releases.append(12345)
    requests[request_kind]()
    assert spy.released == [(0, [12345])]


def test_what_finalizers_add_meanwhile_waits(pool: EnginePool) -> None:
    """They may run at any moment, also between looking and letting go."""
    connection = pool.connection(FAKE)
    connection.releases += [1, 2]

    class Growing(list[int]):
        def __getitem__(self, place: Any) -> Any:
            found = super().__getitem__(place)
            self.append(3)
            return found

    connection.releases = Growing([1, 2])
    assert connection.due_releases() == [1, 2]
    assert list(connection.releases) == [3]


def test_what_an_instance_imports_lives_as_long(pool: EnginePool) -> None:
    """In the engine, too: the wheels' instances do not keep what they import."""
    exporter = instance(pool, module(exports={"f": function("->", [["trap", "UNREACHABLE"]])}))
    importer = load(pool, HOSTING).instantiate({"env": {"h": exporter.exports.f}})
    connection = pool.connection(FAKE)
    del exporter
    gc.collect()
    assert connection.releases == []
    with pytest.raises(Exception, match="unreachable"):
        importer.exports.f()


def test_many_instances_do_not_pile_up(pool: EnginePool) -> None:
    loaded = load(pool, SMALL)
    connection = pool.connection(FAKE)
    for _ in range(50):
        loaded.instantiate()
    gc.collect()
    connection.make_memory(1, None, "a memory")
    if isinstance(connection, DirectConnection):
        assert len(connection._executor._records) == 0
        assert len(connection._executor._natives) == 2  # the module and the memory
