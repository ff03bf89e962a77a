"""Bundles as directories: what is in them, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_wasmer.agreement.bundles import bundle
from pytest_wasmer.agreement.bundles.bundle import BundleError, read, write
from pytest_wasmer.agreement.bundles.recording import Recording, settled
from pytest_wasmer.agreement.events import data_text
from pytest_wasmer.agreement.verdict import AGREED, Level, Verdict
from pytest_wasmer.runtime.blobs import digest_of
from tests.agreement.recordings import ENGINES, MADE, ODD_CALL, VERDICT, WASM, recording

LONG = bytes(range(200))
TITLE = "tests/test_it.py::test_odd[3-backends-agree]"
EVENTS: list[Any] = [
    ("make", 1, "global", "f32", True, 0x7FA00000),
    ("make", 2, "memory", 1, None),
    ("write", 0, "m", 0, data_text(LONG)),
    ("write", 0, "m", 0, data_text(b"abc")),
    ("read", 0, "m", 0, 200),
    ("data", 0, data_text(LONG)),
    ("map", 0, "odd", "i32", [[1], [2]]),
    ("results", "i32", [[42], "UNREACHABLE"]),
    *ODD_CALL,
]
WHOLE = recording(*EVENTS, data={digest_of(LONG): LONG})


def written(folder: Path, found: Recording = WHOLE, **more: Any) -> Path:
    return write(folder, TITLE, found, VERDICT, ENGINES, **more)


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = written(tmp_path / "all", level=Level(strict=True, memory=False), artifacts="both")
    found = read(place)
    assert found == (TITLE, ["fake-a", "fake-b"], "both", Level(strict=True, memory=False), WHOLE)
    assert sorted(path.name for path in place.iterdir()) == ["0.wasm", "README.md", "calls.json", "observed.json"]
    assert (place / "0.wasm").read_bytes() == WASM
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [".gitignore", place.name]
    assert (tmp_path / "all" / ".gitignore").read_text() == "*\n"


def test_the_same_content_has_the_same_name_and_other_content_another(tmp_path: Path) -> None:
    place = written(tmp_path)
    (place / "README.md").unlink()
    assert written(tmp_path) == place
    assert (place / "README.md").exists()
    assert written(tmp_path, recording(*ODD_CALL)) != place
    assert len([*tmp_path.iterdir()]) == 3


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("tests/test_it.py::test_x[backends-agree]", "test_it-test_x"),
        ("test_it.py::TestA::test_x[3-backends-agree]", "test_it-TestA-test_x-3"),
        ("test_it.py::test_x[../é:*?\\con-backends-agree]", "test_it-test_x-con"),
        ("a\\b.py::test_x[" + "n" * 300 + "-backends-agree]", "b-test_x-" + "n" * 71),
        ("fuzz lexer.wasm", "fuzz-lexer-wasm"),
        ("::é", "test"),
    ],
)
def test_names_are_names_on_every_system(tmp_path: Path, title: str, name: str) -> None:
    place = write(tmp_path, title, WHOLE, VERDICT, ENGINES)
    assert place.name.rpartition("-")[0] == name


def test_observed_and_readme_say_what_came_out_where(tmp_path: Path) -> None:
    place = written(tmp_path, settled(WHOLE)._replace(cut="the disk was full"))
    observed = json.loads((place / "observed.json").read_text())
    assert observed["pytest-wasmer observed"] == 1
    assert observed["text"][0] == "fake-a against fake-b: they disagree"
    assert observed["outcomes"] == {"fake-a": ["result", "i32", 42], "fake-b": ["result", "i32", 43]}
    assert observed["engines"] == ENGINES
    assert observed["cut"] == "the disk was full"
    assert {"python", "system", "machine", "features"} <= observed.keys()
    readme = (place / "README.md").read_text()
    for line in (
        f"# {TITLE}\n",
        "    fake-a against fake-b: they disagree\n",
        "**The recording was cut**: the disk was full.",
        "\n    pytest-wasmer repro .\n",
        "Seen on fake-a (fake 1.0), fake-b (fake 1.0), ",
    ):
        assert line in readme
    agreed = write(tmp_path, "other", WHOLE, Verdict(AGREED), ENGINES)
    assert "    All backends agreed.\n" in (agreed / "README.md").read_text()
    assert "cut" not in (agreed / "README.md").read_text()


def test_calls_have_a_line_each(tmp_path: Path) -> None:
    lines = (written(tmp_path) / "calls.json").read_text().splitlines()
    assert '["call",0,"odd","i32",7],' in lines
    assert any(line.startswith('["write",0,"m",0,"base64:AAEC') for line in lines)


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_readme", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]


def test_another_process_that_writes_the_same_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        if Path(source).name.startswith(".new-"):
            Path(target).mkdir()
            (Path(target) / "calls.json").write_text("theirs")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    place = written(tmp_path)
    assert (place / "calls.json").read_text() == "theirs"
    assert len([*tmp_path.iterdir()]) == 2


# What is refused


def changed(place: Path, change: Any) -> None:
    content = json.loads((place / "calls.json").read_text())
    change(content)
    (place / "calls.json").write_text(json.dumps(content))


def test_a_newer_version(tmp_path: Path) -> None:
    place = written(tmp_path)
    changed(place, lambda content: content.update({"pytest-wasmer calls": 2, "events": "other"}))
    with pytest.raises(BundleError, match=r"calls\.json has format 2; this pytest-wasmer reads 1\nInstall a newer one"):
        read(place)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("pytest-wasmer calls"),
        lambda content: content.update({"pytest-wasmer calls": "1"}),
        lambda content: content.pop("events"),
        lambda content: content.pop("modules"),
        lambda content: content.update(level={"strict": True, "else": 1}),
        lambda content: content.update(level=3),
        lambda content: content.update(artifacts="stale"),
        lambda content: content.update(variants=7),
        lambda content: content.update(modules={"w": {"file": "../0.wasm", "sha256": ""}}),
        lambda content: content.update(modules={"w": {"file": 7, "sha256": ""}}),
        lambda content: content.update(modules=[1]),
    ],
)
def test_what_is_none(tmp_path: Path, change: Any) -> None:
    place = written(tmp_path)
    changed(place, change)
    with pytest.raises(BundleError, match=r"calls\.json is not what pytest-wasmer wrote: "):
        read(place)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\0", "7"])
def test_what_is_no_json(tmp_path: Path, text: str) -> None:
    place = written(tmp_path)
    (place / "calls.json").write_text(text)
    with pytest.raises(BundleError, match=r"calls\.json is not what pytest-wasmer wrote: "):
        read(place)


@pytest.mark.parametrize(
    "event",
    [
        [],
        7,
        ["nonsense"],
        [["call"]],
        ["call", 0, "odd", "i32"],
        ["call", 0, "odd", "i32", 1, 2],
        ["call", 0, "odd", "i33", 1],
        ["call", 0, "odd", "i32", 1 << 31],
        ["call", 0, "odd", "i32", 1.5],
        ["call", 0, "odd", "f32", -1],
        ["call", -1, "odd", "i32", 1],
        ["call", True, "odd", "i32", 1],
        ["call", 0, 7, "i32", 1],
        ["map", 0, "odd", "i32", [1]],
        ["map", 0, "odd", "i32", ["TRAP"]],
        ["map", 0, "odd", "i32", 1],
        ["new", 0, "w"],
        ["new", 0, "w", [["env.h", 0]]],
        ["new", 0, "w", "x"],
        ["make", 0, "table", 1, 2],
        ["make", 0, "memory", 1],
        ["make", 0, "memory", -1, None],
        ["make", 0, "global", "f32", 1, 1],
        ["make", 0, "global", "v128", True, 1],
        ["write", 0, "m", 0, "abc"],
        ["write", 0, "m", 0, "base64:?"],
        ["write", 0, "m", 0, "base64:a"],
        ["get", 0, "g", 1],
        ["made", 1],
    ],
)
def test_an_event_that_is_none(tmp_path: Path, event: Any) -> None:
    place = written(tmp_path)
    changed(place, lambda content: content["events"].append(event))
    with pytest.raises(BundleError, match=r"calls\.json is not what .*: (event \d+ is none|data of a)"):
        read(place)


def test_files_that_are_missing_or_not_those(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none/calls\.json cannot be read: No such file.*\nA bundle is a directory"):
        read(tmp_path / "none")
    place = written(tmp_path)
    (place / "0.wasm").write_bytes(WASM[:-1])
    with pytest.raises(BundleError, match=r"0\.wasm is not the file that calls\.json describes"):
        read(place)
    (place / "0.wasm").unlink()
    with pytest.raises(BundleError, match=r"0\.wasm cannot be read: "):
        read(place)
    no_wasm = write(tmp_path, "x", Recording(MADE, {"w": b"\x7fELF"}, {}), VERDICT, ENGINES)
    with pytest.raises(BundleError, match=r"0\.wasm is not Wasm"):
        read(no_wasm)
