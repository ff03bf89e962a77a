"""Goldens: what becomes of an observation, its text, and what is no difference."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.agreement import golden, runs
from pytest_wasmer.agreement.events import nan_words_only, without_nan_words
from pytest_wasmer.agreement.golden import Broken, Golden, difference, golden_of, parse, text_of
from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.verdict import Level, nothing_at_hand
from pytest_wasmer.runtime.blobs import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_wasmer.agreement.events import Event

LENIENT, STRICT = Level(), Level(strict=True)
NAN, OTHER_NAN = 0x7FC00000, 0xFFC00001
NEW: list[Event] = [("new", 0, "wat:5f", []), ("made",)]
ALL: list[Event] = [
    *NEW,
    ("make", 1, "memory", 1, None),
    ("call", 0, "sqrt", "f64", 0x4000000000000000),
    ("host", "env.log", "i32,f32", -1, 0x3F800000),
    ("raise", "ValueError"),
    ("raised", "ValueError"),
    ("call", 0, "a name\n\u2028", "", *()),
    ("result", "v128,f32", 1 << 127, NAN),
    ("map", 0, "div", "i32,i32", [[1, 2], [3, 0]]),
    ("results", "i32", [[0], "INTEGER_DIVIDE_BY_ZERO"]),
    ("map", 0, "f", "", [[], []]),
    ("results", "", [[], []]),
    ("read", 0, "m", 3, 100),
    ("data", 3, "100 bytes abcd"),
    ("grow", 0, "m", 1),
    ("number", 1),
    ("trap", "UNREACHABLE"),
]
STATE: list[Event] = [
    ("state", 0, "g", "global", "f32", str(OTHER_NAN)),
    ("state", 0, "m", "memory", "2", "1", "0=ab,1=cd"),
    ("state", 0, "t", "table", "10"),
]
TEXT = """\
pytest-wasmer golden 1
test "test_sqrt[3]"
level results
instance 0 "wat:5f"
make 1 "memory" 1 null
call 0 "sqrt" "f64" 2.0=0x4000000000000000
host "env.log" "i32,f32" -1 1.0=0x3f800000
raise "ValueError"
raised "ValueError"
call 0 "a name\\n\u2028" ""
result "v128,f32" 0x80000000000000000000000000000000 nan=0x7fc00000
map 0 "div" "i32,i32"
  row 1 2
  row 3 0
results "i32"
  row 0
  trap "INTEGER_DIVIDE_BY_ZERO"
map 0 "f" ""
  row
  row
results ""
  row
  row
read 0 "m" 3 100
data 3 "100 bytes abcd"
grow 0 "m" 1
number 1
trap "UNREACHABLE"
more 2048 p2
state 0 "g" "global" "f32" nan=0x7fc00000
state 0 "m" "memory" 2 1
  page 0 ab
  page 1 cd
state 0 "t" "table" 10
"""


def seen(*events: Event, state: list[Event] | None = None, **more: Any) -> Observation:
    told = [*NEW, *events]
    return Observation("v", told, more.get("total", len(told)), more.get("checkpoints", []), state or [], "")


def stored(*events: Event, level: Level = LENIENT, find: Any = nothing_at_hand, **more: Any) -> Golden:
    return golden_of("test_x", seen(*events, **more), level, find)


def differs(one: Golden, other: Golden, level: Level = LENIENT) -> bool:
    return bool(difference(one, other, level, ("golden", "here")))


def test_the_text_of_everything() -> None:
    checkpoints = [("p1", "r1", "i1"), ("p2", "r2", "i2")]
    observed = Observation("llvm", ALL, len(ALL) + 2048, checkpoints, STATE, "")
    found = golden_of("test_sqrt[3]", observed, LENIENT, nothing_at_hand)
    assert text_of(found) == TEXT
    assert parse(TEXT) == found
    strict = golden_of("test_sqrt[3]", observed, STRICT, nothing_at_hand)
    assert "more 2048 p2 r2" in text_of(strict).splitlines()
    assert parse(text_of(strict)) == strict


def test_an_observation_in_memory_and_one_that_travelled_have_the_same_text() -> None:
    observed = Observation("llvm", ALL, len(ALL), [], STATE, "")
    found = [
        golden_of("t", one, LENIENT, nothing_at_hand) for one in (observed, Observation.unpacked(observed.packed()))
    ]
    assert text_of(found[0]) == text_of(found[1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it does not begin with 'pytest-wasmer golden 1'"),
        ("{}", "it does not begin with"),
        (TEXT.replace("golden 1", "golden x"), "it does not begin with"),
        (TEXT.replace("golden 1", "golden 2"), "it is of a newer version (2, this pytest-wasmer reads 1)"),
        (TEXT.replace("number 1", "<<<<<<< HEAD"), "line 27 makes no sense: '<<<<<<< HEAD'"),
        (TEXT.replace("number 1", "number " + "[" * 100_000), "line 27 makes no sense"),
        (TEXT.replace("level results", "level loose"), "line 3 makes no sense: 'level loose'"),
        (TEXT.replace("  row 1 2", "  cell 1 2"), "line 13 makes no sense: '  cell 1 2'"),
        (TEXT.replace("2.0=", "3.0="), "it is not as it was written"),
        (
            TEXT.replace('"f64" 2.0=0x4000000000000000', '"f64" 2.0=0x40000000000000000000'),
            "it is not as it was written",
        ),
        (TEXT.replace("number 1", "number 1 "), "it is not as it was written"),
        (TEXT.removesuffix("\n"), "it is not as it was written"),
    ],
)
def test_what_is_no_golden(text: str, said: str) -> None:
    with pytest.raises(Broken) as raised:
        parse(text)
    assert str(raised.value).startswith(said)
    assert raised.value.newer == ("newer" in said)


@pytest.mark.parametrize("cut", [place for place in range(1, len(TEXT), 7) if TEXT[place - 1] != "\n"])
def test_a_cut_off_golden_is_refused(cut: int) -> None:
    with pytest.raises(Broken):
        parse(TEXT[:cut])


# What is a difference


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("result", "i32", 1), ("result", "i32", 2)),
        (("result", "i32", 1), ("trap", "UNREACHABLE")),
        (("result", "i32", 1), ("trap", "UNKNOWN")),
        (("trap", "INTEGER_OVERFLOW"), ("trap", "UNREACHABLE")),
        (("result", "f32", 0), ("result", "f32", 1 << 31)),
        (("call", 0, "f", "i32", 1), ("call", 0, "f", "i32", 2)),
        (("host", "e.f", "i32", 1), ("host", "e.f", "i32", 2)),
        (("data", 0, "100 bytes ab"), ("data", 0, "100 bytes cd")),
        (("data", 0, "100 bytes ab"), ("data", 0, "101 bytes ab")),
        (("results", "i32", [[1], [2]]), ("results", "i32", [[1], [3]])),
        (("results", "i32", [[1], [2]]), ("results", "i32", [[1]])),
    ],
)
def test_a_difference(one: Event, other: Event) -> None:
    assert differs(stored(one), stored(other))
    assert differs(stored(other), stored(one))
    assert not differs(stored(one), stored(one))


def test_one_event_more_or_less() -> None:
    one, two = stored(("number", 1)), stored(("number", 1), ("number", 2))
    assert difference(one, two, LENIENT, ("a", "b")) == [
        "--- a",
        "+++ b",
        ' instance 0 "wat:5f"',
        " number 1",
        "+number 2",
    ]
    assert difference(two, one, LENIENT, ("a", "b"))[-1] == "-number 2"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("result", "f32", NAN), ("result", "f32", OTHER_NAN)),
        (("trap", "UNREACHABLE"), ("trap", "UNKNOWN")),
        (("results", "i32", [[1], "UNREACHABLE"]), ("results", "i32", [[1], "UNKNOWN"])),
        (("data", 0, "0000c07f"), ("data", 0, "0100c0ff")),
    ],
)
def test_no_difference(one: Event, other: Event) -> None:
    assert not differs(stored(one), stored(other))


def test_nan_bits_count_where_they_were_stored_and_are_asked_for() -> None:
    strict, other = stored(("result", "f32", NAN), level=STRICT), stored(("result", "f32", OTHER_NAN), level=STRICT)
    assert differs(strict, other, STRICT)
    assert not differs(strict, other, LENIENT)
    assert not differs(strict, stored(("result", "f32", OTHER_NAN)), LENIENT)


def test_which_instances_tests_had_used_and_which_build_it_was_is_no_difference() -> None:
    fresh = stored(("number", 1))
    used = golden_of("t", Observation("v", [("use", 0, "wat:5f", "aa"), ("number", 1)], 2, [], [], ""), LENIENT, dict)
    rebuilt = golden_of(
        "t", Observation("v", [("new", 0, "wat:60", []), ("made",), ("number", 1)], 3, [], [], ""), LENIENT, dict
    )
    assert not differs(fresh, used)
    assert not golden.other_module(fresh, used)
    assert not differs(fresh, rebuilt)
    assert golden.other_module(fresh, rebuilt)


def test_what_is_known_by_digests() -> None:
    points = [("p1", "r1", "i1")]
    one = stored(total=3000, checkpoints=points)
    assert not differs(one, stored(total=3000, checkpoints=[("p1", "other", "i1")]))
    assert differs(one, stored(total=3000, checkpoints=[("p2", "r1", "i1")]))
    assert differs(one, stored(total=3001, checkpoints=points))
    strict = stored(total=3000, checkpoints=points, level=STRICT)
    assert differs(strict, stored(total=3000, checkpoints=[("p1", "r2", "i1")], level=STRICT), STRICT)
    assert not differs(strict, stored(total=3000, checkpoints=[("p1", "r2", "i1")]), LENIENT)


@pytest.mark.parametrize("state", STATE)
def test_what_is_left_at_the_end(state: Event) -> None:
    other = (*state[:-1], {"table": "11", "global": "0", "memory": "0=ab,1=ce"}[state[3]])
    assert differs(stored(state=[state]), stored(state=[other]))
    assert differs(stored(state=[state]), stored())
    assert not differs(stored(state=[state]), stored(state=[state]))


def test_an_exemption_leaves_out_what_it_names() -> None:
    level = Level(memory=False, globals=False, host_calls=False)
    found = stored(
        ("host", "e.f", ""), ("return", ""), ("number", 1), state=STATE, level=level, checkpoints=[("p", "r", "i")]
    )
    assert found.events == [("instance", 0, "wat:5f"), ("number", 1)]
    assert [event[3] for event in found.state] == ["table"]
    assert (found.untold, found.digests) == (0, [])


def test_digests_are_part_of_the_format() -> None:
    """Where they become others, goldens and run reports of before do not fit any more: raise both version numbers."""
    assert digest_of(b"abc") == "ba7816bf8f01cfea414140de"
    assert (golden.FORMAT, runs.SCHEMA) == (1, 1)


# NaNs in memories

PAGES = [struct.pack("<I", bits).ljust(65536, b"x") for bits in (NAN, OTHER_NAN, 0x7F800000)]


def at_hand(digests: list[str]) -> dict[str, bytes]:
    return {digest_of(content): content for content in (*PAGES, *[page[:100] for page in PAGES])}


def page(content: bytes) -> Event:
    return ("state", 0, "m", "memory", "1", "1", f"0={digest_of(content)}")


def test_a_page_that_differs_in_nan_bits() -> None:
    one, other, infinite = [stored(state=[page(content)], find=at_hand) for content in PAGES]
    assert not differs(one, other)
    assert differs(one, infinite)
    assert parse(text_of(one)) == one
    strict = [stored(state=[page(content)], find=at_hand, level=STRICT) for content in PAGES]
    assert differs(strict[0], strict[1], STRICT)
    assert not differs(strict[0], strict[1], LENIENT)


def test_a_page_that_is_not_at_hand() -> None:
    one, other = PAGES[:2]
    known, unknown = stored(state=[page(one)], find=at_hand), stored(state=[page(one)])
    assert not differs(known, unknown)
    assert not differs(unknown, known)
    assert differs(known, stored(state=[page(other)]))


def test_long_data_that_differs_in_nan_bits() -> None:
    one, other, infinite = [
        stored(("data", 0, f"100 bytes {digest_of(content[:100])}"), find=at_hand) for content in PAGES
    ]
    assert not differs(one, other)
    assert differs(one, infinite)
    assert parse(text_of(one)) == one


@pytest.mark.parametrize("offset", range(9))
def test_words_are_aligned_in_the_memory(offset: int) -> None:
    """What is made canonical is what may differ."""
    content = bytes(range(256)) * 2 + struct.pack("<fIdQ", 1.5, OTHER_NAN, 2.5, 0xFFF0000000000001) + b"\xff" * 9
    found = without_nan_words(content, offset)
    assert nan_words_only(content, found, offset)
    assert without_nan_words(found, offset) == found
    assert (found != content) == (without_nan_words(bytes(offset % 8) + content, 0)[offset % 8 :] != content) or offset


# Files


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("test_add", "test_add.txt"),
        ("TestA::test_add[3-x.y]", "TestA.test_add[3-x.y].txt"),
        ("test_add[A]", None),
        ("test_add[a/b]", None),
        ("test_add[a_b]", "test_add[a_b].txt"),
        ("con", None),
        ("x" * 300, None),
    ],
)
def test_names_of_files(test: str, name: str | None) -> None:
    found = golden.file_name(test)
    assert len(found) < 150
    if name is not None:
        assert found == name
    assert not set(found) & set('<>:"/\\|?*')
    assert found.partition(".")[0].lower() not in ("con", "nul")


def test_other_tests_have_other_files_on_systems_that_fold_case() -> None:
    tests = [
        "test[a]",
        "test[A]",
        "test[a/b]",
        "test[a_b]",
        "test[a:b]",
        "x" * 300,
        "x" * 301,
        "test[\u00e4]",
        "test[_]",
    ]
    assert len({golden.file_name(test).lower() for test in tests}) == len(tests)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "__golden__" / "test_it" / "test_x.txt"
    assert golden.read(path, "test_x") is None
    golden.write(path, stored(("number", 1)))
    assert golden.read(path, "test_x") == stored(("number", 1))
    assert [file.name for file in path.parent.iterdir()] == ["test_x.txt"]
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as git may
    assert golden.read(path, "test_x") == stored(("number", 1))
    assert str(golden.read(path, "test_y")) == "it is that of test_x"
    path.write_bytes(b"\xff")
    assert str(golden.read(path, "test_x")) == "it cannot be read: it is not UTF-8"
    path.write_text("nothing")
    assert isinstance(golden.read(path, "test_x"), Broken)
