"""A compiled module, on one backend."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_wasmer.engines.api import Refused, Trapped
from pytest_wasmer.runtime.errors import EngineFault, EngineLost, InstanceLost, WasmError, WrongBackend, WrongThread
from pytest_wasmer.runtime.wire import IS_HANDLE
from pytest_wasmer.wasm import binary
from pytest_wasmer.wasm.errors import CompileError, LinkError
from pytest_wasmer.wasm.externs import Owner, release_with
from pytest_wasmer.wasm.imports import link, refused_import
from pytest_wasmer.wasm.instance import Instance
from pytest_wasmer.wasm.loading import Code, Loaded
from pytest_wasmer.wasm.source import wat_error
from pytest_wasmer.wasm.traps import trap_from
from pytest_wasmer.wasm.types import extern_type

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from pytest_wasmer.artifacts.key import Parts
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.imports import Imports, Linked
    from pytest_wasmer.wasm.loading import Strategy
    from pytest_wasmer.wasm.source import Source
    from pytest_wasmer.wasm.types import ExternType


class Module:
    """A module that one backend has compiled.

    `path` is how the source is called in messages. `parts`: what artifacts of this backend depend on, all but the
    module. One that was loaded from an artifact has no `wasm`, and a `digest` only if the artifact's sidecar says so.
    """

    def __init__(
        self,
        code: Code,
        wasm: bytes | None,
        digest: str,
        path: str,
        parts: Parts | None = None,
        identity: str = "",
    ) -> None:
        self._code = code
        self._wasm = wasm
        self._parts = parts
        self.path = path
        #: SHA-256 of the binary, in hex.
        self.digest = digest
        #: What other machines know it by, too: the digest, or "wat:" and that of the text, which converters of other
        #: versions turn into other binaries.
        self.identity = identity or digest

    @property
    def backend(self) -> str:
        return self._code.backend

    @property
    def wasm(self) -> bytes:
        """The binary, as it was compiled. Raises `WasmError` for a module that was loaded from an artifact."""
        __tracebackhide__ = True
        self._code.refuse_other_test(f"wasm of {self.path}")
        if self._wasm is None:
            raise WasmError(f"{self.path} was loaded from an artifact, which does not hold the Wasm binary")
        return self._wasm

    @property
    def has_wasm(self) -> bool:
        """Whether `wasm` is there: not of a module that was loaded from an artifact."""
        return self._wasm is not None

    def under(self, path: str, identity: str) -> Module:
        """The same module from another place."""
        if (path, identity) == (self.path, self.identity):
            return self
        return Module(self._code, self._wasm, self.digest, path, self._parts, identity)

    def loaded(self) -> Loaded:
        """Where its code is now: loaded again where its engine process was lost."""
        __tracebackhide__ = True
        return self._code.loaded(self.path)

    @property
    def name(self) -> str:
        """From the name section, "" without one."""
        __tracebackhide__ = True
        self._code.refuse_other_test(f"name of {self.path}")
        name, _, _ = self._code.description
        return name

    @property
    def exports(self) -> Mapping[str, ExternType]:
        """Types of the exports by name, in the module's order."""
        __tracebackhide__ = True
        self._code.refuse_other_test(f"exports of {self.path}")
        return self._exports

    @cached_property
    def _exports(self) -> Mapping[str, ExternType]:
        _, _, exports = self._code.description
        return MappingProxyType({name: extern_type(type_) for name, type_ in exports})

    @property
    def imports(self) -> Mapping[tuple[str, str], ExternType]:
        """Types of the imports by module and field name, in the module's order."""
        __tracebackhide__ = True
        self._code.refuse_other_test(f"imports of {self.path}")
        return self._imports_by_name

    @cached_property
    def _imports_by_name(self) -> Mapping[tuple[str, str], ExternType]:
        return MappingProxyType({(module, field): type_ for module, field, type_ in self._imports})

    @cached_property
    def _imports(self) -> list[tuple[str, str, ExternType]]:
        _, imports, _ = self._code.description
        return [(module, field, extern_type(type_)) for module, field, type_ in imports]

    @property
    def custom_sections(self) -> Mapping[str, tuple[bytes, ...]]:
        """Contents of the custom sections by name, in file order."""
        __tracebackhide__ = True
        self._code.refuse_other_test(f"custom_sections of {self.path}")
        return self._custom_sections

    @cached_property
    def _custom_sections(self) -> Mapping[str, tuple[bytes, ...]]:
        __tracebackhide__ = True
        return MappingProxyType(binary.custom_sections(self.wasm, self.path))

    def serialize(self) -> bytes:
        """The artifact: this module's native code, as this backend stores it."""
        __tracebackhide__ = True
        loaded = self.loaded()
        return loaded.connection.serialize(loaded.handle, f"serialize of {self.path}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artifact to a file, and beside it a sidecar, PATH.json, that says where it may run.

        Load it with `wasm_module.load_artifact`, `pytest-wasmer run` or any Wasmer of the same version. Raises OSError.
        """
        __tracebackhide__ = True
        from pytest_wasmer.wasm import artifact

        if self._parts is None:
            raise WasmError(f"nobody can say where the artifact of {self.path} may run: use serialize()")
        artifact.save(Path(path), self.serialize(), self._parts._replace(module=self.digest))

    def instantiate(self, imports: Imports | None = None) -> Instance:
        """A new instance.

        Raises `LinkError` for imports that are missing or do not fit, `Trap` from the start function or a segment,
        whatever a host function raises meanwhile.
        """
        __tracebackhide__ = True
        loaded = self.loaded()
        connection = loaded.connection
        linked = link(self._imports, imports or {}, connection, self.path)
        owner = Owner(connection, self.path, self.identity, tuple(self._exports))
        owner.digest = self.digest
        owner.keeps += [loaded, *linked.hosts, *linked.externs]
        owner.lenders += linked.leaks
        recorder = connection.recorder
        if recorder is not None:
            recorder.new(owner, self._lent(linked), self)
        try:
            first = connection.instantiate(loaded.handle, linked.pairs, f"instantiation of {self.path}")
        except BaseException as failure:
            if not isinstance(failure, (Refused, WrongThread, WrongBackend, InstanceLost)):  # else nothing has run
                for lender in linked.leaks:
                    lender.spoil(self.path)
            if recorder is not None:
                recorder.failed(failure)
            error = self._start_error(connection.backend, failure, linked)
            if error is failure:
                raise
        else:
            release_with(owner, connection, first)
            owner.handle = first
            if recorder is not None:
                recorder.made(owner)
            for lender in linked.leaks:
                lender.keeps.append(owner)
            for extern in linked.externs:
                extern._owner.importers.add(owner)
            instance = Instance(self, owner, first)
            for host in linked.hosts:
                host.introduce(instance)
            return instance
        raise error

    def _lent(self, linked: Linked) -> list[tuple[str, Owner, str]]:
        """What an instance takes of others: its own name for it, whose it is, and their name."""
        wanted = [item for item, (kind, _) in zip(self._imports, linked.pairs, strict=True) if kind == IS_HANDLE]
        return [
            (f"{module}.{field}", extern._owner, extern.name)
            for (module, field, _), extern in zip(wanted, linked.externs, strict=True)
        ]

    def _start_error(self, backend: str, failure: BaseException, linked: Linked) -> BaseException:
        if isinstance(failure, Trapped):
            return trap_from(failure, "")
        if isinstance(failure, EngineLost):
            failure.blame(self.digest)
        if not isinstance(failure, Refused):
            return failure
        if failure.stage == "panic":
            return EngineFault(f"the {backend} engine panicked in the start of {self.path}: {failure.text}")
        reason = refused_import(self._imports, linked) or failure.text
        return LinkError(f"{self.path} cannot be linked on {backend}: {reason}")

    def __repr__(self) -> str:
        return f"<Module {self.path} on {self.backend}>"


def module_of(artifact: bytes, parts: Parts | None, connect: Callable[[], Connection], path: str) -> Module:
    """The module of an artifact that may run on that connection. Raises `CompileError` where the engine refuses it."""
    __tracebackhide__ = True

    def load(connection: Connection, name: str) -> Loaded:
        __tracebackhide__ = True
        try:
            return Loaded(connection, *connection.deserialize(artifact, f"load of {name}"))
        except Refused as refused:
            error = CompileError(f"{connection.backend} does not load {name}: {refused.text}\nSave it again.")
        raise error

    return Module(Code(connect, load, path), None, parts.module if parts else "", path, parts)


def reloaded(module: Module, connect: Callable[[], Connection], artifact: bytes) -> Module:
    """The same module from its artifact, on that connection and on those that replace it."""

    def load(connection: Connection, name: str) -> Loaded:
        return Loaded(connection, *connection.deserialize(artifact, f"load of the artifact of {name}"))

    code = Code(connect, load, module.path)
    return Module(code, module.wasm, module.digest, module.path, identity=module.identity)


# Of how many binaries a loader remembers the digest.
DIGESTS = 4


class Loader:
    """Modules by backend and content, each loaded once, also when its Wasm comes from two paths.

    The `limit` most recently used ones stay loaded, so that a run over thousands of generated modules does
    not keep them all.
    """

    def __init__(self, limit: int = 128) -> None:
        self._limit = limit
        self._modules: dict[tuple[str, str], Module] = {}
        # Of binaries that come as bytes again and again: by the object.
        self._digests: dict[int, tuple[bytes, str]] = {}
        self._converted: dict[str, bytes] = {}

    def load(
        self,
        variant: str,
        connect: Callable[[], Connection],
        source: Source,
        strategy: Strategy,
        parts: Parts | None = None,
    ) -> Module:
        """The module of a source, for one way of running it. Raises `SourceError` for bad WAT, `CompileError`."""
        __tracebackhide__ = True
        wasm = self.binary(connect, source)
        digest = self._digest(wasm)
        key = (variant, digest)
        module = self._modules.pop(key, None)
        if module is None:

            def load(connection: Connection, name: str) -> Loaded:
                __tracebackhide__ = True
                return strategy(connection, wasm, digest, name)

            code = Code(connect, load, source.name)
            module = Module(code, wasm, digest, source.name, parts, source.identity)
        self._modules[key] = module
        if len(self._modules) > self._limit:
            del self._modules[next(iter(self._modules))]
        return module.under(source.name, source.identity or module.digest)

    def _digest(self, wasm: bytes) -> str:
        known, digest = self._digests.get(id(wasm), (b"", ""))
        if known is not wasm:
            digest = hashlib.sha256(wasm).hexdigest()
            self._digests[id(wasm)] = wasm, digest
            if len(self._digests) > DIGESTS:
                del self._digests[next(iter(self._digests))]
        return digest

    def binary(self, connect: Callable[[], Connection], source: Source) -> bytes:
        """The Wasm of a source. WAT is converted once, so that all backends get the same bytes."""
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
