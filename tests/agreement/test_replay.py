"""Replays on fake engines: the same events come out as went in, and where they cannot, that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import Caller, Global, Memory
from pytest_wasmer.agreement.bundles.bundle import BundleError
from pytest_wasmer.agreement.bundles.recording import Recording, recorded
from pytest_wasmer.agreement.bundles.replay import Stage
from pytest_wasmer.agreement.events import data_text
from pytest_wasmer.agreement.judge import judge
from pytest_wasmer.agreement.local import Local
from pytest_wasmer.agreement.observe import Observation, Recorder
from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, Level, Verdict
from pytest_wasmer.runtime.blobs import digest_of
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.traps import Trap
from tests.agreement.recordings import MADE, ODD_CALL, SAME_CALL, kinds, recording
from tests.conftest import FAKES
from tests.fake_engine import function, memory, module, table, variable
from tests.wasm.workbench import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.runtime.connection import Connection

ASK: list[Event] = [("call", 0, "ask", "i32", 1), ("host", "env.h", "i32", 1)]
LONG = bytes(range(1, 201))
#: What a test can see and do.
RICH = module(
    exports={
        "m": memory(1, 2),
        "t": table(3),
        "g": variable("i64", 5),
        "f": variable("f64", 0),
        "ask": function("i32 -> i32", [["host"]]),
        "two": function("-> i32 f32", [["return", 1, 0x7FA00001]]),
        "trap": function("->", [["trap", "UNREACHABLE"]]),
        "panic": function("->", [["panic", "at the disco"]]),
        "sum": function("i32 i32 -> i32", ["sum"]),
    },
    imports=[("env", "h", ["func", ["i32"], ["i32"]])],
)
LINKED = module(
    exports={"call": function("i32 i32 -> i32", [["host", 0]]), "own": memory(1)},
    imports=[
        ("lib", "sum", ["func", ["i32", "i32"], ["i32"]]),
        ("lib", "m", ["memory", 1, None]),
        ("lib", "g", ["global", "f32", True]),
    ],
)
STARTS = module(
    imports=[("env", "h", ["func", [], ["i32"]])], start=[["host"], ["trap", "MEMORY_OUT_OF_BOUNDS"]], exports={}
)


@pytest.fixture
def engines(cache: Path) -> Iterator[EnginePool]:
    pool = EnginePool("process", cache)
    yield pool
    pool.close()


@pytest.fixture
def stage(engines: EnginePool) -> Iterator[Stage]:
    specs = {spec.name: spec for spec in FAKES}
    with Stage(lambda variant: engines.connection(specs[variant]), "cached", 5) as made:
        yield made


def taken_down(connection: Connection, test: Callable[[Connection], None]) -> Recording:
    """What the objects of a test report."""
    local = Local.make()
    recorder = Recorder(local)
    recorder.begin(connection.backend)
    connection.recorder = recorder
    test(connection)
    connection.recorder = None
    observed = recorder.end()
    assert observed is not None
    travelled = Observation.unpacked(observed)
    _, found = recorded({connection.backend: travelled}, Verdict(AGREED), Level(), lambda _: local)
    local.remove()
    assert not found.cut
    return found


def objects(connection: Connection) -> None:
    def host(caller: Caller, number: int) -> int:
        inner = caller.instance.exports
        if number == 1:
            caller.memory.write(8, LONG)
            assert inner.ask(2) == 20
            raise KeyError(number)
        if number == 2:
            inner.sum(1, 2)
            inner.f.value = float("inf")
        return 10 * number

    rich = load(connection, RICH).instantiate({"env": {"h": host}})
    with pytest.raises(KeyError):
        rich.exports.ask(1)
    assert rich.memory.read(8, 200) == LONG
    assert rich.exports.ask.map([(2,), (3,)]) == [20, 30]
    rich.exports.two()
    with pytest.raises(Trap):
        rich.exports.trap()
    with pytest.raises(Exception, match="disco"):
        rich.exports.panic()
    rich.exports.g.value = rich.exports.g.value - 10
    assert (rich.exports.t.size, rich.memory.size, rich.memory.grow(1)) == (3, 65536, 1)
    with pytest.raises(Exception, match="grow"):
        rich.memory.grow(1)
    mine, base = Memory(1), Global("f32", 1.5, mutable=True)
    mine.write(3, b"mine")
    linked = load(connection, LINKED).instantiate({"lib": {"sum": rich.exports.sum, "m": mine, "g": base}})
    assert linked.exports.call(3, 4) == 7
    assert (mine.read(3, 4), base.value) == (b"mine", 1.5)
    with pytest.raises(Trap):
        load(connection, STARTS).instantiate({"env": {"h": lambda: rich.exports.sum(1, 1)}})


def test_all_that_objects_do_is_done_again(engines: EnginePool, stage: Stage) -> None:
    first = taken_down(engines.connection(FAKES[0]), objects)
    assert {event[0] for event in first.events} == {
        *("new", "made", "make", "call", "map", "read", "write", "get", "set", "size", "grow", "return", "raise"),
        *("result", "results", "data", "value", "number", "host", "trap", "raised", "refused"),
    }
    for _ in range(2):  # nothing is left of the first time
        for name in ("fake-a", "fake-b"):
            replayed = stage.replay(name, first)
            assert replayed.observation is not None
            assert replayed.observation.events == first.events
            assert (replayed.lost, replayed.strayed) == ("", "")
            assert [event[1:4] for event in replayed.observation.state] == [
                (0, "f", "global"),
                (0, "g", "global"),
                (0, "m", "memory"),
                (0, "t", "table"),
                (1, "", "memory"),
                (2, "", "global"),
                (3, "own", "memory"),
            ]


def test_bits_that_no_python_float_holds(stage: Stage) -> None:
    events: list[Event] = [
        ("make", 1, "global", "f32", True, 0x7FA00001),
        ("get", 1, "global made by the host"),
        ("value", "f32", 0x7FA00001),
        ("set", 0, "g", "f32", 0xFFA12345),
        ("get", 0, "g"),
        ("value", "f32", 0xFFA12345),
    ]
    assert replay(stage, *events) == [*MADE, *events]


def replay(stage: Stage, *events: Event, on: str = "fake-a", **more: Any) -> list[Event]:
    observed = stage.replay(on, recording(*events, **more)).observation
    assert observed is not None
    return observed.events


def test_what_differs_is_what_the_judge_finds(stage: Stage) -> None:
    whole = recording(*SAME_CALL, *ODD_CALL)
    observed = {name: stage.replay(name, whole).observation for name in ("fake-a", "fake-b", "fake-c")}
    verdict = judge({name: found for name, found in observed.items() if found is not None}, Level(), stage.find)
    assert verdict.kind == DIVERGED
    assert verdict.outcomes == {
        "fake-a": ("result", "i32", 42),
        "fake-b": ("result", "i32", 43),
        "fake-c": ("result", "i32", 42),
    }


def test_pages_and_long_data_are_at_hand(stage: Stage) -> None:
    events = [("write", 0, "m", 0, data_text(LONG)), ("read", 0, "m", 0, 200), ("data", 0, data_text(LONG))]
    observed = stage.replay("fake-a", recording(*events, data={digest_of(LONG): LONG})).observation
    assert observed is not None
    assert observed.events == [*MADE, *events]
    page = next(event for event in observed.state if event[3] == "memory")[6].removeprefix("0=")
    found = stage.find([page, digest_of(LONG)])
    assert (found[digest_of(LONG)], found[page]) == (LONG, LONG + bytes(65536 - len(LONG)))


def test_more_events_than_are_told_in_full(stage: Stage) -> None:
    events = SAME_CALL * 5000
    assert replay(stage, *events) == [*MADE, *events]


def test_more_that_is_left_than_travels(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_wasmer.agreement.observe.STATE", 0)
    observed = stage.replay("fake-a", recording(*SAME_CALL)).observation
    assert observed is not None
    assert [event[3] for event in observed.state] == ["global", "memory"]


# Engine processes that are lost


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("die", "it was lost: killed by SIGKILL (call of 'die' of module w with ())"),
        ("hang", "it did not end within 0.5 s (call of 'hang' of module w with ())"),
    ],
)
def test_crashes_and_endless_loops(stage: Stage, name: str, lost: str) -> None:
    stage._seconds = 0.5
    whole = recording(*SAME_CALL, ("call", 0, name, ""), ("result", ""))
    assert stage.replay("fake-b", whole).lost == lost
    assert stage.replay("fake-a", whole).lost == ""
    # The next one has a new process, and what was noted before is gone.
    assert replay(stage, *ODD_CALL, on="fake-b") == [*MADE, *ODD_CALL[:1], ("result", "i32", 43)]


# What leaves the recording


def strayed(stage: Stage, *events: Event) -> tuple[str, str]:
    """Which events there were, and what is said."""
    replayed = stage.replay("fake-a", recording(*events))
    assert replayed.observation is not None
    return kinds(replayed.observation.events), replayed.strayed


def test_a_host_call_that_the_recording_does_not_have(stage: Stage) -> None:
    assert strayed(stage, ASK[0], ("result", "i32", 1), *SAME_CALL) == (
        "new made call host",
        "a call of env.h is not in the recording",
    )
    other = [ASK[0], ("host", "env.other", "i32", 1), ("return", "i32", 1), ("result", "i32", 1)]
    assert strayed(stage, *other) == ("new made call host", "a call of env.h is not in the recording")


def test_a_host_call_with_other_arguments_is_answered(stage: Stage) -> None:
    call = [ASK[0], ("host", "env.h", "i32", 99), ("return", "i32", 5), ("result", "i32", 5)]
    assert replay(stage, *call) == [*MADE, *ASK, ("return", "i32", 5), ("result", "i32", 5)]


def test_host_calls_are_answered_in_their_order_also_behind_nested_ones(stage: Stage) -> None:
    twice = module(
        exports={"twice": function("->", [["host", 0], ["host", 0]])}, imports=[("env", "h", ["func", [], []])]
    )
    nested: list[Event] = [("call", 0, "twice", ""), *[("host", "env.h", ""), ("return", "")] * 2, ("result", "")]
    host: Event = ("host", "env.h", "")
    events = [*MADE, nested[0], host, *nested, ("return", ""), host, ("raise", "KeyError"), ("raised", "KeyError")]
    replayed = stage.replay("fake-a", Recording(events, {"w": twice}, {}))
    assert replayed.observation is not None
    assert (replayed.observation.events, replayed.strayed) == (events, "")


def test_a_host_call_without_its_answer(stage: Stage) -> None:
    assert strayed(stage, *ASK) == ("new made call host", "what env.h answered is not in the recording")


def test_an_instance_that_did_not_come_to_be(stage: Stage) -> None:
    traps = module(exports={"f": function("->", [])}, start={"fake-a": [["trap", "UNREACHABLE"]], "*": []})
    whole = Recording([("new", 0, "w", []), ("made",), ("call", 0, "f", ""), ("result", "")], {"w": traps}, {})
    replayed = stage.replay("fake-a", whole)
    assert replayed.observation is not None
    assert kinds(replayed.observation.events) == "new trap"
    assert replayed.strayed == "instance 0 did not come to be"
    assert stage.replay("fake-b", whole).strayed == ""


def test_reads_outside_a_memory_that_others_have(stage: Stage) -> None:
    found = replay(stage, ("read", 0, "m", 65536, 4), ("data", 65536, "00000000"))
    assert found[2:] == [("read", 0, "m", 65536, 4), ("raised", "IndexError")]
    assert strayed(stage, ("write", 0, "m", 65536, "00"))[0] == "new made"


# What does not fit the modules


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([("call", 1, "odd", "i32", 1)], "instance 1 is used before it is made"),
        ([("call", 0, "nothing", "")], "instance 0: module w has no export 'nothing'"),
        ([("call", 0, "m", "")], "'m' of instance 0 is no function that Python can use"),
        ([("call", 0, "odd", "")], r"odd\(i32\) -> \(i32\) of instance 0 is called with \(\)"),
        ([("map", 0, "odd", "f32", [[1]])], r"odd\(i32\) -> \(i32\) of instance 0 is called with \(f32\)"),
        ([("set", 0, "g", "i32", 1)], "'g' of instance 0, a mutable global of type f32, is set to a value of i32"),
        ([("size", 0, "g")], "'g' of instance 0 has no size"),
        ([("grow", 0, "m", 1 << 40)], "cannot grow by"),
        ([("write", 0, "m", 0, f"9 bytes {'0' * 24}")], "data of a write is not in the bundle"),
        ([("new", 1, "v", [])], "module v is not in the bundle"),
        ([("new", 2, "w", [])], "instance 2 is made as number 1"),
        ([("make", 1, "memory", 3, 2)], "memory limits"),
        ([("use", 1, "w", "h")], "a 'use' event where nothing of the kind can happen"),
        ([("host", "env.h", "i32", 1)], "a 'host' event where nothing of the kind can happen"),
        ([*ASK, ("return", "f32", 1)], r"host function env.h answers \(f32\) instead of \(i32\)"),
    ],
)
def test_what_does_not_fit(stage: Stage, events: list[Event], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        stage.replay("fake-a", recording(*events))
    assert replay(stage, *SAME_CALL) == [*MADE, *SAME_CALL]


def test_an_import_that_is_not_given(stage: Stage) -> None:
    with pytest.raises(BundleError, match=r"import lib\.m of module w is not given"):
        stage.replay("fake-a", Recording(MADE, {"w": LINKED}, {}))


# Kinds of code


@pytest.mark.parametrize(
    ("artifacts", "variant", "asked"),
    [("cached", "fake-a", "reload"), ("fresh", "fake-a", "compile"), ("both", "fake-a-fresh", "compile")],
)
def test_the_kind_of_code(
    engines: EnginePool, monkeypatch: pytest.MonkeyPatch, artifacts: str, variant: str, asked: str
) -> None:
    connection = engines.connection(FAKES[0]._replace(name=variant))
    asks: list[str] = []
    request = connection.request

    def note(operation: str, *arguments: Any, about: str) -> Any:
        asks.append(operation)
        return request(operation, *arguments, about=about)

    monkeypatch.setattr(connection, "request", note)
    with Stage(lambda _: connection, artifacts, 0) as stage:
        stage.replay(variant, recording(*SAME_CALL))
    assert {"compile", "reload"} & {*asks} == {asked}
