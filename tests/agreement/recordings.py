"""What the tests of bundles share: recordings on fake engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_wasmer.agreement.bundles.recording import Recording
from pytest_wasmer.agreement.verdict import DIVERGED, Verdict
from tests.fake_engine import function, memory, module, variable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_wasmer.agreement.events import Event

ODD = {"fake-b": [["return", 43]], "*": [["return", 42]]}
WASM = module(
    exports={
        "m": memory(1),
        "g": variable("f32", 0),
        "odd": function("i32 -> i32", ODD),
        "same": function("i32 -> i32", ["sum"]),
        "trap": function("->", [["trap", "UNREACHABLE"]]),
        "ask": function("i32 -> i32", [["host"]]),
        "die": function("->", {"fake-b": [["signal", "SIGKILL"]], "*": []}),
        "hang": function("->", {"fake-b": ["hang"], "*": []}),
    },
    imports=[("env", "h", ["func", ["i32"], ["i32"]])],
)
MADE: list[Event] = [("new", 0, "w", []), ("made",)]
ODD_CALL: list[Event] = [("call", 0, "odd", "i32", 7), ("result", "i32", 42)]
SAME_CALL: list[Event] = [("call", 0, "same", "i32", 7), ("result", "i32", 7)]
VERDICT = Verdict(DIVERGED, "", ODD_CALL[:1], {"fake-a": ("result", "i32", 42), "fake-b": ("result", "i32", 43)})
ENGINES = {"fake-a": "fake 1.0", "fake-b": "fake 1.0"}


def recording(*events: Event, data: dict[str, bytes] | None = None, cut: str = "") -> Recording:
    """Of an instance of `WASM`."""
    return Recording([*MADE, *events], {"w": WASM}, data or {}, cut)


def kinds(events: Sequence[Event]) -> str:
    return " ".join(event[0] for event in events)
