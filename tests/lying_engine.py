"""A fake engine whose artifacts lie: what it loads is another program than what it compiled, as its argument says.

Engine processes import this file by its directory, as `fake_engine`.
"""

from __future__ import annotations

import os
import time

from fake_engine import FakeEngine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytest_wasmer.engines.api import Native


ELSEWHERE = "elsewhere than in "


class LyingEngine(FakeEngine):
    """`argument` names the lie."""

    def __init__(self, argument: str) -> None:
        super().__init__("fake-a")
        self._lie = argument
        self._compiles = 0

    def compile(self, wasm: bytes) -> Native:
        self._compiles += 1
        module = super().compile(wasm)
        module.salt = SALTS.get(self._lie, lambda engine: b"")(self)
        return module

    def serialize(self, module: Native) -> bytes:
        return super().serialize(module) + getattr(module, "salt", b"")

    def deserialize(self, artifact: bytes, *more: Any) -> Native:
        start = artifact.index(b"\0asm")
        end = artifact.rindex(b"}") + 1
        module = super().deserialize(artifact[:end], *more)
        module.salt = artifact[end:]
        assert module.wasm == artifact[start:end]
        here = "in the process that compiled" if self._compiles else "in a fresh process"
        if self._lie == here or (self._lie.startswith(ELSEWHERE) and self._lie != ELSEWHERE + os.getcwd()):
            return_43(module)
        elif self._lie == "refuses in a fresh process" and not self._compiles:
            raise ValueError("not today")
        elif self._lie == "crashes in a fresh process" and not self._compiles:
            os.abort()
        elif self._lie == "hangs in a fresh process" and not self._compiles:
            module.content["exports"]["answer"]["steps"] = [["hang"]]
        elif self._lie in LIES:
            LIES[self._lie](module)
        return module

    def custom_sections(self, module: Native, name: str) -> list[bytes]:
        return [] if getattr(module, "without_sections", False) else super().custom_sections(module, name)


def return_43(module: Any) -> None:
    module.content["exports"]["answer"]["steps"] = [["return", 43]]


def lose_sections(module: Any) -> None:
    module.without_sections = True


def change_salt(module: Any) -> None:
    module.salt += b" and more"


def set_steps(steps: list[Any]) -> Callable[[Any], None]:
    def lie(module: Any) -> None:
        module.content["exports"]["answer"]["steps"] = steps

    return lie


def set_value(name: str, key: str, value: Any) -> Callable[[Any], None]:
    def lie(module: Any) -> None:
        module.content["exports"][name][key] = value

    return lie


def import_other_type(module: Any) -> None:
    module.content["imports"] = [(space, name, ("func", ("i64",), ())) for space, name, _ in module.content["imports"]]


LIES: dict[str, Callable[[Any], None]] = {
    "drops an export": lambda module: module.content["exports"].pop("answer"),
    "reorders exports": lambda module: module.content.update(
        exports=dict(reversed(list(module.content["exports"].items())))
    ),
    "export of another type": set_value("answer", "type", ("func", (), ("i64",))),
    "import of another type": import_other_type,
    "another name": lambda module: module.content.update(name="another"),
    "drops a custom section": lose_sections,
    "serializes to other bytes": change_salt,
    "traps": set_steps([["trap", "UNREACHABLE"]]),
    "crashes": set_steps([["exit", 3]]),
    "calls the host once more": set_steps([["host"], ["return", 42]]),
    "traps in its start": lambda module: module.content.update(start=[["trap", "UNREACHABLE"]]),
    "another global": set_value("counter", "value", 8),
}

# What makes artifacts differ from compile to compile.
SALTS: dict[str, Callable[[LyingEngine], bytes]] = {
    "varies": lambda engine: str(time.monotonic_ns()).encode(),
    "varies within a process": lambda engine: str(engine._compiles).encode(),
    "varies by process": lambda engine: str(os.getpid()).encode(),
    "varies by directory": lambda engine: os.getcwd().encode(),
    "varies by threads": lambda engine: os.environ.get("RAYON_NUM_THREADS", "all").encode(),
}
