"""A compiled module, on one backend."""

from __future__ import annotations

import hashlib
import time
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_wasmer.engines.api import Refused, Trapped
from pytest_wasmer.runtime.errors import EngineFault, InstanceLost, WrongBackend, WrongThread
from pytest_wasmer.wasm import binary
from pytest_wasmer.wasm.errors import CompileError, LinkError
from pytest_wasmer.wasm.externs import Owner, release_with
from pytest_wasmer.wasm.imports import link
from pytest_wasmer.wasm.instance import Instance
from pytest_wasmer.wasm.source import wat_error
from pytest_wasmer.wasm.traps import trap_from
from pytest_wasmer.wasm.types import extern_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.imports import Imports
    from pytest_wasmer.wasm.source import Source
    from pytest_wasmer.wasm.types import ExternType

REASON_LIMIT = 500


class Loaded:
    """A module in one engine process: released there when it is dropped here."""

    def __init__(self, connection: Connection, handle: int) -> None:
        self.connection = connection
        self.handle = handle
        release_with(self, connection, handle)


class Module:
    """A module that one backend has compiled. It loads again by itself where its engine process was lost.

    `path` is how the source is called in messages. `connect` gives the backend's live connection; `compiled` is told
    the seconds of each compile.
    """

    def __init__(
        self, connect: Callable[[], Connection], wasm: bytes, path: str, compiled: Callable[[float], None]
    ) -> None:
        self._connect = connect
        self._wasm = wasm
        self._compiled = compiled
        self.path = path
        self._loaded = self._load()

    def _load(self) -> Loaded:
        __tracebackhide__ = True
        connection = self._connect()
        began = time.perf_counter()
        try:
            handle, self._description = connection.compile(self._wasm, f"compile of {self.path}")
        except Refused as refused:
            error = CompileError(refusal_text(connection.backend, self.path, refused))
        else:
            self._compiled(time.perf_counter() - began)
            self.backend = connection.backend
            return Loaded(connection, handle)
        raise error

    def _in_use(self) -> Loaded:
        __tracebackhide__ = True
        if self._loaded.connection.lost is not None:
            self._loaded = self._load()
        return self._loaded

    @property
    def wasm(self) -> bytes:
        """The binary, as it was compiled."""
        return self._wasm

    @property
    def name(self) -> str:
        """From the name section, "" without one."""
        name, _, _ = self._description
        return name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the binary, in hex."""
        return hashlib.sha256(self._wasm).hexdigest()

    @cached_property
    def exports(self) -> Mapping[str, ExternType]:
        """Types of the exports by name, in the module's order."""
        _, _, exports = self._description
        return MappingProxyType({name: extern_type(type_) for name, type_ in exports})

    @cached_property
    def imports(self) -> Mapping[tuple[str, str], ExternType]:
        """Types of the imports by module and field name, in the module's order."""
        return MappingProxyType({(module, field): type_ for module, field, type_ in self._imports})

    @cached_property
    def _imports(self) -> list[tuple[str, str, ExternType]]:
        _, imports, _ = self._description
        return [(module, field, extern_type(type_)) for module, field, type_ in imports]

    @cached_property
    def custom_sections(self) -> Mapping[str, tuple[bytes, ...]]:
        """Contents of the custom sections by name, in file order."""
        return MappingProxyType(binary.custom_sections(self._wasm, self.path))

    def serialize(self) -> bytes:
        """The artifact: this module's native code, as this backend stores it."""
        __tracebackhide__ = True
        loaded = self._in_use()
        return loaded.connection.serialize(loaded.handle, f"serialize of {self.path}")

    def instantiate(self, imports: Imports | None = None) -> Instance:
        """A new instance.

        Raises `LinkError` for imports that are missing or do not fit, `Trap` from the start function or a segment,
        whatever a host function raises meanwhile.
        """
        __tracebackhide__ = True
        loaded = self._in_use()
        connection = loaded.connection
        linked = link(self._imports, imports or {}, connection, self.path)
        owner = Owner(connection, self.path)
        owner.keeps += [loaded, *linked.hosts, *linked.externs]
        owner.lenders += linked.leaks
        try:
            first = connection.instantiate(loaded.handle, linked.pairs, f"instantiation of {self.path}")
        except BaseException as failure:
            if not isinstance(failure, (Refused, WrongThread, WrongBackend, InstanceLost)):  # else nothing has run
                for lender in linked.leaks:
                    lender.spoil(self.path)
            error = self._start_error(connection.backend, failure)
            if error is failure:
                raise
        else:
            release_with(owner, connection, first)
            for lender in linked.leaks:
                lender.keeps.append(owner)
            for extern in linked.externs:
                extern._owner.importers.add(owner)
            instance = Instance(self, owner, first)
            for host in linked.hosts:
                host.introduce(instance)
            return instance
        raise error

    def _start_error(self, backend: str, failure: BaseException) -> BaseException:
        if isinstance(failure, Trapped):
            return trap_from(failure, "")
        if not isinstance(failure, Refused):
            return failure
        if failure.stage == "panic":
            return EngineFault(f"the {backend} engine panicked in the start of {self.path}: {failure.text}")
        return LinkError(f"{self.path} cannot be linked on {backend}: {failure.text}")

    def __repr__(self) -> str:
        return f"<Module {self.path} on {self.backend}>"


def refusal_text(backend: str, path: str, refused: Refused) -> str:
    """Why a backend does not take a module, and the marker line that leaves this backend out."""
    reason = refused.text if len(refused.text) <= REASON_LIMIT else refused.text[:REASON_LIMIT] + " ..."
    verb = {"validate": "does not accept", "panic": "panicked while compiling"}.get(refused.stage, "cannot compile")
    lines = [f"{backend} {verb} {path}: {reason}"]
    if refused.stage == "validate":
        lines.append("If the other compilers refuse it too, the module is malformed: build it again.")
    lines.append(f'If it needs what {backend} lacks: @pytest.mark.wasm_backends(exclude="{backend}", reason="...")')
    return "\n".join(lines)


class Loader:
    """Modules by backend and content, each loaded once, also when its Wasm comes from two paths.

    The `limit` most recently used ones stay loaded, so that a run over thousands of generated modules does
    not keep them all.
    """

    def __init__(self, compiled: Callable[[str, float], None], limit: int = 128) -> None:
        self._compiled = compiled
        self._limit = limit
        self._modules: dict[tuple[str, bytes], Module] = {}
        self._converted: dict[str, bytes] = {}

    def load(self, backend: str, connect: Callable[[], Connection], source: Source) -> Module:
        """The module of a source. Raises `SourceError` for bad WAT, `CompileError`."""
        __tracebackhide__ = True
        wasm = self._binary(connect, source)
        key = (backend, wasm)
        module = self._modules.pop(key, None)
        if module is None:
            module = Module(connect, wasm, source.name, partial(self._compiled, backend))
        self._modules[key] = module
        if len(self._modules) > self._limit:
            del self._modules[next(iter(self._modules))]
        return module

    def _binary(self, connect: Callable[[], Connection], source: Source) -> bytes:
        """WAT is converted once, so that all backends get the same bytes."""
        __tracebackhide__ = True
        if source.wasm is not None:
            return source.wasm
        assert source.wat is not None
        wasm = self._converted.get(source.wat)
        if wasm is None:
            try:
                wasm = connect().convert(source.wat, f"conversion of {source.name}")
            except Refused as refused:
                error = wat_error(source.name, source.wat, refused.text)
            else:
                self._converted[source.wat] = wasm
                return wasm
            raise error
        return wasm
