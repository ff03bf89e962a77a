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
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

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
    return [registry().spec(name) for name in COMPILERS if registry().availability(name).works]


@cache
def registry() -> Registry:
    return Registry([], cache_directory())


class Plugged(NamedTuple):
    """The function `add` as a test holds it, and the connection behind it."""

    add: Function
    connection: Connection


@contextmanager
def plugged(spec: BackendSpec, isolation: str) -> Iterator[Plugged]:
    pool = EnginePool(isolation, cache_directory() / "pycache")
    try:
        source = Source("add.wat", None, ADD)
        module = Loader().load(spec.name, partial(pool.connection, spec), source, Fresh(lambda *_: None))
        yield Plugged(module.instantiate().exports.add, pool.connection(spec))
    finally:
        pool.close()


def bare(compiler: str) -> Callable[[int, int], int]:
    """The same function by the wheels alone, in this process."""
    add: Callable[[int, int], int] = wasmer.Instance(wasmer.Module(bare_store(compiler), ADD)).exports.add
    return add


def bare_store(compiler: str) -> wasmer.Store:
    """A new store of the wheels, in this process."""
    return wasmer.Store(wasmer.engine.Universal(_wheel(compiler).Compiler))


@cache
def _wheel(compiler: str) -> ModuleType:
    if compiler == "llvm":
        libtinfo.provide()
    return import_module(f"wasmer_compiler_{compiler}")
