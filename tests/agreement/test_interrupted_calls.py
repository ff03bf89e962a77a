"""Calls that others interrupt before they have begun: each is told, in the order in which Python made them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_wasmer.agreement.observe import Observation, Recorder
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests.conftest import FAKES
from tests.fake_engine import function, module

if TYPE_CHECKING:
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
