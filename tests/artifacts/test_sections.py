"""In which section two artifacts differ: a real one with every byte changed in turn, an ELF file made here, garbage.

`ARTIFACT` is what the cranelift wheel made of `WAT`, so that these tests need no wheels; those at the end do.
"""

from __future__ import annotations

import base64
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from pytest_wasmer.artifacts import sections
from pytest_wasmer.artifacts.sections import Part, difference, parts
from pytest_wasmer.engines import wheels
from pytest_wasmer.runtime.sigactions import Sigactions
from tests.conftest import HERE, needs_wheels_here, skip_without_wheels

WAT = """
(module $m
  (import "env" "host" (func $host (param i32) (result i32)))
  (memory (export "memory") 1 2)
  (table 2 funcref)
  (elem (i32.const 0) $add $pick)
  (global (export "global") (mut f32) (f32.const 1.5))
  (data (i32.const 4) "hello")
  (func $add (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func $pick (param i32) (result i32)
    (call $add (local.get 0) (call $host (i32.div_s (i32.const 7) (local.get 0)))))
  (func (export "half of it") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5)))
  (func))
"""

ARTIFACT = zlib.decompress(
    base64.b85decode(
        "c-qBPO=uHA6yD9oG_|!^tD=V@IjjeTdMG^>YW%?s?7@SI9)!jwwWUc@+gd9Kt)!`4w#6VSh?k;O5%gX>h(ARy;txphppZk=Dn)8hj9Rn4$$r"
        "yp(_QrDz}s*3eQ)NynK$!BI2q|p#CqyabanK{dU_*qfwhTR0quaQzZ0{nKCkL?M;@_1H8m$|x}s=$T=9qX#jyTus)8&v{qtQmB2^FqX%BS*R"
        "jGm*NY_yJOrAbNTz&a_A#7-h95zlXn^gU=`BKwA&~R0Ms7`Um<_parCk8oDQ`2(E{XL7%HMgmOu4fB@!w*Uv>rf=7X)>=OgtwifA9T>)B7L2"
        "M{toFY9rWd`)q&5^Scb0&88?srS)jdrwdw5q8wXnxIxk5Y$aZyv#7E+{+46ohupYYIBrIcl@qZ9}Colm#UgmQn$vI#HNroiMGD>ou<PgaQk_"
        "(ul)+O$%z;z_oFyAT{+Z#Z}FBYu5WGJx%MRFEnSib!<ZZ+XPLS{coauGbsdmnPakd41YG6|mLe+WE7wx`!gZi27GUErsmZbVpr6*3wX^F>Ja"
        "D(tW>Kc_1UL&knZ{);u4E`$QIS244MYaJ}jY_ZGMu+`x#rb)luL4Sqx+Z^=lj8{465mZpqql&DJD@sUjR8*rv)8Eq)Xf?Dh%^;3~3*z2ArMV"
        "g$<}$ae)QOu*eV@bqS<meRaX_xF@MpwQp6YCNHNa4fJmT54#-~uf$;J<s@#>g&&$wjG5w+RXmD#cXVH;mr#yi!4pi7<Lx*aaO2iWeyOTbYFe"
        "zH)ib+>UprV07EZlRob|6#xX_c~f|_XZGetgF8`q&?Z&hZ3;V+9UC{V6rXPK};f+NcNl(eBAf3c=9McVm|IG5{)joX7jW9Fpc^mLFaLZbrv<"
        "i;_f%Q?G^XK;}mT^+1T!m*3PB)B}vF*onL^T;AaN^Z-H6hbHw_@_7;e?{g!~fvOL+><q@ra)OB&vc24XY%j;|L?a0F)A=gW&u}#QPAL=Zxo1"
        "?%Ca11dI1KrP5@jGN~WGo&}F1KO6KEjuhw|q|kr+_m*ES&v`*nU|t<QA>{o%n5`+gqNaHS+gC5UD}m4IM`lCn1B!^$)7K*Wd"
    )
)

# As a hex dump shows them.
PARTS = [
    ("header", 0x0, 0x20),
    ("function bodies", 0x20, 0x134),
    ("function relocations", 0x134, 0x178),
    ("jump table offsets", 0x178, 0x1A8),
    ("function frame info", 0x1A8, 0x32C),
    ("call trampolines", 0x32C, 0x418),
    ("dynamic trampolines", 0x418, 0x464),
    ("custom sections", 0x464, 0x5E8),
    ("custom section relocations", 0x5E8, 0x698),
    ("module info", 0x698, 0x87C),
    ("memory styles", 0x87C, 0x890),
    ("table styles", 0x890, 0x891),
    ("data initializers", 0x891, 0x8B0),
    ("section pointers", 0x8B0, 0x8F0),
    ("debug and trampoline sections", 0x8F0, 0x908),
    ("module info pointers", 0x908, 0x914),
    ("Wasm features", 0x914, 0x920),
    ("data pointers", 0x920, 0x930),
    ("CPU features", 0x930, 0x938),
    ("root position", 0x938, 0x940),
]
NAMES = [name for name, _, _ in PARTS]


def check(artifact: bytes) -> list[Part]:
    """What holds whatever the bytes are."""
    found = parts(artifact)
    assert b"".join(artifact[start:end] for _, start, end in found) == artifact
    assert all(start < end for _, start, end in found)
    assert len({part.name for part in found}) == len(found)
    return found


def changed(artifact: bytes, *offsets: int) -> bytes:
    content = bytearray(artifact)
    for offset in offsets:
        content[offset] ^= 0x41
    return bytes(content)


def section_at(offset: int) -> str:
    return next(name for name, start, end in PARTS if start <= offset < end)


# Universal


def test_the_sections_of_an_artifact() -> None:
    assert check(ARTIFACT) == PARTS


def test_equal_artifacts_differ_nowhere() -> None:
    assert difference(ARTIFACT, bytes(bytearray(ARTIFACT))) == ""
    assert difference(b"", b"") == difference(b"x", b"x") == ""


def test_a_changed_byte_is_found_in_its_section() -> None:
    """Even where that byte makes the artifact unreadable: the other one says what it was."""
    for offset in range(0, len(ARTIFACT), 3):
        content = bytearray(ARTIFACT)
        content[offset] ^= 0x80 if offset % 2 else 0x01
        damaged = bytes(content)
        check(damaged)
        for told in (difference(ARTIFACT, damaged), difference(damaged, ARTIFACT)):
            assert told.startswith(f"{section_at(offset)} (")
            assert told.endswith(f"1 byte from offset {offset:#x})")
            assert "; " not in told


@pytest.mark.parametrize(
    ("offsets", "told"),
    [
        ([0x24], "function bodies (function 1 'add', 1 byte from offset 0x24)"),
        ([0x30, 0x31, 0x33], "function bodies (function 2 'pick', 3 bytes from offset 0x30)"),
        ([0xB9], "function bodies (function 3 'half of it', 1 byte from offset 0xb9)"),
        ([0xCA, 0xCB], "function bodies (function 4, 2 bytes from offset 0xca)"),
        (
            [0x24, 0x30, 0xCA],
            "function bodies (function 1 'add', function 2 'pick', function 4, 3 bytes from offset 0x24)",
        ),
        (
            [0x24, 0x30, 0xB9, 0xCA],
            "function bodies (function 1 'add', function 2 'pick', function 3 'half of it' and 1 more, "
            "4 bytes from offset 0x24)",
        ),
    ],
)
def test_functions_are_named(offsets: list[int], told: str) -> None:
    assert difference(ARTIFACT, changed(ARTIFACT, *offsets)) == told


def test_several_sections_are_in_file_order() -> None:
    assert difference(ARTIFACT, changed(ARTIFACT, 0x930, 0x24, 0x700, 0x701)) == (
        "function bodies (function 1 'add', 1 byte from offset 0x24); module info (2 bytes from offset 0x700); "
        "CPU features (1 byte from offset 0x930)"
    )


def test_what_follows_from_others_is_named_alone_only() -> None:
    assert difference(ARTIFACT, changed(ARTIFACT, 0x8B0)) == "section pointers (1 byte from offset 0x8b0)"
    assert difference(ARTIFACT, changed(ARTIFACT, 0x8B0, 0x938, 0x10)) == (
        "header (1 byte from offset 0x10); section pointers (1 byte from offset 0x8b0); "
        "root position (1 byte from offset 0x938)"
    )
    assert difference(ARTIFACT, changed(ARTIFACT, 0x8B0, 0x938, 0x10, 0x24)) == (
        "function bodies (function 1 'add', 1 byte from offset 0x24)"
    )


def test_what_is_behind_the_archive() -> None:
    """Wasmer ignores it."""
    longer = ARTIFACT + b"\0\0"
    assert check(longer) == [*PARTS, ("bytes after root position", 0x940, 0x942)]
    assert difference(ARTIFACT, longer) == "bytes after root position (only in the second)"
    assert difference(longer, ARTIFACT) == "bytes after root position (only in the first)"
    assert difference(longer, longer + b"\0") == "bytes after root position (2 and 3 bytes, from offset 0x942)"


def test_names_stay_on_the_line_and_are_short() -> None:
    assert sections._text(b"a\nb\xff\xe2\x80\xa8\x1b[0m") == r"a\nb\\xff\u2028\x1b[0m"
    place = ARTIFACT.index(b"half of it")
    broken = ARTIFACT[:place] + b"half\nof it" + ARTIFACT[place + 10 :]
    assert difference(broken, changed(broken, 0xB0)) == (
        r"function bodies (function 3 'half\nof it', 1 byte from offset 0xb0)"
    )


# What cannot be read


def test_a_cut_off_artifact_is_unknown_from_the_archive_on() -> None:
    for size in range(len(ARTIFACT)):
        cut = ARTIFACT[:size]
        found = check(cut)
        if size < 22:
            assert found == [("unknown part", 0, size)][: size != 0]
            assert difference(ARTIFACT, cut) == f"the whole artifact (2368 and {size} bytes)"
            continue
        assert found == [("header", 0, min(size, 32)), ("unknown part", 32, size)][: 1 + (size > 32)]
        assert difference(ARTIFACT, cut) != ""
    assert difference(ARTIFACT, ARTIFACT[:1000]) == "unknown part (2336 and 968 bytes, from offset 0x3e8)"


def test_nothing_raises_on_garbage() -> None:
    randomness = random.Random(1)
    for number in range(900):
        content = bytearray(ELF if number % 3 == 0 else ARTIFACT)
        lowest = 0 if number % 2 else max(0, len(content) - 700)
        for _ in range(randomness.choice([1, 2, 8, 300])):
            content[randomness.randrange(lowest, len(content))] = randomness.choice([0, 1, 127, 128, 255])
        damaged = bytes(content[: randomness.choice([len(content), len(content) - 9])])
        check(damaged)
        for first, second in ((ARTIFACT, damaged), (damaged, ELF), (damaged, damaged[::-1])):
            told = difference(first, second)
            assert told == "" if first == second else told.isprintable()
            assert bool(told) is (first != second)


@pytest.mark.parametrize("magic", [sections.MAGIC, sections.ELF_MAGIC, b""], ids=["universal", "elf", "none"])
def test_nothing_raises_on_noise(magic: bytes) -> None:
    randomness = random.Random(2)
    for size in range(300):
        noise = magic + randomness.randbytes(size)
        check(noise)
        assert difference(noise, noise + b"\0").isprintable()
    assert difference(b"garbage", b"carbage") == "unknown part (1 byte from offset 0x0)"


def test_artifacts_of_two_kinds() -> None:
    assert difference(ARTIFACT, ELF) == f"the whole artifact (2368 and {len(ELF)} bytes)"
    assert difference(ELF, b"") == f"the whole artifact ({len(ELF)} and 0 bytes)"


def test_names_that_point_in_circles_end() -> None:
    """The map of function names, and a node that is its own next."""
    tree = struct.pack("<Ii", 1000, -16) + bytes(40)
    for pointer, entries in [(0, 0), (-4, 0), (-11, 0), (4, 0), (-4, 0x8001), (0, 0x8000)]:
        data = bytes(36) + struct.pack("<IiHxx", 0, pointer, entries) + tree
        assert list(sections._named(data, 48)) == []


# Dylib


def elf(text: bytes = b"\x90" * 16, prefix: bytes = b"wasmer_function__") -> bytes:
    """A shared object with two functions in .text, a gap of 4 bytes after it, and .bss, which takes no bytes."""
    strings = b"\0" + prefix + b"0\0" + prefix + b"1\0"
    symbols = bytes(24)
    for name, kind, home, address, size in [(1, 0x12, 1, 0x1000, 4), (len(prefix) + 3, 2, 1, 0x1004, len(text) - 4)]:
        symbols += struct.pack("<IBBHQQ", name, kind, 0, home, address, size)
    symbols += struct.pack("<IBBHQQ", 1, 4, 0, 0xFFF1, 0, 0)  # a file's name, of no section
    names = b"\0.text\0.bss\0.symtab\0.strtab\0.shstrtab\0"
    contents = [b"", text + b"pad!", b"", symbols, strings, names]
    kinds = [("", 0), (".text", 1), (".bss", 8), (".symtab", 2), (".strtab", 3), (".shstrtab", 3)]
    headers, at = b"", 64 + 56
    for (name, kind), content in zip(kinds, contents, strict=True):
        start = names.index(name.encode() + b"\0")
        size = 4096 if kind == 8 else len(content) - 4 * (name == ".text")
        headers += struct.pack(
            "<IIQQQQIIQQ", start, kind, 0, 0x1000 if kind else 0, at, size, 4 if kind == 2 else 0, 0, 1, 0
        )
        at += len(content)
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, at, 0, 64, 56, 1, 64, 6, 5
    )
    return head + bytes(56) + b"".join(contents) + headers


ELF = elf()


def test_the_sections_of_a_shared_object() -> None:
    assert check(ELF) == [
        ("ELF header", 0, 64),
        ("program headers", 64, 120),
        (".text", 120, 136),
        ("bytes after .text", 136, 140),
        (".symtab", 140, 236),
        (".strtab", 236, 275),
        (".shstrtab", 275, 313),
        ("section headers", 313, 697),
    ]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (changed(ELF, 121, 123), ".text (wasmer_function__0, 2 bytes from offset 0x79)"),
        (changed(ELF, 124), ".text (wasmer_function__1, 1 byte from offset 0x7c)"),
        (changed(ELF, 137), "bytes after .text (1 byte from offset 0x89)"),
        (changed(ELF, 4), "ELF header (1 byte from offset 0x4)"),
        (elf(prefix=b"wasmer_function_x"), ".strtab (2 bytes from offset 0xfd)"),
        (
            elf(text=b"\x90" * 15 + b"ab"),
            ".text (wasmer_function__1, 16 and 17 bytes, from offset 0x87); .symtab (1 byte from offset 0xcc)",
        ),
    ],
    ids=["function", "other-function", "gap", "header", "strings", "longer"],
)
def test_differences_of_shared_objects(other: bytes, told: str) -> None:
    check(other)
    assert difference(ELF, other) == told


def test_a_changed_byte_of_a_shared_object_is_found_in_its_section() -> None:
    for offset in range(len(ELF)):
        damaged = changed(ELF, offset)
        check(damaged)
        expected = next(name for name, start, end in parts(ELF) if start <= offset < end)
        told = difference(ELF, damaged)
        assert told.startswith(f"{expected} (")
        assert told.endswith(f"1 byte from offset {offset:#x})")


def test_sections_of_one_name_are_told_apart() -> None:
    twice = ELF.replace(b".strtab\0.shstrtab", b".symtab\0.shstrtab")
    assert [part.name for part in check(twice)][4:6] == [".symtab", ".symtab #2"]


@pytest.mark.parametrize("place", [4, 5], ids=["32-bit", "big-endian"])
def test_other_shared_objects_are_unknown(place: int) -> None:
    assert check(ELF[:place] + b"\3" + ELF[place + 1 :]) == [("unknown part", 0, len(ELF))]


# What the wheels make


@pytest.fixture
def engine(compiler: str) -> Any:
    """In this process: compiling crashes nothing."""
    skip_without_wheels("none")
    return Sigactions.around(lambda: wheels.WheelsEngine(compiler))


def compiled(engine: Any, wat: str) -> bytes:
    return bytes(engine.serialize(engine.compile(wheels.wat_to_wasm(wat))))


# Singlepass saves the registers that are in use around calls in the order of a randomly seeded set.
BUSY = "(func (param i32) (result i32) {} (call 0 (local.get 0)) {})".format(
    " ".join(f"(i32.load offset={4 * number} (local.get 0))" for number in range(7)), "i32.add " * 7
)
MODULES = {
    "empty": "(module)",
    "all": WAT,
    "busy": f'(module (memory 1) (func (param i32) (result i32) (local.get 0)) {BUSY * 8} (export "f" (func 3)))',
    "passive": '(module (memory 1) (table 1 funcref) (func $f) (data "abc") (elem func 0) (start $f))',
    "imports": '(module (import "a" "g" (global i32)) (import "a" "m" (memory 1)) (data "x") (data "yz"))',
    "names": f"(module {' '.join(f'(func $a_name_that_is_long_{number})' for number in range(700))})",
}


@pytest.mark.parametrize("name", MODULES)
def test_sections_that_the_wheels_write(engine: Any, compiler: str, name: str) -> None:
    artifact = compiled(engine, MODULES[name])
    found = [part.name for part in check(artifact)]
    assert found == [name for name in NAMES if name in found]
    assert {"module info", *NAMES[13:]} < {*found}
    if name == "names":
        inside = sections._layout(artifact).pieces[:700]
        assert [piece.name for piece in inside] == [
            f"function {number} 'a_name_that_is_long_{number}'" for number in range(700)
        ]


def test_compiled_twice(engine: Any, compiler: str) -> None:
    first, second = (compiled(engine, MODULES["busy"]) for _ in range(2))
    if compiler == "singlepass":
        told = difference(first, second)
        assert told.startswith("function bodies (function ")
        assert "; " not in told
    else:
        assert first == second
        assert difference(first, second) == ""


def test_another_constant_is_in_its_function(engine: Any) -> None:
    first, second = (compiled(engine, WAT.replace("i32.const 7", f"i32.const {number}")) for number in (7, 9))
    assert len(first) == len(second)
    start = next(part.start for part in sections._layout(first).pieces if part.name == "function 2 'pick'")
    told = difference(first, second)
    assert told.startswith("function bodies (function 2 'pick', 1 byte from offset 0x")
    assert start < int(told.rstrip(")").rpartition("0x")[2], 16) < start + 200


@pytest.mark.parametrize(
    ("more", "section"),
    [('(data (i32.const 50) "more")', "data initializers"), ('(export "more" (func $add))', "module info")],
    ids=["data", "export"],
)
def test_another_section_is_named(engine: Any, more: str, section: str) -> None:
    first, second = compiled(engine, WAT), compiled(engine, WAT.rstrip().removesuffix(")") + more + ")")
    assert f"{section} (" in difference(first, second)
    assert "bodies" not in difference(first, second)


DYLIB = """
import ctypes, sys
from pathlib import Path
import wasmer
from pytest_wasmer.engines.wheels import load

compiler = load(sys.argv[1]).Compiler
ctypes.CDLL(str(next(Path(wasmer.__file__).parent.glob("wasmer*.so"))), mode=ctypes.RTLD_GLOBAL)
wasm = wasmer.wat2wasm(sys.argv[2])
sys.stdout.buffer.write(wasmer.Module(wasmer.Store(wasmer.engine.Dylib(compiler)), wasm).serialize())
"""


@needs_wheels_here
@pytest.mark.skipif(not shutil.which("gcc"), reason="the Dylib engine links with gcc")
def test_shared_objects_that_the_wheels_write(compiler: str, tmp_path: Path) -> None:
    """In another process, which has to make Wasmer's symbols global."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", DYLIB, compiler, WAT]
    first, second = (subprocess.run(command, env=environment, check=True, capture_output=True).stdout for _ in range(2))
    names = {part.name for part in check(first)}
    assert {"ELF header", "program headers", ".data", ".dynsym", ".symtab", ".strtab", "section headers"} < names
    assert ".text" in names or compiler == "llvm"
    check(second)
    assert "unknown" not in difference(first, second)
    code = next(part for part in sections._layout(first).pieces if part.name == "wasmer_function__1")
    other = changed(first, code.start, code.end - 1)
    assert f"(wasmer_function__1, 2 bytes from offset {code.start:#x})" in difference(first, other)
