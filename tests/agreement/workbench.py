"""What the tests of several backends at once share: instances on fake-a, fake-b and fake-c."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_wasmer.agreement.at_once.everywhere import Everywhere, module_everywhere
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests.conftest import FAKES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_wasmer import Instance
    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.wasm.imports import Imports

H = ("env", "h", ["func", ["i32"], ["i32"]])
G = ("env", "g", ["func", ["i32"], ["i32"]])
FRESH = Fresh(lambda backend, loading: None)


class Workbench:
    """Makes instances on fake-a, fake-b and fake-c at once."""

    def __init__(self, pool: EnginePool) -> None:
        self.pool = pool
        self.everywhere = Everywhere([])

    def connect(self) -> Everywhere:
        members = [self.pool.connection(fake) for fake in FAKES]
        if self.everywhere.members != members:
            self.everywhere = Everywhere(members)
        return self.everywhere

    def level(self, level: str) -> None:
        self.connect().lockstep.level = level

    def __call__(self, wasm: bytes, imports: Imports | None = None) -> Instance:
        source = Source("m.wasm", wasm, None)
        modules = [Loader().load(fake.name, partial(self.pool.connection, fake), source, FRESH) for fake in FAKES]
        return module_everywhere(modules, self.connect).instantiate(imports)


def odd(steps: Sequence[Any], others: Sequence[Any] = ("sum",)) -> dict[str, list[Any]]:
    """What fake-b does, and the others."""
    return {"fake-b": [*steps], "*": [*others]}


def lines(error: pytest.ExceptionInfo[BaseException]) -> list[str]:
    return str(error.value).splitlines()
