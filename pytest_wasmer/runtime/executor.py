"""Does the native work of one backend: the same code behind both transports.

What callers hold are *handles*, numbers of native objects kept here. Engine processes import this module.
"""

from __future__ import annotations

import time
from importlib import import_module

from pytest_wasmer.artifacts import entry
from pytest_wasmer.engines.api import Refused
from pytest_wasmer.runtime.blobs import Blobs
from pytest_wasmer.runtime.blobs import digest_of as blob_digest
from pytest_wasmer.runtime.wire import IS_HOST, pack_description

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_wasmer.engines.api import Description, Engine, ExternType, Native, Trapped, Values

    MakeHost = Callable[[int, ExternType], Callable[[Values], Values]]

PAGE = 65536
OTHER_EXPORTS = "its imports and exports are others"
# Released instances that leave their state behind, until somebody asks for it.
LEFT_LIMIT = 1000
ZEROS = bytes(PAGE)
# Larger memories have a digest for several pages.
DIGEST_LIMIT = 2048
# Of how many pages it is remembered what was in them.
KNOWN_LIMIT = 512


def make_engine(reference: str, argument: str) -> Engine:
    """The engine of a `module:factory` reference."""
    module, _, factory = reference.partition(":")
    engine: Engine = getattr(import_module(module), factory)(argument)
    return engine


class Record:
    """An instance and all that must live as long: what it imports, and the instances that these come from."""

    __slots__ = ("exports", "instance", "keeps")

    def __init__(self, instance: Native, exports: Sequence[int], keeps: Sequence[object]) -> None:
        self.instance = instance
        self.exports = exports
        self.keeps = keeps


class Executor:
    """Handles, and the operations on them. `make_host(number, type)` gives what calls a host function.

    Operations raise `Trapped`, `Refused`, `OutOfBounds` and `HostRaised` (see `engines.api`). With `finishes`, whoever
    has sent an answer calls `finish` then.
    """

    def __init__(self, engine: Engine, make_host: MakeHost, *, finishes: bool = False) -> None:
        self._engine = engine
        self._make_host = make_host
        self._finishes = finishes
        self._next = 1
        self._natives: dict[int, Native] = {}
        self._types: dict[int, ExternType] = {}
        self._descriptions: dict[int, Description] = {}
        self._records: dict[int, Record] = {}
        self._record_of: dict[int, Record] = {}
        self._callers: dict[int, Callable[[Values], Values]] = {}
        self._mappers: dict[int, Callable[[Iterable[Values]], list[Values | Trapped]]] = {}
        # Stored artifacts that were loaded, which is yet to be noted there.
        self._used: list[str] = []
        # What released instances left behind, once somebody watches.
        self._left: dict[int, str] | None = None
        # Where the pages of memories are kept that tests leave behind.
        self._blobs: Blobs | None = None
        # By number what a page held when it was last looked at, and the digest: most are as the test before left them,
        # or as each instance of a module has them, and to compare takes a tenth of the time.
        self._known: dict[int, tuple[bytes, str]] = {}

    def type_of(self, handle: int) -> ExternType:
        return self._types[handle]

    # Modules

    def convert(self, wat: str) -> bytes:
        """The Wasm binary of a WAT text; the engine's own library has no say, all backends get the same bytes."""
        from pytest_wasmer.engines.wheels import wat_to_wasm

        return wat_to_wasm(wat)

    def compile(self, wasm: bytes) -> tuple[int, Description]:
        """A module that was never serialized."""
        return self._keep_module(self._engine.compile(wasm))

    def load(self, path: str, head: bytes, seal: bytes) -> tuple[int, float, bytes]:
        """The module of a stored artifact, the seconds that its compile took, and its description, packed.

        Raises `Refused`, stage "absent" or "broken" (the reason), for what must be compiled instead.
        """
        try:
            artifact, seconds, joint, described = entry.read(path, head, seal)
            handle = self._keep(self._engine.deserialize(artifact, joint), ("module",))
        except entry.Absent:
            raise Refused("absent", path) from None
        except (entry.Broken, Refused) as error:
            raise Refused("broken", str(error)) from None
        self._used.append(path)
        if not self._finishes:
            self.finish()
        return handle, seconds, described

    def store(self, path: str, head: bytes, seal: bytes, wasm: bytes) -> tuple[int, float, str, Description]:
        """Compile, store, and load what was stored. The seconds of the compile, and why it could not be stored."""
        try:
            return self._compile_and_reload(wasm, lambda *stored: _stored(path, head, seal, *stored))
        except Refused as refused:
            if refused.text == OTHER_EXPORTS:  # which the next run would not notice
                entry.discard(path)
            raise

    def reload(self, wasm: bytes) -> tuple[int, float, str, Description]:
        """Compile, serialize and deserialize in memory."""
        return self._compile_and_reload(wasm, lambda artifact, *_: (artifact, ""))

    def _compile_and_reload(
        self, wasm: bytes, keep: Callable[[bytes, float, bool, bytes], tuple[bytes, str]]
    ) -> tuple[int, float, str, Description]:
        began = time.perf_counter()
        module = self._engine.compile(wasm)
        seconds = time.perf_counter() - began
        joint = self._engine.is_joint(wasm)
        compiled = self._engine.describe(module)
        try:
            artifact, trouble = keep(self._engine.serialize(module), seconds, joint, pack_description(compiled))
        except NotImplementedError:
            trouble = "this engine cannot serialize; tests ran on code that was never stored"
        else:
            del module
            try:
                module = self._engine.deserialize(artifact, joint)
            except Refused as refused:
                raise Refused("reload", refused.text) from None
        handle, description = self._keep_module(module)
        if description[1:] != compiled[1:]:
            raise Refused("reload", OTHER_EXPORTS)
        if description != compiled:  # another name: this one is to be stored
            keep(artifact, seconds, joint, pack_description(description))
        return handle, seconds, trouble, description

    def serialize(self, module: int) -> bytes:
        return self._engine.serialize(self._natives[module])

    def deserialize(self, artifact: bytes) -> tuple[int, Description]:
        return self._keep_module(self._engine.deserialize(artifact))

    def custom_sections(self, module: int, name: str) -> list[bytes]:
        return self._engine.custom_sections(self._natives[module], name)

    def _keep_module(self, module: Native) -> tuple[int, Description]:
        handle = self._keep(module, ("module",))
        return handle, self._description(handle)

    def _description(self, module: int) -> Description:
        description = self._descriptions.get(module)
        if description is None:
            description = self._descriptions[module] = self._engine.describe(self._natives[module])
        return description

    def instantiate(self, module: int, imports: Sequence[tuple[int, int]]) -> int:
        """The handle of the instance; its exports have the handles that follow, in the module's order."""
        _, wanted, provided = self._description(module)
        natives: list[Native] = []
        keeps: list[object] = [self._natives[module]]
        for (kind, number), (_, _, type_) in zip(imports, wanted, strict=True):
            if kind == IS_HOST:
                natives.append(self._host_function(number, type_))
            else:
                natives.append(self._natives[number])
                keeps.append(self._record_of.get(number))
        keeps.append(natives)
        instance, externs = self._engine.instantiate(self._natives[module], natives)
        handle = self._keep(instance, ("instance",))
        exports = [self._keep(extern, type_) for extern, (_, type_) in zip(externs, provided, strict=True)]
        record = Record(instance, exports, keeps)
        self._records[handle] = record
        for export in exports:
            self._record_of[export] = record
        return handle

    def _host_function(self, number: int, type_: ExternType) -> Native:
        return self._engine.make_function(type_[1], type_[2], self._make_host(number, type_))

    def release(self, handles: Iterable[int]) -> None:
        """Let go of modules, instances (with their exports), memories and globals. Never during a call."""
        for handle in handles:
            if self._left is not None and len(self._left) < LEFT_LIMIT and self._has_state(handle):
                self._left[handle] = self._state(handle)
            record = self._records.pop(handle, None)
            for number in (handle, *(record.exports if record else ())):
                for table in (
                    self._natives,
                    self._types,
                    self._descriptions,
                    self._record_of,
                    self._callers,
                    self._mappers,
                ):
                    table.pop(number, None)

    # What is left when a test ends

    def watch(self, folder: str) -> None:
        """From now on what is released leaves its state behind; and memories their pages, if there is a folder."""
        self._left = {}
        self._blobs = Blobs(folder, later=self._finishes) if folder else None

    def finish(self) -> None:
        """Do what no answer had to wait for."""
        while self._used:
            entry.note_use(self._used.pop())
        if self._blobs is not None:
            self._blobs.write_due()

    def states(self, handles: Iterable[int]) -> list[str]:
        """The state of instances, memories and globals now, or when they were released since the last time.

        Parts with semicolons between them: "0:memory:2:1:1=5ab0..." (place among the exports, pages, pages per digest,
        digests of what is not all zeros), "3:global:i32:-1", "4:table:10".
        """
        left, self._left = self._left or {}, {}
        return [left.get(handle) or self._state(handle) for handle in handles]

    def _has_state(self, handle: int) -> bool:
        return handle in self._records or self._types.get(handle, ("",))[0] in ("memory", "global")

    def _state(self, handle: int) -> str:
        record = self._records.get(handle)
        handles = record.exports if record else [handle] if self._has_state(handle) else []
        parts = [(place, self._state_of(number)) for place, number in enumerate(handles)]
        return ";".join([f"{place}:{part}" for place, part in parts if part])

    def _state_of(self, handle: int) -> str:
        kind, *details = self._types[handle]
        if kind == "memory":
            return self._memory_state(handle)
        if kind == "table":
            return f"table:{self.table_size(handle)}"
        if kind == "global" and details[1] and details[0] not in ("funcref", "externref"):
            return f"global:{details[0]}:{self.get_global(handle)}"
        return ""

    def _memory_state(self, handle: int) -> str:
        native, found = self._natives[handle], []
        pages = self._engine.memory_pages(native)
        unit = -(-pages // DIGEST_LIMIT)
        zeros = ZEROS * unit
        for number in range(0, pages, unit or 1):
            size = min(unit, pages - number) * PAGE
            content = self._engine.read(native, number * PAGE, size)
            if content != zeros[:size]:
                digest = self._page_digest(number, content)
                found.append(f"{number}={digest}")
                if self._blobs is not None and unit == 1:
                    self._blobs.keep(digest, content)
        return f"memory:{pages}:{unit}:{','.join(found)}"

    def _page_digest(self, number: int, content: bytes) -> str:
        known, digest = self._known.get(number, (b"", ""))
        if known != content:
            digest = blob_digest(content)
            if number < KNOWN_LIMIT and len(content) == PAGE:
                self._known[number] = content, digest
        return digest

    def _keep(self, native: Native, type_: ExternType) -> int:
        handle = self._next
        self._next += 1
        self._natives[handle] = native
        self._types[handle] = type_
        return handle

    # Functions

    def caller(self, handle: int) -> Callable[[Values], Values]:
        """What calls a function: made once per function."""
        call = self._callers.get(handle)
        if call is None:
            _, params, results = self._types[handle]
            call = self._callers[handle] = self._engine.caller(self._natives[handle], params, results)
        return call

    def call(self, handle: int, values: Values) -> Values:
        return self.caller(handle)(values)

    def map(self, handle: int, calls: Iterable[Values]) -> list[Values | Trapped]:
        mapper = self._mappers.get(handle)
        if mapper is None:
            _, params, results = self._types[handle]
            mapper = self._mappers[handle] = self._engine.mapper(self._natives[handle], params, results)
        return mapper(calls)

    # Memories, globals, tables

    def make_memory(self, minimum: int, maximum: int | None) -> int:
        return self._keep(self._engine.make_memory(minimum, maximum), ("memory", minimum, maximum))

    def read(self, memory: int, offset: int, length: int) -> bytes:
        return self._engine.read(self._natives[memory], offset, length)

    def write(self, memory: int, offset: int, data: bytes) -> None:
        self._engine.write(self._natives[memory], offset, data)

    def digest(self, memory: int) -> bytes:
        native = self._natives[memory]
        return digest_of(lambda offset: self._engine.read(native, offset, PAGE), self._engine.memory_pages(native))

    def memory_pages(self, memory: int) -> int:
        return self._engine.memory_pages(self._natives[memory])

    def grow(self, memory: int, pages: int) -> int:
        return self._engine.grow(self._natives[memory], pages)

    def make_global(self, value_type: str, mutable: bool, value: int) -> int:
        return self._keep(self._engine.make_global(value_type, mutable, value), ("global", value_type, mutable))

    def get_global(self, handle: int) -> int:
        return self._engine.get_global(self._natives[handle], self._types[handle][1])

    def set_global(self, handle: int, value: int) -> None:
        self._engine.set_global(self._natives[handle], self._types[handle][1], value)

    def table_size(self, handle: int) -> int:
        return self._engine.table_size(self._natives[handle])


def _stored(
    path: str, head: bytes, seal: bytes, artifact: bytes, seconds: float, joint: bool, described: bytes
) -> tuple[bytes, str]:
    """What the next run will read; the artifact itself where it cannot be stored, and the reason."""
    try:
        return entry.reread(path, entry.write(path, head, seal, artifact, seconds, joint, described), artifact), ""
    except OSError as error:
        return artifact, error.strerror or type(error).__name__
    except entry.Broken:
        return artifact, "it was gone or changed right after it was written"


def digest_of(read: Callable[[int], bytes], pages: int) -> bytes:
    """SHA-256 over each page of a memory that is not all zeros, after its number (4 bytes, little-endian)."""
    import hashlib

    digest = hashlib.sha256()
    for number in range(pages):
        page = read(number * PAGE)
        if page != ZEROS:
            digest.update(number.to_bytes(4, "little") + page)
    return digest.digest()
