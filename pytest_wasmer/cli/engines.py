"""What the commands share: engines without a pytest session."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from pytest_wasmer import selection, settings
from pytest_wasmer.artifacts.key import Parts, parts_of
from pytest_wasmer.artifacts.seal import seal_file
from pytest_wasmer.artifacts.store import Unusable, look_into
from pytest_wasmer.engines.interpreter import Named
from pytest_wasmer.engines.registry import Registry
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.variants import backend_in
from pytest_wasmer.wasm import source
from pytest_wasmer.wasm.loading import Reloaded
from pytest_wasmer.wasm.module import Loader

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TypeAlias

    from pytest_wasmer.artifacts.store import Store
    from pytest_wasmer.engines.registry import BackendSpec
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.module import Module

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def cache_folder() -> Path:
    """Where this plugin keeps what other runs can use."""
    return Path(platformdirs.user_cache_dir("pytest-wasmer", appauthor=False))


def new_registry(*, anew: bool = False) -> Registry:
    """What works here, as the environment says: ini files count for pytest only."""
    python = settings.from_environment(settings.PYTHON)
    named = Named(python.value, python.source, Path.cwd()) if python.given else None
    return Registry([], cache_folder(), named, anew=anew)


def opened_store(folder: Path | None) -> Store:
    """The store of artifacts in that directory, or in the one that the environment says. Raises `WasmError`."""
    said = settings.from_environment(settings.CACHE_DIR)
    root = folder or (Path(said.value) if said.given else cache_folder() / "artifacts")
    try:
        return look_into(root.expanduser(), seal_file())
    except Unusable as unusable:
        raise WasmError(str(unusable)) from None


def add_backends(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backends",
        default="available",
        metavar="NAMES",
        help="names with commas between them, 'all' or 'available' (default): as of pytest --wasm-backends",
    )


class Engines:
    """Engine processes for one command; a context manager."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self._pool = EnginePool("process", cache_folder() / "pycache")
        self._loader = Loader()
        self._in_memory = Reloaded(lambda _: None, lambda backend, loading: None, lambda backend, reason: None)

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def select(self, names: str) -> list[str]:
        """The backends that `--backends` names. Raises pytest.UsageError."""
        chosen = selection.select(settings.Setting(names, "--backends"), self.registry)
        if not chosen.names:
            raise pytest.UsageError(selection.no_backend(chosen))
        return chosen.names

    def connect(self, spec: BackendSpec) -> Callable[[], Connection]:
        return partial(self._pool.connection, spec)

    def connection(self, variant: str) -> Connection:
        """The live engine process of a variant, e.g. "llvm" or "llvm-fresh"."""
        return self._pool.connection(self.registry.spec(backend_in(variant))._replace(name=variant))

    def parts(self, backend: str) -> Parts:
        return parts_of(self.registry.availability(backend), {})

    def digest(self, backend: str, file: str) -> str:
        """SHA-256 of the Wasm binary of a .wasm or .wat file. Raises `SourceError`."""
        return hashlib.sha256(self._loader.binary(self._connect(backend), self._source(file))).hexdigest()

    def load(self, backend: str, file: str) -> Module:
        """The module of a .wasm or .wat file, compiled. Raises `SourceError`, `CompileError`."""
        parts = self.parts(backend)
        return self._loader.load(backend, self._connect(backend), self._source(file), self._in_memory, parts)

    def _connect(self, backend: str) -> Callable[[], Connection]:
        return self.connect(self.registry.spec(backend))

    def _source(self, file: str) -> source.Source:
        here = Path.cwd()
        return source.read(Path(file), here, here)
