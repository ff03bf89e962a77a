"""What the tests of this room share: modules and instances on a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.imports import Imports
    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module

FRESH = Fresh(lambda backend, loading: None)


def load(connection: Connection, source: str | bytes, path: str = "m.wat") -> Module:
    """A module of WAT text (native connections only) or bytes."""
    wasm = connection.convert(source, path) if isinstance(source, str) else source
    return Loader().load(connection.backend, lambda: connection, Source(path, wasm, None), FRESH)


def make(connection: Connection, source: str | bytes, imports: Imports | None = None, path: str = "m.wat") -> Instance:
    return load(connection, source, path).instantiate(imports)
