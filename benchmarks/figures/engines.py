"""Engines outside pytest: through the plugin, and by the bare `wasmer` wheels."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import wasmer

from pytest_wasmer.engines import libtinfo
from pytest_wasmer.engines.registry import COMPILERS, BackendSpec, Registry
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer import Function
    from pytest_wasmer.runtime.connection import Connection

ADD = '(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))'


@cache
def cache_directory() -> Path:
    """One per run of the benchmarks: nothing of the user's own cache takes part."""
    directory = tempfile.TemporaryDirectory(prefix="pytest-wasmer-benchmarks-")
    _KEPT.append(directory)
    return Path(directory.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@cache
def backends() -> list[BackendSpec]:
    """The compilers that work here."""
    registry = Registry([], cache_directory())
    return [registry.spec(name) for name in COMPILERS if registry.availability(name).works]


class Plugged(NamedTuple):
    """The function `add` as a test holds it, and the connection behind it."""

    add: Function
    connection: Connection


@contextmanager
def plugged(spec: BackendSpec, isolation: str) -> Iterator[Plugged]:
    pool = EnginePool(isolation, cache_directory() / "pycache")
    try:
        loader = Loader(lambda backend, duration: None)
        module = loader.load(spec.name, partial(pool.connection, spec), Source("add.wat", None, ADD))
        yield Plugged(module.instantiate().exports.add, pool.connection(spec))
    finally:
        pool.close()


def bare(compiler: str) -> Callable[[int, int], int]:
    """The same function by the wheels alone, in this process."""
    if compiler == "llvm":
        libtinfo.provide()
    module = import_module(f"wasmer_compiler_{compiler}")
    store = wasmer.Store(wasmer.engine.Universal(module.Compiler))
    add: Callable[[int, int], int] = wasmer.Instance(wasmer.Module(store, ADD)).exports.add
    return add
