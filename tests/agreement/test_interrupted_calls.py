"""Calls that others interrupt: each is told, once. And how what is told is packed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.agreement.observe import Observation, Recorder
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests.conftest import FAKES
from tests.fake_engine import function, module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.runtime.pool import EnginePool

WASM = module(exports={"same": function("i32 -> i32", ["sum"]), "other": function("i32 -> i32", ["sum"])})


def test_a_call_between_a_call_and_its_request(pools: dict[str, EnginePool]) -> None:
    """As a signal handler makes it, or `__del__` of what the collector finds."""
    connect = partial(pools["process"].connection, FAKES[0])
    instance = Loader().load("a", connect, Source("m", WASM, None), Fresh(lambda *_: None)).instantiate()
    same, other = instance.exports.same, instance.exports.other
    native = same._native

    def interrupted(values: Values) -> Values:
        assert other(5) == 5
        return native(values)

    same._native = interrupted
    connection = connect()
    recorder = connection.recorder = Recorder()
    recorder.begin("a")
    assert same(1) == 1
    content = recorder.end()
    connection.recorder = None
    assert content is not None
    assert [event[0::2] for event in Observation.unpacked(content).events[1:]] == [
        ("call", "same", 1),
        ("call", "other", 5),
        ("result", 5),
        ("result", 1),
    ]


def test_calls_while_others_become_text() -> None:
    """As a signal handler makes them: each is told once, and nothing is compared, since their order is anybody's."""
    recorder = Recorder()
    templates = '["call",0,"f","i32",%d]', '["result","i32",%d]', '["call",0,"f","i32",%d]\n["result","i32",%d]'

    class Interrupting(tuple[int, ...]):
        def __iter__(self) -> Iterator[int]:
            recorder.calls.append((templates, (2,), (20,)))
            recorder.spell_out()
            return super().__iter__()

    recorder.begin("a")
    recorder.calls += [(templates, Interrupting((1,)), (10,)), (templates, (3,), (30,))]
    recorder.note(("size", 0, "m"))
    content = recorder.end()
    assert content is not None
    seen = Observation.unpacked(content)
    assert sorted(event[-1] for event in seen.events if event[0] == "result") == [10, 20, 30]
    assert "signal handler" in seen.trouble


@pytest.mark.parametrize(("count", "small"), [(1, True), (1000, False)])
def test_what_is_small_is_not_compressed(count: int, small: bool) -> None:
    events: list[Event] = [("number", 7)] * count
    content = Observation("a", events, count, [], [], "").packed()
    assert (b'["number",7]' in content) == small
    assert len(content) < 1000
    assert Observation.unpacked(content).events == events
