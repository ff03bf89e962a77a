"""The `wasmer` 1.1.0 wheels: Wasmer 2.1 with one of its three compilers (or none) and one of two engines.

The Universal engine keeps code in memory, and its artifacts are its own format; those of the Dylib engine are shared
objects, which it links with gcc and loads with dlopen.

Runs in the engine process (or in the test process with `--wasm-isolation=none`). The wheels' objects do
not keep alive what they import, and a module leaks its code for the life of its Store and engine: hence an engine per
module (unless it exchanges references with others, see `references`), and callers that hold on to imports.
"""

from __future__ import annotations

import struct
from importlib import import_module

from pytest_wasmer.engines.api import Engine, HostRaised, OutOfBounds, Refused, Trapped
from pytest_wasmer.engines.references import shares_references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from pytest_wasmer.engines.api import Description, ExternType, Native, Values

# First lines of the engine's messages, equal on all three compilers with the Universal engine, and on llvm with Dylib.
TRAP_KINDS = {
    "unreachable": "UNREACHABLE",
    "integer divide by zero": "INTEGER_DIVIDE_BY_ZERO",
    "integer overflow": "INTEGER_OVERFLOW",
    "invalid conversion to integer": "INVALID_CONVERSION_TO_INTEGER",
    "out of bounds memory access": "MEMORY_OUT_OF_BOUNDS",
    "undefined element: out of bounds table access": "TABLE_OUT_OF_BOUNDS",
    "uninitialized element": "INDIRECT_CALL_TO_NULL",
    "indirect call type mismatch": "BAD_SIGNATURE",
    "call stack exhausted": "STACK_OVERFLOW",
}

# What Dylib says of whatever trap of singlepass and cranelift it cannot tell apart: all but memory faults, and what
# Wasmer's own functions raise (memory.fill, table.get).
ANY_TRAP = "call stack exhausted"
UNTOLD = f"trap of a kind that the Dylib engine does not tell (it says {ANY_TRAP!r} of all of them)"

# A stack overflow's text is 8 to 19 MB (a line per frame): only this much is looked at, and 20 frames kept.
TEXT_LIMIT = 4096
FRAME_LIMIT = 20

# PyO3 adds the exception's own name to some messages.
NOISE = "RuntimeError: "

PAGE = 65536

REFERENCES = frozenset({"funcref", "externref"})


def load(compiler: str) -> Any:
    """The compiler's module. The LLVM one aborts the interpreter on today's glibc unless repaired."""
    if compiler == "llvm":
        from pytest_wasmer.engines import libtinfo

        libtinfo.provide()
    return import_module(f"wasmer_compiler_{compiler}")


def plain(text: str) -> str:
    while text.startswith(NOISE):
        text = text[len(NOISE) :]
    return text


def quiet(text: str) -> str:
    """Without the pages that gcc prints before it fails: Dylib runs it with -v, and shows commands after a space."""
    head, gcc, said = text.partition("\nstderr:")
    if not gcc:
        return text
    lines = said.removesuffix("\nstdout:").splitlines()
    after = max([number for number, line in enumerate(lines, 1) if line.startswith(" ")], default=0)
    return "\n".join([head, *lines[after:]])


def expose(wasmer: Any) -> None:
    """Let the code that the Dylib engine loads find Wasmer's functions, to which it is not linked."""
    import ctypes

    ctypes.CDLL(wasmer.wasmer.__file__, mode=ctypes.RTLD_GLOBAL)


def trap_of(error: RuntimeError, kinds: dict[str, str] = TRAP_KINDS) -> Trapped | None:
    """The trap that a wheel's exception stands for; None if it is another failure.

    Traps have no class of their own. Subclasses (RecursionError) come from Python, not from Wasm.
    """
    if type(error) is not RuntimeError:
        return None
    text = str(error)
    long = len(text) > TEXT_LIMIT
    lines = plain(text[:TEXT_LIMIT]).splitlines()
    del text
    kind = kinds.get(lines[0] if lines else "")
    if kind is None:
        return None
    if kind == "UNKNOWN":
        lines[0] = UNTOLD
    kept = lines[: FRAME_LIMIT + 1]
    if long or len(lines) > len(kept):
        kept = [*kept[:FRAME_LIMIT], *kept[FRAME_LIMIT + 1 :], "    ... more frames"]
    if long:
        error.args = ()
        give_back_memory()
    return Trapped(kind, "\n".join(kept))


def give_back_memory() -> None:
    """The frame list of a stack overflow costs ~120 MB, which glibc would keep."""
    import ctypes
    from contextlib import suppress

    with suppress(AttributeError, OSError, TypeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


def is_panic(error: BaseException) -> bool:
    """Rust panics are `pyo3_runtime.PanicException`, a BaseException that cannot be imported."""
    return type(error).__name__ == "PanicException"


def _value_types_in(fields: Iterable[Any]) -> Iterator[str]:
    """The names of value types in an extern type; those of tables are always references."""
    for field in fields:
        if isinstance(field, tuple):
            yield from field
        elif isinstance(field, str):
            yield field


class WheelsEngine(Engine):
    """ "llvm": that compiler with the Universal engine; "llvm-dylib": with the Dylib engine.

    "headless" and "headless-dylib" have no compiler: they run artifacts, and compile nothing.
    """

    def __init__(self, argument: str) -> None:
        name, _, kind = argument.partition("-")
        self._headless = name == "headless"
        compiler = () if self._headless else (load(name).Compiler,)
        import wasmer

        self._wasmer: Any = wasmer
        self._kinds = TRAP_KINDS
        engine = wasmer.engine.Universal
        if kind == "dylib":
            expose(wasmer)
            engine = wasmer.engine.Dylib
            if name != "llvm":
                self._kinds = {**TRAP_KINDS, ANY_TRAP: "UNKNOWN"}
        self._new_engine: Callable[[], Any] = lambda: engine(*compiler)
        self._type_of = {name: getattr(wasmer.Type, name.upper()) for name in ("i32", "i64", "f32", "f64", "v128")}
        self._type_of |= {"funcref": wasmer.Type.FUNC_REF, "externref": wasmer.Type.EXTERN_REF}
        self._name_of = {int(type_): name for name, type_ in self._type_of.items()}
        # Of host functions, memories and globals, and of modules that exchange references.
        self._shared_store = self._new_store()
        self.version = f"wasmer {wasmer.__version__}"

    def _new_store(self) -> Any:
        return self._wasmer.Store(self._new_engine())

    # Modules

    def compile(self, wasm: bytes) -> Native:
        if self._headless:  # whose `validate` says no to everything
            raise Refused("compile", "a headless engine has no compiler: it runs artifacts only")
        store = self._shared_store if shares_references(wasm) else self._new_store()
        try:
            return self._wasmer.Module(store, wasm)
        except RuntimeError as error:
            # `validate` alone does not tell: it accepts modules that the compiler then refuses.
            valid = self._wasmer.Module.validate(store, wasm)
            raise Refused("compile" if valid else "validate", quiet(plain(str(error)))) from None
        except BaseException as error:
            if is_panic(error):
                raise Refused("panic", str(error)) from None
            raise

    def serialize(self, module: Native) -> bytes:
        return bytes(module.serialize())

    def is_joint(self, wasm: bytes) -> bool:
        return shares_references(wasm)

    def deserialize(self, artifact: bytes, joint: bool | None = None) -> Native:
        if joint is not None:
            return self._deserialize(self._shared_store if joint else self._new_store(), artifact)
        module = self._deserialize(self._new_store(), artifact)
        # Only a loaded module can be asked what it is.
        return self._deserialize(self._shared_store, artifact) if self._shares_references(module) else module

    def _deserialize(self, store: Any, artifact: bytes) -> Native:
        try:
            return self._wasmer.Module.deserialize(store, artifact)
        except RuntimeError as error:
            raise Refused("validate", plain(str(error))) from None
        except BaseException as error:
            if is_panic(error):
                raise Refused("panic", str(error)) from None
            raise

    def _shares_references(self, module: Native) -> bool:
        """As `shares_references`, of a module without its binary."""
        _, imports, exports = self.describe(module)
        types = [*[type_ for _, _, type_ in imports], *[type_ for _, type_ in exports]]
        return any(not REFERENCES.isdisjoint(_value_types_in(rest)) for _, *rest in types)

    def custom_sections(self, module: Native, name: str) -> list[bytes]:
        return [bytes(content) for content in module.custom_sections(name)]

    def describe(self, module: Native) -> Description:
        imports = [(item.module, item.name, self._extern_type(item.type)) for item in module.imports]
        exports = [(item.name, self._extern_type(item.type)) for item in module.exports]
        return (module.name or "", imports, exports)  # type: ignore[return-value]

    def _extern_type(self, type_: Any) -> ExternType:
        kind = type(type_).__name__
        if kind == "FunctionType":
            return ("func", self._value_types(type_.params), self._value_types(type_.results))
        if kind == "MemoryType":
            return ("memory", type_.minimum, type_.maximum)
        if kind == "GlobalType":
            return ("global", self._value_types([type_.type])[0], type_.mutable)
        return ("table", self._value_types([type_.type])[0], type_.minimum, type_.maximum)

    def _value_types(self, types: Iterable[Any]) -> tuple[str, ...]:
        return tuple([self._name_of[int(type_)] for type_ in types])

    def instantiate(self, module: Native, imports: Sequence[Native]) -> tuple[Native, list[Native]]:
        namespaces: dict[str, dict[str, Native]] = {}
        for item, extern in zip(module.imports, imports, strict=True):
            namespaces.setdefault(item.module, {})[item.name] = extern
        objects = self._wasmer.ImportObject()
        for name, namespace in namespaces.items():
            objects.register(name, namespace)
        try:
            instance = self._wasmer.Instance(module, objects)
        except RuntimeError as error:
            raise trap_of(error, self._kinds) or Refused("instantiate", plain(str(error))) from None
        except BaseException as error:
            if is_panic(error):
                raise Refused("panic", str(error)) from None
            raise
        return instance, [extern for _, extern in instance.exports]

    # Calls

    def caller(self, function: Native, params: Sequence[str], results: Sequence[str]) -> Callable[[Values], Values]:
        decode, encode, kinds = from_bits(params), result_bits(results), self._kinds

        def call(values: Values) -> Values:
            try:
                result = function(*(values if decode is None else decode(values)))
            except HostRaised:
                raise
            except BaseException as error:
                raise failure_of(error, kinds) from None
            return encode(result)

        return call

    def mapper(
        self, function: Native, params: Sequence[str], results: Sequence[str]
    ) -> Callable[[Iterable[Values]], list[Values | Trapped]]:
        decode, encode, kinds = from_bits(params), result_bits(results), self._kinds
        one_int = encode is one_result

        def map_calls(calls: Iterable[Values]) -> list[Values | Trapped]:
            outcomes: list[Values | Trapped] = []
            append = outcomes.append
            for values in calls if decode is None else map(decode, calls):
                try:
                    result = function(*values)
                except HostRaised:
                    raise
                except BaseException as error:
                    failure = failure_of(error, kinds)
                    if not isinstance(failure, Trapped):
                        raise failure from None
                    append(failure)
                else:
                    append((result,) if one_int else encode(result))
            return outcomes

        return map_calls

    def make_function(self, params: Sequence[str], results: Sequence[str], host: Callable[[Values], Values]) -> Native:
        encode, decode = to_bits(params), from_bits(results)
        single = len(results) == 1

        def called(*arguments: Any) -> Any:
            values = host(arguments if encode is None else encode(arguments))
            answer = values if decode is None else decode(values)
            return answer[0] if single else (answer or None)

        type_of = self._type_of
        signature = self._wasmer.FunctionType([type_of[name] for name in params], [type_of[name] for name in results])
        return self._wasmer.Function(self._shared_store, called, signature)

    # Memories, globals, tables

    def make_memory(self, minimum: int, maximum: int | None) -> Native:
        try:
            return self._wasmer.Memory(self._shared_store, self._wasmer.MemoryType(minimum, maximum, False))
        except RuntimeError as error:
            raise Refused("instantiate", plain(str(error))) from None

    def make_global(self, value_type: str, mutable: bool, value: int) -> Native:
        decode = from_bits([value_type])
        native = getattr(self._wasmer.Value, value_type)(decode((value,))[0] if decode else value)
        return self._wasmer.Global(self._shared_store, native, mutable=mutable)

    def read(self, memory: Native, offset: int, length: int) -> bytes:
        view = memoryview(memory.buffer)
        if offset + length > len(view):
            raise OutOfBounds(len(view))
        return bytes(view[offset : offset + length])

    def write(self, memory: Native, offset: int, data: bytes) -> None:
        view = memoryview(memory.buffer)
        if offset + len(data) > len(view):
            raise OutOfBounds(len(view))
        view[offset : offset + len(data)] = data

    def memory_pages(self, memory: Native) -> int:
        return int(memory.size)

    def grow(self, memory: Native, pages: int) -> int:
        try:
            return int(memory.grow(pages))
        except RuntimeError as error:
            raise Refused("grow", plain(str(error))) from None

    def get_global(self, variable: Native, value_type: str) -> int:
        encode = to_bits([value_type])
        value = variable.value
        return int(encode((value,))[0] if encode else value)

    def set_global(self, variable: Native, value_type: str, value: int) -> None:
        decode = from_bits([value_type])
        variable.value = decode((value,))[0] if decode else value

    def table_size(self, table: Native) -> int:
        return int(table.size)


def failure_of(error: BaseException, kinds: dict[str, str] = TRAP_KINDS) -> BaseException:
    """What a failed call means: a trap, a panic, or the error itself."""
    if isinstance(error, RuntimeError):
        return trap_of(error, kinds) or error
    return Refused("panic", str(error)) if is_panic(error) else error


# Bits. The wheels take and give Python floats; the contract speaks of bits.

FLOAT_BITS = {
    "f32": (struct.Struct("<f"), struct.Struct("<I")),
    "f64": (struct.Struct("<d"), struct.Struct("<Q")),
}


def from_bits(types: Sequence[str]) -> Callable[[Values], tuple[Any, ...]] | None:
    """What turns values of the contract into the wheels' own; None where they are the same."""
    if not any(name in FLOAT_BITS for name in types):
        return None
    steps = [(FLOAT_BITS[name][0].unpack, FLOAT_BITS[name][1].pack) if name in FLOAT_BITS else None for name in types]

    def convert(values: Values) -> tuple[Any, ...]:
        return tuple([step[0](step[1](value))[0] if step else value for value, step in zip(values, steps, strict=True)])

    return convert


def to_bits(types: Sequence[str]) -> Callable[[Sequence[Any]], Values] | None:
    """The reverse of `from_bits`."""
    if not any(name in FLOAT_BITS for name in types):
        return None
    steps = [(FLOAT_BITS[name][1].unpack, FLOAT_BITS[name][0].pack) if name in FLOAT_BITS else None for name in types]

    def convert(values: Sequence[Any]) -> Values:
        return tuple([step[0](step[1](value))[0] if step else value for value, step in zip(values, steps, strict=True)])

    return convert


def no_result(_: None) -> Values:
    return ()


def one_result(value: int) -> Values:
    return (value,)


def result_bits(types: Sequence[str]) -> Callable[[Any], Values]:
    """What turns the wheels' result (None, a value or a tuple) into a tuple of values."""
    if not types:
        return no_result
    encode = to_bits(types)
    if len(types) == 1:
        return one_result if encode is None else lambda value: encode((value,))
    return tuple if encode is None else encode


def wat_to_wasm(text: str) -> bytes:
    """The binary of a WAT text. Raises `Refused("convert", ...)` with wast's message (line and column).

    One converter for all backends, so that all of them get the same bytes.
    """
    try:
        import wasmer
    except ImportError as error:
        raise Refused(
            "convert", f"the WAT converter is in the `wasmer` wheel, which cannot be imported: {error}"
        ) from None
    try:
        return bytes(wasmer.wat2wasm(text))
    except RuntimeError as error:
        raise Refused("convert", str(error)) from None
