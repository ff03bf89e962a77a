"""Modules and the loader that compiles each of them once."""

from __future__ import annotations

import gc
import hashlib
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.runtime.errors import EngineFault
from pytest_wasmer.wasm.errors import CompileError, LinkError, SourceError
from pytest_wasmer.wasm.loading import Fresh
from pytest_wasmer.wasm.module import Loader, Module
from pytest_wasmer.wasm.source import Source
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType, TableType
from tests import fake_engine
from tests.conftest import FAKES
from tests.fake_engine import function, leb128
from tests.wasm.workbench import FRESH, load, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.runtime.pool import EnginePool
    from pytest_wasmer.wasm.loading import Loading

WAT = """
(module $named
  (import "env" "log" (func (param i32 i64 f32 f64)))
  (import "env" "memory" (memory 1 2))
  (import "other" "table" (table 3 funcref))
  (import "other" "global" (global (mut i64)))
  (func (export "answer") (result i32) i32.const 42)
  (export "memory" (memory 0))
  (export "global" (global 0)))
"""
SIMD = '(module (func (export "f") (result i32) (i32x4.extract_lane 0 (v128.const i32x4 1 2 3 4))))'
MULTI = '(module (func (export "f") (result i32 i32) (i32.const 1) (i32.const 2)))'


def custom(name: bytes, content: bytes) -> bytes:
    body = leb128(len(name)) + name + content
    return b"\0" + leb128(len(body)) + body


# What a module knows


def test_what_a_module_knows(native: Connection) -> None:
    module = load(native, WAT, "named.wat")
    assert module.name == "named"
    assert module.backend == native.backend
    assert dict(module.imports) == {
        ("env", "log"): FunctionType(("i32", "i64", "f32", "f64"), ()),
        ("env", "memory"): MemoryType(1, 2),
        ("other", "table"): TableType("funcref", 3, None),
        ("other", "global"): GlobalType("i64", True),
    }
    assert dict(module.exports) == {
        "answer": FunctionType((), ("i32",)),
        "memory": MemoryType(1, 2),
        "global": GlobalType("i64", True),
    }
    assert list(module.exports) == ["answer", "memory", "global"]
    assert module.wasm == native.convert(WAT, "again")
    assert module.digest == hashlib.sha256(module.wasm).hexdigest()
    assert repr(module) == f"<Module named.wat on {native.backend}>"
    assert module.path == "named.wat"


def test_a_module_without_a_name(native: Connection) -> None:
    module = load(native, "(module)")
    assert (module.name, dict(module.imports), dict(module.exports), dict(module.custom_sections)) == ("", {}, {}, {})


def test_what_it_knows_cannot_be_changed(fake: Connection) -> None:
    module: Any = load(fake, fake_engine.module({"f": function(" -> ", [])}))
    for mapping in (module.exports, module.imports, module.custom_sections):
        with pytest.raises(TypeError):
            mapping["f"] = None


def test_custom_sections_several_of_one_name(native: Connection) -> None:
    wasm = native.convert(WAT, "again") + custom(b"mine", b"one") + custom(b"other", b"") + custom(b"mine", b"\xfftwo")
    sections = load(native, wasm).custom_sections
    assert sections["mine"] == (b"one", b"\xfftwo")
    assert sections["other"] == (b"",)
    assert list(sections) == ["name", "mine", "other"]


def test_custom_sections_anywhere(native: Connection) -> None:
    wasm = native.convert('(module (func (export "f")))', "again")
    wasm = wasm[:8] + custom(b"first", b"1") + wasm[8:] + custom(b"caf\xc3\xa9", b"2" * 300)
    sections = load(native, wasm).custom_sections
    assert sections["first"] == (b"1",)
    assert sections["café"] == (b"2" * 300,)


@pytest.mark.parametrize("section", ["00 00", "00 02 05 61", "00 01 80", "00 02 01 ff"])
def test_a_custom_section_without_a_proper_name(native: Connection, section: str) -> None:
    with pytest.raises(CompileError, match=rf"^{native.backend} does not accept m\.wat: "):
        load(native, b"\0asm\1\0\0\0" + bytes.fromhex(section))


def test_serialize(native: Connection) -> None:
    module = load(native, '(module (func (export "f") (result i32) i32.const 42))')
    artifact = module.serialize()
    assert len(artifact) > 100
    assert module.serialize() == artifact


def test_many_instances_of_one_module_are_apart(native: Connection) -> None:
    module = load(native, '(module (global (export "g") (mut i32) (i32.const 0)) (memory (export "memory") 1))')
    first, second = module.instantiate(), module.instantiate()
    first.exports.g.value = 5
    first.memory[0] = 6
    assert (second.exports.g.value, second.memory[0]) == (0, 0)
    assert first.module is second.module is module


def test_a_refusal_of_the_engine_to_instantiate(fake: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_wasmer.engines.api import Refused

    module = load(fake, fake_engine.module(), "app.wasm")
    for stage, error, text in (
        ("instantiate", LinkError, "app.wasm cannot be linked on fake-a: out of memory"),
        ("panic", EngineFault, "the fake-a engine panicked in the start of app.wasm: out of memory"),
    ):

        def refuse(*_: object, stage: str = stage) -> int:
            raise Refused(stage, "out of memory")

        monkeypatch.setattr(fake, "instantiate", refuse)
        with pytest.raises(error) as refused:
            module.instantiate()
        assert str(refused.value) == text


# What a compiler refuses


def test_what_only_one_compiler_cannot_compile(native: Connection) -> None:
    """Multi-value and SIMD are not in Singlepass; the message ends with the line that leaves it out."""
    marker = '@pytest.mark.wasm_backends(exclude="singlepass", reason="...")'
    if native.backend != "singlepass":
        assert make(native, SIMD).exports.f() == 1
        assert make(native, MULTI).exports.f() == (1, 2)
        return
    with pytest.raises(CompileError) as refused:
        load(native, SIMD, "simd.wat")
    assert str(refused.value) == (
        "singlepass cannot compile simd.wat: Compilation error: not yet implemented: V128Const { value: V128("
        "[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]) }\n"
        f"If it needs what singlepass lacks: {marker}"
    )
    with pytest.raises(CompileError) as refused:
        load(native, MULTI, "multi.wat")
    assert str(refused.value) == (
        "singlepass does not accept multi.wat: Validation error: invalid result arity: func type returns multiple "
        "values (at offset 11)\n"
        "If the other compilers refuse it too, the module is malformed: build it again.\n"
        f"If it needs what singlepass lacks: {marker}"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x00\x0b", "type mismatch: expected i32 but nothing on stack (at offset 31)"),
        (b"\x00\x41\x01", "control frames remain at end of function (at offset 33)"),
        (b"\x00\xff\x0b", "Unknown opcode: 0xff (at offset 31)"),
    ],
    ids=["stack", "end", "opcode"],
)
def test_malformed_inside_a_section(native: Connection, body: bytes, reason: str) -> None:
    code = bytes([1, len(body)]) + body
    wasm = bytes.fromhex("0061736d01000000 0105016000017f 03020100 0705010166 0000 0a") + bytes([len(code)]) + code
    with pytest.raises(CompileError) as refused:
        load(native, wasm, "broken.wasm")
    assert str(refused.value) == (
        f"{native.backend} does not accept broken.wasm: Validation error: {reason}\n"
        "If the other compilers refuse it too, the module is malformed: build it again.\n"
        f'If it needs what {native.backend} lacks: @pytest.mark.wasm_backends(exclude="{native.backend}", reason="...")'
    )


def test_a_compiler_that_panics(native: Connection) -> None:
    """A tag section passes Wasmer's validation, and no compiler of it expects one."""
    wasm = bytes.fromhex("0061736d01000000 01040160 0000 0d03010000")
    with pytest.raises(CompileError) as refused:
        load(native, wasm, "tag.wasm")
    assert str(refused.value) == (
        f"{native.backend} panicked while compiling tag.wasm: not implemented: module linking not implemented yet\n"
        f'If it needs what {native.backend} lacks: @pytest.mark.wasm_backends(exclude="{native.backend}", reason="...")'
    )
    assert make(native, '(module (func (export "f") (result i32) i32.const 42))').exports.f() == 42


def test_a_long_reason_is_cut(fake: Connection) -> None:
    with pytest.raises(CompileError) as refused:
        load(fake, fake_engine.module(refuse={"*": ("compile", "x" * 5000)}), "long.wasm")
    assert str(refused.value) == (
        f"fake-a cannot compile long.wasm: {'x' * 500} ...\n"
        'If it needs what fake-a lacks: @pytest.mark.wasm_backends(exclude="fake-a", reason="...")'
    )


def prefixes_that_are_modules(wasm: bytes) -> set[int]:
    """A header, or a header and the type section, are modules of their own."""
    return {8, 8 + 2 + wasm[9]}


def test_every_prefix_of_a_module_is_a_source_error_or_a_compile_error(native: Connection) -> None:
    wasm = native.convert(
        """(module (type (func (result i32))) (memory (export "memory") 1)
          (func $f (export "f") (type 0) (i32.const 42)) (table 1 funcref) (elem (i32.const 0) $f)
          (data (i32.const 0) "abc"))""",
        "prefixes",
    )
    from pytest_wasmer.wasm import binary

    accepted = set()
    for length in range(len(wasm)):
        try:
            binary.check(wasm[:length], "cut.wasm")
            load(native, wasm[:length], "cut.wasm")
        except (SourceError, CompileError) as error:
            assert str(error).startswith(("cut.wasm is ", f"{native.backend} does not accept cut.wasm: "))  # noqa: PT017
        else:
            accepted.add(length)
    assert accepted >= prefixes_that_are_modules(wasm)
    ends = {section.end for section in binary.sections(wasm, "whole")} | {8}
    assert accepted <= ends, "between sections only"


# The loader


class Loads:
    """A loader on the fake backends, and what it compiled."""

    def __init__(self, pool: EnginePool, limit: int = 128) -> None:
        self.pool = pool
        self.compiled: list[str] = []
        self.loader = Loader(limit)

    def _note(self, backend: str, loading: Loading) -> None:
        assert loading.what == "compiled"
        assert loading.seconds > 0
        self.compiled.append(backend)

    def load(self, wasm: bytes, path: str = "m.wasm", index: int = 0) -> Module:
        spec, source = FAKES[index], Source(path, wasm, None)
        return self.loader.load(spec.name, lambda: self.pool.connection(spec), source, Fresh(self._note))


def numbered(number: int) -> bytes:
    return fake_engine.module({f"f{number}": function(" -> ", [["return"]])})


def test_each_module_is_compiled_once_also_from_two_paths(pool: EnginePool) -> None:
    loading = Loads(pool)
    first = loading.load(numbered(1), "a.wasm")
    again, copy = (loading.load(bytes(bytearray(numbered(1))), path) for path in ("a.wasm", "b/copy.wasm"))
    assert again is first
    assert loading.compiled == ["fake-a"]
    assert (first.path, copy.path) == ("a.wasm", "b/copy.wasm")
    assert copy.instantiate().module.digest == first.digest


def test_and_once_per_backend(pool: EnginePool) -> None:
    loading = Loads(pool)
    first, second = loading.load(numbered(1)), loading.load(numbered(1), index=1)
    assert (first.backend, second.backend) == ("fake-a", "fake-b")
    assert loading.load(numbered(1), index=1) is second
    assert loading.compiled == ["fake-a", "fake-b"]


def test_the_least_recently_used_go_beyond_the_limit(pool: EnginePool) -> None:
    loading = Loads(pool, limit=3)
    for number in (1, 2, 3, 1, 4):  # 2 is the oldest use when 4 comes
        loading.load(numbered(number))
    assert len(loading.compiled) == 4
    loading.load(numbered(1))
    loading.load(numbered(3))
    loading.load(numbered(4))
    assert len(loading.compiled) == 4
    loading.load(numbered(2))
    assert len(loading.compiled) == 5


def test_what_goes_is_released(pool: EnginePool) -> None:
    loading = Loads(pool, limit=2)
    seen = weakref.ref(loading.load(numbered(1)))
    loading.load(numbered(2))
    assert seen() is not None
    loading.load(numbered(3))
    gc.collect()
    assert seen() is None


def test_a_module_that_goes_stays_usable_for_who_holds_it(pool: EnginePool) -> None:
    loading = Loads(pool, limit=1)
    module = loading.load(fake_engine.module({"add": function("i32 i32 -> i32", ["sum"])}))
    loading.load(numbered(2))
    assert module.instantiate().exports.add(1, 2) == 3


def test_a_refused_module_is_asked_for_again(pool: EnginePool) -> None:
    loading = Loads(pool)
    wasm = fake_engine.module(refuse={"fake-a": ("compile", "not today")})
    for _ in range(2):
        with pytest.raises(CompileError, match="not today"):
            loading.load(wasm)
    assert loading.load(wasm, index=1).backend == "fake-b"
    assert loading.compiled == ["fake-b"]


def test_wat_is_converted_once_for_all_backends(pool: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = Loads(pool)
    converted: list[str] = []

    def connect(index: int) -> Callable[[], Connection]:
        connection = pool.connection(FAKES[index])

        def convert(wat: str, about: str) -> bytes:
            converted.append(wat)
            return numbered(len(converted))

        monkeypatch.setattr(connection, "convert", convert)
        return lambda: connection

    modules = [
        loading.loader.load(FAKES[index].name, connect(index), Source(path, None, "(module)"), FRESH)
        for index, path in ((0, "a.wat"), (1, "a.wat"), (2, "b.wat"), (0, "c.wat"))
    ]
    assert converted == ["(module)"]
    assert {module.wasm for module in modules} == {numbered(1)}
    assert modules[3].path == "c.wat"


def test_all_compilers_get_the_same_bytes(native: Connection, pool: EnginePool) -> None:
    source = Source("m.wat", None, '(module (func (export "f")))')
    module = Loader().load(native.backend, lambda: native, source, FRESH)
    assert module.wasm == bytes.fromhex("0061736d01000000 010401600000 03020100 07050101660000 0a040102000b")
