"""Where modules come from, and what is said of files that are none: the full text of every message."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.wasm import binary
from pytest_wasmer.wasm.errors import SourceError
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source, read, wat_error
from tests import fake_engine
from tests.wasm.workbench import FRESH

if TYPE_CHECKING:
    from pytest_wasmer.runtime.connection import Connection

EMPTY_MODULE = b"\0asm\1\0\0\0"
SMALL = bytes.fromhex("0061736d01000000 0105016000017f 03020100 0a06010400412a0b")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with tests/unit/, from which is asked."""
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    return tmp_path


def asked(root: Path, source: Any) -> Source:
    return read(source, root / "tests" / "unit", root)


def refusal(root: Path, source: Any) -> str:
    with pytest.raises(SourceError) as refused:
        asked(root, source)
    return str(refused.value)


def content_refusal(root: Path, content: bytes, name: str = "app.wasm") -> str:
    (root / name).write_bytes(content)
    return refusal(root, name)


# What is found


def test_bytes_and_text(root: Path) -> None:
    for content in (EMPTY_MODULE, bytearray(EMPTY_MODULE), memoryview(EMPTY_MODULE)):
        assert asked(root, content) == Source("<bytes>", EMPTY_MODULE, None)
    for wat in ("(module)", "\n  (module)", ";; comment\n(module)", "(; block ;) (module)"):
        assert asked(root, wat) == Source("<WAT text>", None, wat)


@pytest.mark.parametrize("folder", ["tests/unit", "tests", "."])
def test_paths_are_looked_up_from_the_asking_file_then_upwards(root: Path, folder: str) -> None:
    (root / folder / "app.wasm").write_bytes(EMPTY_MODULE)
    for source in ("app.wasm", Path("app.wasm")):
        assert asked(root, source) == Source(str(Path(folder) / "app.wasm"), EMPTY_MODULE, None)


def test_the_nearest_one_wins(root: Path) -> None:
    (root / "app.wat").write_text("(module $far)")
    (root / "tests" / "app.wat").write_text("(module $near)")
    assert asked(root, "app.wat") == Source("tests/app.wat", None, "(module $near)")


def test_subdirectories_and_absolute_paths(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (root / "modules").mkdir()
    (root / "modules" / "app.wasm").write_bytes(SMALL)
    assert asked(root, "modules/app.wasm").name == "modules/app.wasm"
    assert asked(root, root / "modules" / "app.wasm").name == "modules/app.wasm"
    outside = tmp_path_factory.mktemp("outside") / "app.wasm"
    outside.write_bytes(SMALL)
    assert asked(root, outside) == Source(str(outside), SMALL, None)
    assert read(str(outside), root, root).wasm == SMALL


def test_a_file_outside_the_rootdir_looks_beside_itself_only(root: Path) -> None:
    (root / "app.wasm").write_bytes(SMALL)
    with pytest.raises(SourceError, match=r"not found; looked at\n    .*/tests/app\.wasm\n"):
        read("app.wasm", root / "tests", root / "elsewhere")


def test_wat_files_by_any_case_and_wasm_by_its_magic(root: Path) -> None:
    (root / "upper.WAT").write_text("(module)")
    assert asked(root, "upper.WAT") == Source("upper.WAT", None, "(module)")
    (root / "really.wat").write_bytes(SMALL)
    assert asked(root, "really.wat") == Source("really.wat", SMALL, None)
    (root / "no-suffix").write_bytes(SMALL)
    assert asked(root, "no-suffix").wasm == SMALL


def test_a_pipe_is_no_file(root: Path) -> None:
    os.mkfifo(root / "pipe.wasm")
    assert refusal(root, "pipe.wasm").startswith("module 'pipe.wasm' not found; looked at\n")


@pytest.mark.parametrize("source", [None, 5, 1.5, ["app.wasm"], object], ids=["none", "int", "float", "list", "type"])
def test_other_things_are_no_sources(root: Path, source: Any) -> None:
    with pytest.raises(TypeError) as refused:
        asked(root, source)
    assert str(refused.value) == f"a source is a path, bytes, or WAT text, not {type(source).__name__}"


# What is not found


def test_a_missing_file_lists_where_it_looked(root: Path) -> None:
    assert refusal(root, "app.wasm") == (
        "module 'app.wasm' not found; looked at\n"
        f"    {root}/tests/unit/app.wasm\n"
        f"    {root}/tests/app.wasm\n"
        f"    {root}/app.wasm\n"
        "Paths are relative to the file that asks, then to its parents up to pytest's rootdir."
    )


def test_a_missing_absolute_path(root: Path) -> None:
    assert refusal(root, root / "nope.wasm") == (
        f"module '{root}/nope.wasm' not found; looked at\n"
        f"    {root}/nope.wasm\n"
        "Paths are relative to the file that asks, then to its parents up to pytest's rootdir."
    )


def test_a_directory(root: Path) -> None:
    (root / "tests" / "app.wasm").mkdir()
    assert refusal(root, "app.wasm") == (
        "module 'app.wasm' is a directory; looked at\n"
        f"    {root}/tests/unit/app.wasm\n"
        f"    {root}/tests/app.wasm\n"
        f"    {root}/app.wasm\n"
        "Paths are relative to the file that asks, then to its parents up to pytest's rootdir."
    )
    (root / "app.wasm").write_bytes(SMALL)
    assert asked(root, "app.wasm").name == "app.wasm", "a file further up is what was meant"


def test_text_that_is_neither_a_path_nor_wat(root: Path) -> None:
    """As of a generator that forgot the parenthesis: no path is that long."""
    text = "module\n" + "  (func)\n" * 1000
    assert refusal(root, text).startswith("module 'module\\n  (func)\\n")
    assert refusal(root, "a\0b.wasm").startswith("module 'a\\x00b.wasm' not found; looked at\n")
    assert refusal(root, "").startswith("module '.' is a directory; looked at\n")


def test_a_file_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "app.wasm").write_bytes(SMALL)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(root, "app.wasm") == "module app.wasm cannot be read: Permission denied"


# What is no module


def test_an_empty_file(root: Path) -> None:
    assert content_refusal(root, b"") == "app.wasm is empty (0 bytes)\nBuild the module again."
    with pytest.raises(SourceError) as refused:
        asked(root, b"")
    assert str(refused.value) == "<bytes> is empty (0 bytes)\nBuild the module again."


@pytest.mark.parametrize(
    ("content", "begins", "remedy"),
    [
        (
            b"  (module)",
            "20 20 28 6d 6f 64 75 6c",
            "This looks like WAT text: name the file .wat, or pass the text as a str.",
        ),
        (
            b";; WAT",
            "3b 3b 20 57 41 54",
            "This looks like WAT text: name the file .wat, or pass the text as a str.",
        ),
        (
            b"\x7fELF\2\1\1\0\0\0",
            "7f 45 4c 46 02 01 01 00",
            "This is a native ELF file: build for a wasm32 target.",
        ),
        (
            b"import { readFile } from 'fs'",
            "69 6d 70 6f 72 74 20 7b",
            "Pass a .wasm or .wat file, the module's bytes, or WAT text.",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 7\n",
            "76 65 72 73 69 6f 6e 20",
            "Pass a .wasm or .wat file, the module's bytes, or WAT text.",
        ),
        (b"\0ASM\1\0\0\0", "00 41 53 4d 01 00 00 00", "Pass a .wasm or .wat file, the module's bytes, or WAT text."),
        (b"x", "78", "Pass a .wasm or .wat file, the module's bytes, or WAT text."),
    ],
    ids=["wat", "wat-comment", "elf", "js", "lfs", "magic", "one-byte"],
)
def test_what_is_not_wasm(root: Path, content: bytes, begins: str, remedy: str) -> None:
    assert content_refusal(root, content) == (
        f"app.wasm is not Wasm: it begins with {begins}, a module with 00 61 73 6d\n{remedy}"
    )


@pytest.mark.parametrize("length", range(1, 8))
def test_a_header_cut_off(root: Path, length: int) -> None:
    assert content_refusal(root, SMALL[:length]) == (
        f"app.wasm is cut off: {length} bytes of the 8-byte header\nBuild or copy it again."
    )


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (9, "app.wasm is cut off or damaged: no section size at offset 9"),
        (10, "app.wasm is cut off or damaged: the type section at offset 8 claims 5 bytes, 0 are left"),
        (14, "app.wasm is cut off or damaged: the type section at offset 8 claims 5 bytes, 4 are left"),
        (18, "app.wasm is cut off or damaged: the function section at offset 15 claims 2 bytes, 1 are left"),
        (26, "app.wasm is cut off or damaged: the code section at offset 19 claims 6 bytes, 5 are left"),
    ],
)
def test_a_section_cut_off(root: Path, length: int, message: str) -> None:
    assert content_refusal(root, SMALL[:length]) == f"{message}\nBuild or copy it again."


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("ff 05", "the unknown section at offset 8 claims 5 bytes, 0 are left"),
        ("0d 05 00", "the tag section at offset 8 claims 5 bytes, 1 are left"),
        ("01 80", "no section size at offset 9"),
        ("01 ff ff ff ff ff ff 00", "no section size at offset 9"),
        ("01 ff ff ff ff 0f", "the type section at offset 8 claims 4294967295 bytes, 0 are left"),
    ],
    ids=["unknown", "tag", "leb-cut", "leb-long", "4GiB"],
)
def test_damaged_section_headers(root: Path, tail: str, message: str) -> None:
    assert content_refusal(root, EMPTY_MODULE + bytes.fromhex(tail)) == (
        f"app.wasm is cut off or damaged: {message}\nBuild or copy it again."
    )


def test_a_component(root: Path) -> None:
    assert content_refusal(root, b"\0asm\x0d\0\1\0\0\0") == (
        "app.wasm is a component, not a core module: Wasmer's compilers take core modules\n"
        "Take the core module out of it: wasm-tools component unbundle app.wasm"
    )


def test_another_version(root: Path) -> None:
    assert content_refusal(root, b"\0asm\2\0\0\0") == (
        "app.wasm has binary version 02 00 00 00, expected 01 00 00 00\n"
        "Build it for WebAssembly 1.0 as a core module: clang --target=wasm32, cargo build --target "
        "wasm32-unknown-unknown"
    )


def test_every_prefix_of_a_module_is_refused_or_ends_between_sections() -> None:
    whole = [8, *(section.end for section in binary.sections(SMALL, "small"))]
    for length in range(len(SMALL)):
        if length in whole:
            binary.check(SMALL[:length], "cut")
        else:
            with pytest.raises(SourceError, match=r"^cut is (empty|cut off)"):
                binary.check(SMALL[:length], "cut")


# WAT


def test_an_empty_wat_file(root: Path) -> None:
    for content in (b"", b" \n\t\n"):
        assert content_refusal(root, content, "app.wat") == ("app.wat is empty\nThe smallest module is: (module)")


def test_a_wat_file_that_is_not_utf8(root: Path) -> None:
    assert content_refusal(root, b"(module) ;; caf\xe9", "app.wat") == (
        "app.wat is not UTF-8 text: byte 0xe9 at offset 15"
    )


@pytest.mark.parametrize(
    ("wat", "message"),
    [
        (
            "(module\n  (func (result i32)\n    i32.cons 1))\n",
            "app.wat:3:5: unknown operator or unexpected token\n        i32.cons 1))\n        ^",
        ),
        ("(module", "app.wat:1:8: expected `)`\n    (module\n           ^"),
        ("(modul)", "app.wat:1:2: expected valid module field\n    (modul)\n     ^"),
        (
            "(module (func $a call $b))",
            "app.wat:1:23: failed to find func named `$b`\n    (module (func $a call $b))\n                          ^",
        ),
        (
            '(module (func (export "é") i32.foo))',
            "app.wat:1:28: unknown operator or unexpected token\n"
            '    (module (func (export "é") i32.foo))\n'
            "                               ^",
        ),
        (
            "(module\r\n\t(func i32.foo))",
            "app.wat:2:8: unknown operator or unexpected token\n    \t(func i32.foo))\n    \t      ^",
        ),
        (
            "(module) (module)",
            "app.wat:1:10: extra tokens remaining after parse\n    (module) (module)\n             ^",
        ),
    ],
    ids=["operator", "parenthesis", "field", "name", "not-ascii", "tab", "two"],
)
def test_wat_errors_point_at_the_place(native: Connection, wat: str, message: str) -> None:
    with pytest.raises(SourceError) as refused:
        Loader().load(native.backend, lambda: native, Source("app.wat", None, wat), FRESH)
    assert str(refused.value) == message


def test_the_end_of_the_text_has_a_place_too() -> None:
    error = wat_error("app.wat", "(module\n", "expected `)`\n     --> <anon>:2:1\n      |")
    assert str(error) == "app.wat:2:1: expected `)`\n    \n    ^"


def test_a_message_of_the_converter_without_a_place() -> None:
    assert str(wat_error("app.wat", "(module)", "something else")) == "app.wat: something else"
    assert str(wat_error("app.wat", "(module)", "")) == "app.wat: not WAT"


def test_what_is_checked_is_not_more_than_the_outer_layer(root: Path) -> None:
    wasm = fake_engine.module()
    assert asked(root, wasm).wasm == wasm
    assert list(binary.custom_sections(wasm, "fake")) == ["fake"]
