"""Artifacts as files: what is saved is loaded, and what cannot run here is refused with its reason."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.artifacts.key import Parts, parts_of
from pytest_wasmer.engines.registry import Registry
from pytest_wasmer.runtime.errors import EngineLost, WasmError
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm import artifact
from pytest_wasmer.wasm.artifact import kind_in, kind_of, read, save, sidecar
from pytest_wasmer.wasm.errors import ArtifactError, CompileError
from pytest_wasmer.wasm.module import module_of
from tests import fake_engine
from tests.artifacts.workbench import System, failing
from tests.conftest import needs_wheels
from tests.wasm.workbench import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.runtime.connection import Connection

HERE = Parts(
    schema="1",
    module="",
    engine="wheels",
    version="wasmer 1.1.0",
    library="cd" * 32,
    compiler="llvm",
    kind="universal",
    features="sse2 avx",
    target="x86_64-linux",
    configuration="default",
    extra="{}",
)
PARTS = HERE._replace(module="ab" * 32)
ADD = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
UNIVERSAL = b"\0wasmer-universal" + bytes(range(100))
DYLIB = b"\x7fELF" + bytes(100)
TRUST = "load_artifact(path, trusted=True)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.wasmu"


@pytest.fixture
def saved(path: Path) -> Path:
    save(path, UNIVERSAL, PARTS)
    return path


def refusal(path: Path, here: Parts = HERE, *, trusted: bool = False) -> str:
    with pytest.raises(ArtifactError) as refused:
        read(path, here, trusted=trusted, how_to_trust=TRUST)
    return str(refused.value)


def describe(path: Path, **others: Any) -> None:
    """Change what the sidecar says; None takes an entry away."""
    content = {**json.loads(sidecar(path).read_text()), **others}
    sidecar(path).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


# Whole files


@pytest.mark.parametrize("trusted", [True, False])
def test_what_was_saved_is_read(saved: Path, trusted: bool) -> None:
    assert read(saved, HERE, trusted=trusted, how_to_trust=TRUST) == (UNIVERSAL, PARTS)
    assert saved.read_bytes() == UNIVERSAL
    assert sorted(os.listdir(saved.parent)) == ["m.wasmu", "m.wasmu.json"]


def test_the_sidecar_is_pinned(saved: Path) -> None:
    assert json.loads(sidecar(saved).read_text()) == {
        "pytest-wasmer artifact": 1,
        "sha256": hashlib.sha256(UNIVERSAL).hexdigest(),
        "parts": {
            "schema": "1",
            "module": "ab" * 32,
            "engine": "wheels",
            "version": "wasmer 1.1.0",
            "library": "cd" * 32,
            "compiler": "llvm",
            "kind": "universal",
            "features": "sse2 avx",
            "target": "x86_64-linux",
            "configuration": "default",
            "extra": "{}",
        },
    }


def test_a_file_is_replaced(saved: Path) -> None:
    save(saved, UNIVERSAL + b"2", PARTS._replace(module="2"))
    assert read(saved, HERE, trusted=False, how_to_trust=TRUST) == (UNIVERSAL + b"2", PARTS._replace(module="2"))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_save_that_fails_leaves_what_was(saved: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(artifact, "os", System(**{call: failing(errno.ENOSPC)}))
        with pytest.raises(OSError, match="No space"):
            save(saved, b"other", PARTS)
    assert read(saved, HERE, trusted=False, how_to_trust=TRUST) == (UNIVERSAL, PARTS)
    assert sorted(os.listdir(saved.parent)) == ["m.wasmu", "m.wasmu.json"]


def test_a_save_into_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "no" / "m.wasmu", UNIVERSAL, PARTS)


def test_a_save_that_ends_between_its_files_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[Path] = []

    def replace(source: str, target: Path) -> None:
        if replaced:
            raise KeyboardInterrupt
        replaced.append(target)
        os.replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(artifact, "os", System(replace=replace))
        with pytest.raises(KeyboardInterrupt):
            save(saved, UNIVERSAL + b"2", PARTS)
    assert replaced == [saved]
    assert "is not the file that m.wasmu.json describes" in refusal(saved)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (UNIVERSAL, "universal"),
        (DYLIB, "dylib"),
        (b"\xcf\xfa\xed\xfe" + bytes(10), "dylib"),
        (b"MZ" + bytes(10), "dylib"),
        (b"\0wasmer-univ", None),
        (b"\0asm\1\0\0\0", None),
        (b"", None),
    ],
    ids=["universal", "elf", "mach-o", "pe", "cut", "wasm", "empty"],
)
def test_kinds_are_told_apart(path: Path, content: bytes, kind: str | None) -> None:
    path.write_bytes(content)
    assert kind_of(content) == kind_in(path) == kind


def test_the_kind_of_no_file(path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"^artifact {path} cannot be read: No such file or directory$"):
        kind_in(path)


# Without a sidecar


def test_a_file_without_sidecar_has_to_be_trusted(saved: Path) -> None:
    sidecar(saved).unlink()
    assert refusal(saved) == (
        f"{saved} has no m.wasmu.json that says what it is: nobody can tell whether it may run here\n"
        "If you know where it comes from: load_artifact(path, trusted=True)"
    )
    assert read(saved, HERE, trusted=True, how_to_trust=TRUST) == (UNIVERSAL, None)


# Files that are refused, trusted or not


def cut_off(path: Path) -> None:
    os.truncate(path, len(UNIVERSAL) - 1)


def flip(path: Path) -> None:
    path.write_bytes(UNIVERSAL[:-1] + b"?")


def lengthen(path: Path) -> None:
    path.write_bytes(UNIVERSAL + b"\0")


def exchange(path: Path) -> None:
    """By another artifact, which came without its sidecar."""
    other = path.with_name("other.wasmu")
    save(other, UNIVERSAL[::-1][:50] + UNIVERSAL, PARTS)
    save(other, UNIVERSAL + UNIVERSAL, PARTS)
    other.replace(path)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("harm", [cut_off, flip, lengthen, exchange])
def test_a_file_that_its_sidecar_does_not_describe(saved: Path, harm: Callable[[Path], None], trusted: bool) -> None:
    harm(saved)
    assert refusal(saved, trusted=trusted) == (
        f"{saved} is not the file that m.wasmu.json describes: it was changed or cut off\nSave it again."
    )


MACHINE = "Compile its module here: pytest-wasmer compile"


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"version": "wasmer 2.0"}, "is for wheels wasmer 2.0, here is wheels wasmer 1.1.0"),
        ({"engine": "libwasmer"}, "is for libwasmer wasmer 1.1.0, here is wheels wasmer 1.1.0"),
        ({"compiler": "cranelift"}, "is for cranelift, here is llvm"),
        ({"target": "aarch64-linux"}, "is for aarch64-linux, here is x86_64-linux"),
        ({"features": "sse2 avx avx2"}, "is for a processor with avx2, here is one without"),
        (
            {"features": "sse2 bmi1 avx avx2 avx512f"},
            "is for a processor with bmi1 avx2 avx512f, here is one without",
        ),
        (
            {"version": "wasmer 2.0", "compiler": "x", "target": "y"},
            "is for wheels wasmer 2.0, here is wheels wasmer 1.1.0",
        ),
    ],
    ids=["version", "engine", "compiler", "target", "feature", "features", "first-only"],
)
def test_a_file_for_somewhere_else(path: Path, changed: dict[str, str], told: str, trusted: bool) -> None:
    save(path, UNIVERSAL, PARTS._replace(**changed))
    assert refusal(path, trusted=trusted) == f"{path} {told}\n{MACHINE}"


@pytest.mark.parametrize(
    "changed",
    [
        {"features": "sse2"},
        {"features": ""},
        {"features": "avx sse2"},
        {"library": "x"},
        {"module": ""},
        {"extra": "x"},
    ],
    ids=["fewer", "none", "order", "library", "module", "extra"],
)
def test_what_does_not_keep_a_file_from_running(path: Path, changed: dict[str, str]) -> None:
    save(path, UNIVERSAL, PARTS._replace(**changed))
    assert read(path, HERE, trusted=False, how_to_trust=TRUST) == (UNIVERSAL, PARTS._replace(**changed))


def test_without_a_compiler_any_will_do(path: Path) -> None:
    """Headless."""
    save(path, UNIVERSAL, PARTS._replace(compiler="cranelift"))
    here = HERE._replace(compiler="")
    assert read(path, here, trusted=False, how_to_trust=TRUST)[0] == UNIVERSAL
    save(path, UNIVERSAL, PARTS._replace(version="wasmer 2.0"))
    assert refusal(path, here).startswith(f"{path} is for wheels wasmer 2.0, here is")


@pytest.mark.parametrize("described", [True, False])
def test_a_file_of_the_other_kind(path: Path, described: bool) -> None:
    save(path, DYLIB, PARTS._replace(kind="dylib"))
    if not described:
        sidecar(path).unlink()
    assert refusal(path, trusted=True) == (
        f"{path} is a dylib artifact; llvm here loads universal ones\n"
        "Load it with a backend for its kind: one with -dylib"
    )
    save(path, UNIVERSAL, PARTS)
    if not described:
        sidecar(path).unlink()
    assert refusal(path, HERE._replace(kind="dylib"), trusted=True) == (
        f"{path} is a universal artifact; llvm here loads dylib ones\n"
        "Load it with a backend for its kind: one without -dylib"
    )
    assert refusal(path, HERE._replace(kind="dylib", compiler=""), trusted=True).startswith(
        f"{path} is a universal artifact; this engine here loads dylib ones\n"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no artifact: it is empty"),
        (
            b"\0asm\1\0\0\0",
            "is no artifact but a Wasm module\nCompile it: pytest-wasmer compile {path} --backend llvm -o OUT",
        ),
        (b"#!/bin/sh\n", "is no artifact: it begins with 23 21 2f 62 69 6e 2f 73"),
        (b"x", "is no artifact: it begins with 78"),
        (UNIVERSAL[:10], "is no artifact: it begins with 00 77 61 73 6d 65 72 2d"),
    ],
    ids=["empty", "wasm", "script", "byte", "cut-off"],
)
def test_what_is_no_artifact(path: Path, content: bytes, told: str) -> None:
    path.write_bytes(content)
    assert refusal(path, trusted=True) == f"{path} {told.format(path=path)}"


def test_what_is_no_file(path: Path, tmp_path: Path) -> None:
    assert refusal(path, trusted=True) == f"artifact {path} cannot be read: No such file or directory"
    assert refusal(tmp_path, trusted=True) == f"artifact {tmp_path} cannot be read: Is a directory"


# Sidecars that are refused


@pytest.mark.parametrize("more", [{}, {"sha256": None, "parts": None, "layers": []}], ids=["same", "other"])
def test_a_sidecar_of_a_newer_format(saved: Path, more: dict[str, Any]) -> None:
    describe(saved, **{"pytest-wasmer artifact": 2, **more})
    assert refusal(saved, trusted=True) == (
        f"{saved}.json has format 2; this pytest-wasmer reads 1\nInstall a newer one."
    )


def without(name: str) -> str:
    parts = PARTS._asdict()
    del parts[name]
    return json.dumps({"pytest-wasmer artifact": 1, "sha256": "", "parts": parts})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("{}", "'pytest-wasmer artifact'"),
        ('{"pytest-wasmer artifact": 1}', "'sha256'"),
        ('{"pytest-wasmer artifact": 1, "sha256": ""}', "'parts'"),
        ("[]", "list indices must be integers or slices, not str"),
        ("null", "'NoneType' object is not subscriptable"),
        ("7", "'int' object is not subscriptable"),
        ('{"pytest-wasmer artifact": 1, "sha256": "", "parts": []}', "'list' object has no attribute 'items'"),
        ('{"pytest-wasmer artifact": 1, "sha256": "", "parts": {}}', ""),
        ('{"pytest-wasmer artifact": 1, "sha256": "", "parts": {"colour": "red"}}', ""),
        (without("kind"), ""),
        ("[" * 100_000, ""),
    ],
    ids=[
        *("empty", "cut-off", "no-format", "no-digest", "no-parts", "list", "null", "number", "parts-list"),
        *("parts-empty", "parts-others", "part-missing", "deep"),
    ],
)
def test_a_sidecar_that_is_none(saved: Path, content: str, told: str) -> None:
    sidecar(saved).write_text(content)
    message = refusal(saved, trusted=True)
    assert message.startswith(f"{saved}.json is not what pytest-wasmer wrote: {told}")
    assert message.endswith("\nSave the artifact again.")
    assert not told or message == f"{saved}.json is not what pytest-wasmer wrote: {told}\nSave the artifact again."


def test_a_sidecar_that_is_no_text(saved: Path) -> None:
    sidecar(saved).write_bytes(b"\xff\xfe\xfd")
    assert refusal(saved).startswith(f"{saved}.json is not what pytest-wasmer wrote: ")


def test_a_sidecar_that_is_no_file(saved: Path) -> None:
    sidecar(saved).unlink()
    sidecar(saved).mkdir()
    assert refusal(saved, trusted=True) == f"{saved}.json cannot be read: Is a directory"


def test_no_flipped_byte_of_an_artifact_is_taken(saved: Path) -> None:
    for offset in range(len(UNIVERSAL)):
        content = bytearray(UNIVERSAL)
        content[offset] ^= 1 << offset % 8
        saved.write_bytes(content)
        refusal(saved, trusted=True)


# Modules


@pytest.fixture
def engines(cache: Path) -> Iterator[EnginePool]:
    """Engine processes that a test may lose."""
    pool = EnginePool("process", cache)
    yield pool
    pool.close()


def test_a_module_without_parts_is_not_saved(fake: Connection, path: Path) -> None:
    with pytest.raises(WasmError, match=r"^nobody can say where the artifact of m\.wat may run: use serialize\(\)$"):
        load(fake, fake_engine.module()).save(path)
    assert not path.exists()


@needs_wheels
def test_a_module_of_an_artifact_comes_back_after_its_engine_was_lost(
    compiler: str, engines: EnginePool, cache: Path
) -> None:
    registry = Registry([], cache)
    spec = registry.spec(compiler)
    content = load(engines.connection(spec), ADD).serialize()
    connections: list[Any] = []

    def connect() -> Any:
        connections.append(engines.connection(spec))
        return connections[-1]

    module = module_of(content, parts_of(registry.availability(compiler), {}), connect, "m.wasmu")
    assert module.instantiate().exports.add(1, 2) == 3
    connections[0].kill()
    with pytest.raises(EngineLost):
        module.instantiate()
    assert module.instantiate().exports.add(1, 2) == 3
    assert len(connections) == 2
    assert connections[1].pid != connections[0].pid


def test_an_artifact_that_the_engine_refuses(native: Connection) -> None:
    with pytest.raises(CompileError) as refused:
        module_of(b"nonsense", None, lambda: native, "m.wasmu")
    first, _, last = str(refused.value).partition("\n")
    assert first.startswith(f"{native.backend} does not load m.wasmu: ")
    assert last == "Save it again."


WAT = """
(module $adder
  (import "env" "log" (func $log (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "hello")
  (global (export "counter") (mut i64) (i64.const 7))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "say") (call $log (i32.const 42))))
"""

PROJECT = '''
import hashlib
import json

import pytest

from pytest_wasmer import Trap, TrapKind, WasmError

WAT = """{wat}"""

@pytest.fixture
def saved(wasm_module, wasm_backend, tmp_path):
    module = wasm_module(WAT)
    module.save(tmp_path / "adder.wasmu")
    return module, tmp_path / "adder.wasmu"

def test_what_it_knows(wasm_module, wasm_backend, saved):
    module, path = saved
    loaded = wasm_module.load_artifact(path)
    assert loaded is not module
    assert (loaded.name, loaded.digest, loaded.backend) == ("adder", module.digest, wasm_backend.variant)
    assert loaded.exports == module.exports
    assert list(loaded.exports) == ["memory", "counter", "add", "say"]
    assert loaded.imports == module.imports
    assert loaded.digest == hashlib.sha256(module.wasm).hexdigest()
    assert loaded.path == str(path)
    assert path.read_bytes() == module.serialize()

def test_what_it_does(wasm_module, saved):
    log = []
    instance = wasm_module.load_artifact(str(saved[1])).instantiate({{"env": {{"log": log.append}}}})
    assert instance.exports.add(20, 22) == 42
    instance.exports.say()
    assert log == [42]
    assert instance.memory.read(0, 5) == b"hello"
    instance.exports.counter.value += 1
    assert instance.exports.counter.value == 8

def test_what_it_has_not(wasm_module, saved):
    loaded = wasm_module.load_artifact(saved[1])
    for look in (lambda: loaded.wasm, lambda: loaded.custom_sections):
        with pytest.raises(WasmError, match="was loaded from an artifact, which does not hold the Wasm binary$"):
            look()

def test_it_is_saved_again(wasm_module, saved, tmp_path):
    wasm_module.load_artifact(saved[1]).save(tmp_path / "again.wasmu")
    again = tmp_path / "again.wasmu"
    assert again.read_bytes() == saved[1].read_bytes()
    assert json.loads((tmp_path / "again.wasmu.json").read_text()) == json.loads(
        (tmp_path / "adder.wasmu.json").read_text()
    )
    assert wasm_module.load_artifact(again).name == "adder"

def test_it_is_found_beside_the_test(wasm_module, saved, request):
    import shutil
    for suffix in ("", ".json"):
        shutil.copy(f"{{saved[1]}}{{suffix}}", request.path.parent / f"copied.wasmu{{suffix}}")
    assert wasm_module.load_artifact("copied.wasmu").name == "adder"

def test_it_is_trusted(wasm_module, saved):
    (saved[1].parent / "adder.wasmu.json").unlink()
    with pytest.raises(WasmError, match="If you know where it comes from: load_artifact.path, trusted=True.$"):
        wasm_module.load_artifact(saved[1])
    loaded = wasm_module.load_artifact(saved[1], trusted=True)
    assert (loaded.name, loaded.digest) == ("adder", "")

def test_it_is_for_another_compiler(wasm_module, wasm_backend, saved):
    about = saved[1].parent / "adder.wasmu.json"
    compiler = wasm_backend.partition("-")[0]
    about.write_text(about.read_text().replace(f'"compiler": "{{compiler}}"', '"compiler": "gcc"'))
    with pytest.raises(WasmError, match="adder.wasmu is for gcc, here is "):
        wasm_module.load_artifact(saved[1])

def test_it_is_damaged(wasm_module, saved):
    with saved[1].open("ab") as file:
        file.write(b"more")
    with pytest.raises(WasmError, match="adder.wasmu is not the file that adder.wasmu.json describes"):
        wasm_module.load_artifact(saved[1])

def test_traps_have_their_kind(wasm_module, wasm_backend, tmp_path):
    wasm_module('(module (func (export "f") unreachable))').save(tmp_path / "f.wasmu")
    with pytest.raises(Trap) as trapped:
        wasm_module.load_artifact(tmp_path / "f.wasmu").instantiate().exports.f()
    lost = wasm_backend in ("singlepass-dylib", "cranelift-dylib")
    assert trapped.value.kind is (TrapKind.UNKNOWN if lost else TrapKind.UNREACHABLE)

def test_it_is_missing(wasm_module):
    with pytest.raises(WasmError, match="^artifact 'no.wasmu' not found; looked at\\n"):
        wasm_module.load_artifact("no.wasmu")

def test_the_kinds_do_not_mix(wasm_module, wasm_backend, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"\\0wasmer-universal" if "dylib" in wasm_backend else b"\\x7fELF")
    with pytest.raises(WasmError, match="Load it with a backend for its kind: one with"):
        wasm_module.load_artifact(other, trusted=True)
'''
TESTS = PROJECT.count("def test_")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(PROJECT.format(wat=WAT))
    return pytester


@needs_wheels
def test_files_on_each_compiler(project: pytest.Pytester) -> None:
    project.runpytest("--wasm-backends=all").assert_outcomes(passed=3 * TESTS)


@needs_wheels
@pytest.mark.skipif(not shutil.which("gcc"), reason="the Dylib engine links with gcc")
def test_files_of_shared_objects(project: pytest.Pytester) -> None:
    names = "singlepass-dylib,cranelift-dylib,llvm-dylib"
    project.runpytest(f"--wasm-backends={names}").assert_outcomes(passed=3 * TESTS)


@needs_wheels
def test_files_of_code_that_was_never_stored(project: pytest.Pytester) -> None:
    project.runpytest("--wasm-backends=cranelift", "--wasm-cache=off", "--wasm-artifacts=both").assert_outcomes(
        passed=2 * TESTS
    )
