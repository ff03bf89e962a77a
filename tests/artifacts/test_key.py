"""What the key of an artifact depends on."""

from __future__ import annotations

import hashlib
import io
import platform
import random
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.artifacts import key
from pytest_wasmer.artifacts.key import Parts, cpu_features, parts_from, parts_of
from pytest_wasmer.engines.registry import WHEELS, Availability, BackendSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = Parts(
    schema="2",
    module="ab" * 32,
    engine="pytest_wasmer.engines.wheels:WheelsEngine",
    version="wasmer 1.1.0",
    library="cd" * 32,
    compiler="llvm",
    kind="universal",
    features="sse2 avx",
    target="x86_64-linux",
    configuration="default",
    extra="{}",
)
HEAD = f"""\
pytest-wasmer artifact 2
schema: "2"
module: "{"ab" * 32}"
engine: "pytest_wasmer.engines.wheels:WheelsEngine"
version: "wasmer 1.1.0"
library: "{"cd" * 32}"
compiler: "llvm"
kind: "universal"
features: "sse2 avx"
target: "x86_64-linux"
configuration: "default"
extra: "{{}}"
"""
# Whoever changes these makes everything that is stored a miss: then `SCHEMA` is to change, too.
KEY = "a1006ebaf6bb541c48349baa1ebd5264615f0db0effcf8c3625e19593343be8b"


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """The features of this machine are read anew, now and after the test."""
    cpu_features.cache_clear()
    yield
    cpu_features.cache_clear()


# The key


def test_the_key_of_fixed_parts_never_changes() -> None:
    assert PARTS.key() == KEY


def test_the_key_is_what_its_docstring_says() -> None:
    content = b"".join(len(part).to_bytes(8, "little") + part.encode() for part in PARTS)
    assert PARTS.key() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", Parts._fields)
def test_each_part_changes_the_key_and_the_head(name: str) -> None:
    other = PARTS._replace(**{name: getattr(PARTS, name) + "x"})
    assert other.key() != PARTS.key()
    assert other.head() != PARTS.head()
    assert other.differences(PARTS) == PARTS.differences(other) == [name]


def test_equal_parts_differ_in_nothing() -> None:
    same = Parts(*PARTS)
    assert (same.key(), same.head(), same.differences(PARTS)) == (PARTS.key(), PARTS.head(), [])


def test_what_moves_from_one_part_to_the_next_changes_the_key() -> None:
    first = PARTS._replace(compiler="ab", kind="c")
    second = PARTS._replace(compiler="a", kind="bc")
    assert first.key() != second.key()
    assert first.head() != second.head()


def test_a_length_is_in_bytes() -> None:
    assert len({PARTS._replace(extra=text).key() for text in ("\u00e9", "e\u0301", "\u00e9\u00e9", "")}) == 4


# The head


def test_the_head_of_fixed_parts_never_changes() -> None:
    assert PARTS.head().decode() == HEAD


@pytest.mark.parametrize(
    "text",
    ["", "a\nb: c", '"', "\\", "caf\u00e9 \u2028 \U0001f980", "\r\n\0\x1b", ": ", 'extra: "x"', "x" * 5000],
    ids=["empty", "newline", "quote", "backslash", "unicode", "controls", "separator", "line", "long"],
)
@pytest.mark.parametrize("name", Parts._fields)
def test_parts_are_read_from_their_head(name: str, text: str) -> None:
    parts = PARTS._replace(**{name: text})
    head = parts.head()
    assert head.count(b"\n") == len(Parts._fields) + 1
    assert head.isascii()
    assert parts_from(head) == parts
    assert parts_from(head + b"compiled in 1 s\nseal 00\n\xff\xfe\0") == parts


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0" * 1000,
        b"\xff\xd8" * 500,
        b"pytest-wasmer artifact 2\n",
        HEAD.encode()[:-4],
        HEAD.encode()[:100],
        HEAD.replace("artifact 2", "artifact 1").encode(),
        HEAD.replace("kind:", "sort:").encode(),
        HEAD.replace('kind: "universal"\n', "").encode(),
        HEAD.replace('"llvm"', "llvm").encode(),
        HEAD.replace('kind: "universal"', "kind").encode(),
        HEAD.replace("\n", "\r\n").encode(),
        HEAD.replace('schema: "2"\n', 'schema: "2"\nlater: "x"\n').encode(),
        HEAD.replace('"llvm"', "[" * 10000).encode(),
        HEAD.replace('"llvm"', "9" * 5000).encode() + b"x" * 5000 + b"\xff",
    ],
    ids=[
        *("empty", "zeros", "noise", "title-only", "cut-at-the-end", "cut", "other-format", "other-name", "line-gone"),
        *("no-json", "no-value", "crlf", "line-more", "deep", "number"),
    ],
)
def test_what_is_no_head_has_no_parts(garbage: bytes) -> None:
    found = parts_from(garbage)
    assert found is None or found.compiler == "9" * 5000  # before Python 3.10.7 a number may be that long


def test_nothing_raises_on_changed_heads() -> None:
    randomness = random.Random(4)
    for _ in range(2000):
        head = bytearray(PARTS.head())
        for _ in range(randomness.choice([1, 1, 5])):
            head[randomness.randrange(len(head))] = randomness.randrange(256)
        found = parts_from(bytes(head))
        assert found is None or (found == PARTS) == (head == PARTS.head())


# This machine


def cpuinfo(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """What /proc/cpuinfo says; None: there is none."""

    def fake_open(path: str) -> io.StringIO:
        assert path == "/proc/cpuinfo"
        if text is None:
            raise FileNotFoundError(path)
        return io.StringIO(text)

    monkeypatch.setattr(key, "open", fake_open, raising=False)


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 sse2 pni\nflags\t\t: sse2 abm\n", "sse2 pni avx2"),
        (
            "flags : abm avx512f avx512vl bmi1 avx sse4_2 sse4_1 ssse3\n",
            "ssse3 sse4_1 sse4_2 avx bmi1 avx512vl avx512f abm",
        ),
        ("flags\t\t: sse22 xavx nothing\n", ""),
        ("flags\t\t:\n", ""),
        ("processor\t: 0\nFeatures\t: asimd\n", "some processor"),
        ("", "some processor"),
        (None, "some processor"),
    ],
    ids=["first-processor", "fixed-order", "whole-words", "none", "arm", "empty", "no-file"],
)
def test_features_are_those_that_wasmer_knows(monkeypatch: pytest.MonkeyPatch, text: str | None, features: str) -> None:
    monkeypatch.setattr(platform, "processor", lambda: "some processor")
    cpuinfo(monkeypatch, text)
    assert cpu_features() == features


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="of x86-64 Linux")
def test_features_of_this_machine() -> None:
    assert cpu_features().startswith("sse2 pni ")
    assert set(cpu_features().split()) <= set(key.FEATURES)


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize(
    ("argument", "compiler", "kind"),
    [("singlepass", "singlepass", "universal"), ("llvm-dylib", "llvm", "dylib"), ("headless", "headless", "universal")],
)
def test_parts_of_the_wheels(monkeypatch: pytest.MonkeyPatch, argument: str, compiler: str, kind: str) -> None:
    cpuinfo(monkeypatch, "flags: sse2\n")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    spec = BackendSpec("any name", WHEELS, argument)
    backend = Availability(spec, True, detail="wasmer 1.1.0", library="ef" * 32)
    assert parts_of(backend, {}) == Parts(
        schema="2",
        module="",
        engine="pytest_wasmer.engines.wheels:WheelsEngine",
        version="wasmer 1.1.0",
        library="ef" * 32,
        compiler=compiler,
        kind=kind,
        features="sse2",
        target=f"amd64-{sys.platform}",
        configuration="default",
        extra="{}",
    )


def test_parts_of_a_third_party_engine() -> None:
    """Its argument is its own business, dashes or not."""
    backend = Availability(BackendSpec("mine", "my_engine:MyEngine", "fast-dylib"), True, library="my 3")
    parts = parts_of(backend, {})
    assert parts[2:7] == ("my_engine:MyEngine", "", "my 3", "fast-dylib", "")


def test_extra_parts_come_in_any_order() -> None:
    backend = Availability(BackendSpec("mine", "my_engine:MyEngine"), True)
    first, second = parts_of(backend, {"b": "2", "a": "\u00e9\n"}), parts_of(backend, {"a": "\u00e9\n", "b": "2"})
    assert first.key() == second.key()
    assert first.extra == '{"a": "\\u00e9\\n", "b": "2"}'
    assert parts_of(backend, {"a": "2"}).key() != parts_of(backend, {"a": "1"}).key()
