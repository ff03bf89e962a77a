"""pytest-wasmer repro."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import cli
from pytest_wasmer.agreement.bundles.bundle import read, write
from pytest_wasmer.agreement.bundles.recording import Recording
from pytest_wasmer.agreement.verdict import Level
from pytest_wasmer.cli import engines
from pytest_wasmer.engines.registry import Registry
from tests.agreement.miscompiles import FLOAT_INDIRECT, GLOBAL_LOST, LOAD_SUNK, V128_SELECT, with_module
from tests.agreement.recordings import ENGINES, MADE, ODD_CALL, SAME_CALL, VERDICT, kinds, recording
from tests.agreement.test_miscompiles import LOG, READ_OUT_OF_BOUNDS, SELECT, TRAP_AFTER_A_STORE
from tests.conftest import FAKES, needs_wheels
from tests.fake_engine import function, memory, module

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "test_it.py::test_odd[backends-agree]"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engines, "new_registry", lambda: Registry(FAKES, engines.cache_folder()))


def written(folder: Path, *events: Any, **more: Any) -> str:
    """Where a bundle of these events is, from here."""
    return of(folder, recording(*events), **more)


def of(folder: Path, found: Recording, **more: Any) -> str:
    return write(folder, TITLE, found, VERDICT, {**ENGINES, "fake-c": ""}, **more).name


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Exit status and lines on stdout."""
    capsys.readouterr()
    status = cli.main(["repro", *arguments])
    return status, capsys.readouterr().out.splitlines()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["repro", *arguments]) == 2
    return capsys.readouterr().err


def test_it_still_diverges(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = written(tmp_path, *SAME_CALL, *ODD_CALL)
    assert run(capsys, place) == (
        1,
        [
            f"{TITLE}: 3 steps on fake-a, fake-b, fake-c",
            "fake-b against fake-a and fake-c:",
            "call odd(7) (event 5):",
            "    fake-b  43  0x0000002b  0b00000000000000000000000000101011",
            "    fake-a  42  0x0000002a  0b00000000000000000000000000101010",
            "    fake-c  42  0x0000002a  0b00000000000000000000000000101010",
        ],
    )


def test_all_agree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = written(tmp_path, *SAME_CALL, *ODD_CALL)
    said = [f"{TITLE}: 3 steps on fake-a, fake-c", "All agree."]
    assert run(capsys, place, "--backends=fake-c,fake-a") == (0, said)


def test_the_level_is_that_of_the_test(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pokes = module(exports={"m": memory(1), "f": function("->", {"fake-b": [["poke", "m", 0, "01"]], "*": []})})
    whole = Recording([*MADE, ("call", 0, "f", ""), ("result", "")], {"w": pokes}, {})
    assert run(capsys, of(tmp_path, whole))[0] == 1
    assert run(capsys, of(tmp_path, whole, level=Level(memory=False)))[0] == 0


def test_the_kinds_of_code_are_those_of_the_test(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    variants = {f"{name}-{code}": "" for name in ("fake-a", "fake-b") for code in ("fresh", "reloaded")}
    place = str(write(tmp_path, TITLE, recording(*ODD_CALL), VERDICT, variants, artifacts="both"))
    _, lines = run(capsys, place)
    assert lines[0] == f"{TITLE}: 2 steps on fake-a-fresh, fake-a-reloaded, fake-b-fresh, fake-b-reloaded"
    status, lines = run(capsys, place, "--backends=fake-c")
    assert (status, lines[0]) == (0, f"{TITLE}: 2 steps on fake-c-fresh, fake-c-reloaded")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("die", "    fake-b: it was lost: killed by SIGKILL (call of 'die' of module w with ())"),
        ("hang", "    fake-b: it did not end within 0.5 s (call of 'hang' of module w with ())"),
    ],
)
def test_crashes_and_endless_loops(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, said: str) -> None:
    place = written(tmp_path, ("call", 0, name, ""), ("result", ""))
    status, lines = run(capsys, place, "--timeout=0.5")
    assert (status, lines[1:]) == (1, ["    fake-a: it ended", said, "    fake-c: it ended"])
    assert run(capsys, place, "--backends=fake-a,fake-c")[0] == 0


def test_a_recording_that_was_cut_and_agrees_says_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = of(tmp_path, recording(*SAME_CALL, cut="the disk was full"))
    status, lines = run(capsys, place)
    assert (status, lines[1:]) == (
        2,
        ["The recording was cut: the disk was full", "All agree on what is left of it, which says little."],
    )
    assert run(capsys, of(tmp_path, recording(*ODD_CALL, cut="the disk was full")))[0] == 1


def test_nothing_is_left_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, lines = run(capsys, of(tmp_path, Recording([], {}, {}, "everything is gone")))
    assert (status, lines[-1]) == (2, "They cannot be compared: nothing was asked of Wasm")


def test_what_cannot_be_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    deep = {"fake-b": [["trap", "STACK_OVERFLOW"]], "*": []}
    whole = Recording([*MADE, ("call", 0, "f", "")], {"w": module(exports={"f": function("->", deep)})}, {})
    status, lines = run(capsys, of(tmp_path, whole))
    assert status == 2
    assert lines[1].startswith("They cannot be compared: the stack was exhausted on fake-b")


def test_where_the_recording_is_left_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = written(tmp_path, ("call", 0, "ask", "i32", 1), ("result", "i32", 1))
    status, lines = run(capsys, place, "--backends=fake-a,fake-b")
    assert (status, lines[1:]) == (
        0,
        [
            "All agree.",
            "fake-a left the recording: a call of env.h is not in the recording",
            "fake-b left the recording: a call of env.h is not in the recording",
        ],
    )


# What cannot be run


def test_bundles_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "none/calls.json cannot be read: No such file" in refusal(capsys, "none")
    place = written(tmp_path, *ODD_CALL)
    calls = tmp_path / place / "calls.json"
    good = calls.read_text()
    calls.write_text(good.replace('calls": 1', 'calls": 9'))
    assert f"{place}/calls.json has format 9; this pytest-wasmer reads 1\nInstall a newer" in refusal(capsys, place)
    calls.write_text(good[:-20])
    assert f"{place}/calls.json is not what pytest-wasmer wrote: " in refusal(capsys, place)
    calls.write_text(good.replace('"odd"', '"even"'))
    said = refusal(capsys, place)
    assert said.startswith(f"pytest-wasmer: {place} cannot be replayed: instance 0: module w has no export 'even'")


def test_backends_that_do_not_work_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = written(tmp_path, *ODD_CALL)
    assert "--backends: backend 'fake-x' is unknown. Did you mean 'fake-" in refusal(capsys, place, "--backends=fake-x")
    assert "--backends: fake-a alone can agree with itself only" in refusal(capsys, place, "--backends=fake-a")
    other = write(tmp_path, TITLE, recording(*ODD_CALL), VERDICT, {"theirs": "", "fake-a": ""})
    assert "backend 'theirs' is unknown" in refusal(capsys, str(other))


def test_a_module_that_a_backend_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    wasm = module(refuse={"fake-b": ("compile", "no SIMD")})
    place = of(tmp_path, Recording(MADE, {"w": wasm}, {}))
    assert "fake-b cannot compile module w: no SIMD" in refusal(capsys, place)
    assert run(capsys, place, "--backends=fake-a,fake-c")[0] == 0


@pytest.mark.parametrize("seconds", ["-1", "nan", "x", "1e9"])
def test_time_limits_that_are_none(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["repro", "x", f"--timeout={seconds}"])
    assert ended.value.code == 2


# --minimize

NOISE = [
    *SAME_CALL,
    ("new", 1, "w", []),
    ("made",),
    ("map", 1, "same", "i32", [[1], [2]]),
    ("results", "i32", [[1], [2]]),
    ("write", 0, "m", 0, "00"),
]
WANTED = [
    ("call", 0, "ask", "i32", 5),
    ("host", "env.h", "i32", 5),
    *SAME_CALL,
    ("map", 0, "odd", "i32", [[1], [2], [3]]),
    ("results", "i32", [[42], [42], [42]]),
    ("return", "i32", 5),
    ("result", "i32", 5),
]


def test_minimized(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = written(tmp_path, *NOISE, *WANTED)
    before = (tmp_path / place / "calls.json").read_bytes()
    status, lines = run(capsys, place, "--minimize")
    assert (status, lines[-1]) == (
        1,
        f"Minimized from 9 steps and 5 rows of map to 4 steps and 1 row of map: pytest-wasmer repro {place}-min",
    )
    assert (tmp_path / place / "calls.json").read_bytes() == before
    small = read(tmp_path / f"{place}-min")
    assert small.recording.events == [
        *MADE,
        *WANTED[:2],
        ("map", 0, "odd", "i32", [[3]]),
        ("results", "i32", [[42]]),
        *WANTED[-2:],
    ]
    assert small.title == TITLE
    assert run(capsys, f"{place}-min")[0] == 1
    files = {path.name: path.read_bytes() for path in (tmp_path / f"{place}-min").iterdir()}
    observed = json.loads(files["observed.json"])
    assert observed["outcomes"]["fake-b"] == ["results", "i32", [[43]]]
    # The same again, also of what is minimal already.
    for again in (place, f"{place}-min"):
        assert run(capsys, again, "--minimize")[1][-1].endswith(
            f" to 4 steps and 1 row of map: pytest-wasmer repro {place}-min"
        )
        assert {path.name: path.read_bytes() for path in (tmp_path / f"{place}-min").iterdir()} == files


@pytest.mark.parametrize("other", ["trap", "two"])
def test_minimizing_keeps_who_is_alone_with_what(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, other: str
) -> None:
    """What else they disagree on is none of it."""
    wasm = module(
        exports={
            "one": function("-> i32", {"fake-b": [["return", 1]], "*": [["return", 0]]}),
            "trap": function("-> i32", {"fake-b": [["trap", "UNREACHABLE"]], "*": [["return", 0]]}),
            "two": function("-> i32", {"fake-c": [["return", 1]], "*": [["return", 0]]}),
        }
    )
    one = [("call", 0, "one", ""), ("result", "i32", 0)]
    place = of(tmp_path, Recording([*MADE, *one, ("call", 0, other, ""), ("result", "i32", 0)], {"w": wasm}, {}))
    run(capsys, place, "--minimize")
    assert read(tmp_path / f"{place}-min").recording.events == [*MADE, *one]


def test_minimizing_a_crash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = written(tmp_path, *SAME_CALL, ("call", 0, "die", ""), ("result", ""), *SAME_CALL)
    status, lines = run(capsys, place, "--minimize")
    assert (status, lines[-1]) == (1, f"Minimized from 4 steps to 2 steps: pytest-wasmer repro {place}-min")
    assert kinds(read(tmp_path / f"{place}-min").recording.events) == "new made call result"


def test_nothing_to_minimize(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = written(tmp_path, *SAME_CALL)
    assert run(capsys, place, "--minimize") == (0, [f"{TITLE}: 2 steps on fake-a, fake-b, fake-c", "All agree."])
    assert not (tmp_path / f"{place}-min").exists()


# Native


@needs_wheels
@pytest.mark.parametrize(
    ("wat", "test", "agreeing", "calls"),
    [
        (LOAD_SUNK, READ_OUT_OF_BOUNDS, "singlepass,cranelift", '["map",0,"pick","i32,i32",[[70000,1]]]'),
        (GLOBAL_LOST, TRAP_AFTER_A_STORE, "singlepass,cranelift", '["call",0,"f","i32",70000]'),
        (V128_SELECT, SELECT, "", '["call",0,"f","i32",1]'),
        (FLOAT_INDIRECT, LOG, "cranelift,llvm", '["call",0,"f",""]'),
    ],
    ids=["load_sunk", "global_lost", "v128_select", "host_float_indirect"],
)
def test_real_miscompiles(
    pytester: pytest.Pytester,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wat: str,
    test: str,
    agreeing: str,
    calls: str,
) -> None:
    pytester.makepyfile(with_module(wat, test))
    result = pytester.runpytest_subprocess("--wasm-backends=all")
    (place,) = pytester.path.glob(".wasm-repro/*-*")
    result.stdout.fnmatch_lines([f"Repro: pytest-wasmer repro .wasm-repro/{place.name}"])
    shown = result.stdout.lines
    start = next(index for index, line in enumerate(shown) if " against " in line)
    end = shown.index(f"Repro: pytest-wasmer repro .wasm-repro/{place.name}")
    shutil.move(place, tmp_path / "bundle")
    os.chdir(tmp_path)  # where nothing of the test is
    status, lines = run(capsys, "bundle", "--minimize")
    assert status == 1
    if wat is not FLOAT_INDIRECT:  # garbage differs from run to run
        assert lines[1:-1] == shown[start:end]
    assert calls in (tmp_path / "bundle-min" / "calls.json").read_text()
    assert run(capsys, "bundle-min")[0] == 1
    if agreeing:
        assert run(capsys, "bundle", f"--backends={agreeing}")[0] == 0


WHOLE = """
    import struct
    import pytest
    from pytest_wasmer import Caller, Global, Memory

    W = '''(module
      (import "env" "fill" (func $fill (param i32) (result i64)))
      (import "env" "memory" (memory 1))
      (import "env" "base" (global $base (mut f32)))
      (global (export "count") (mut i32) (i32.const 0))
      (func (export "bump") (global.set 0 (f32.add (global.get 0) (f32.const 1))))
      (func (export "run") (param i32) (result i64)
        (i64.add (call $fill (local.get 0)) (i64.load (i32.const 8))))
      (func (export "pick") (param i32 i32) (result i32) (local i32)
        (local.set 2 (i32.load (local.get 0)))
        (if (result i32) (local.get 1) (then (i32.const 5)) (else (local.get 2)))))'''

    @pytest.fixture(scope="module")
    def w(wasm_instance):
        def fill(caller: Caller, number):
            caller.memory.write(8, struct.pack("<q", number) + bytes(range(100)))
            if number > 0:
                caller.exports.run(number - 1)
            if number == 3:
                raise KeyError(number)
            return number
        memory = Memory(1)
        memory.write(100, b"before")
        return wasm_instance(W, {"env": {"fill": fill, "memory": memory, "base": Global("f32", 1.5, mutable=True)}})

    def test_first(w):
        assert w.exports.run(2) == 2
        w.exports.bump()

    def test_second(w):
        with pytest.raises(KeyError):
            w.exports.run(3)
        w.exports.count.value += 1
        assert w.memory.grow(1) == 1

    def test_third(w):
        w.exports.pick.map([(0, 1), (200000, 1)])
"""


@needs_wheels
@pytest.mark.parametrize("plugins", [(), ("-p", "xdist", "-n2", "--dist=loadfile")], ids=["alone", "xdist"])
def test_host_functions_memories_and_a_past(
    pytester: pytest.Pytester, tmp_path: Path, capsys: pytest.CaptureFixture[str], plugins: tuple[str, ...]
) -> None:
    pytester.makepyfile(WHOLE)
    pytester.runpytest_subprocess("--wasm-backends=all", *plugins).assert_outcomes(passed=9, failed=1)
    (place,) = pytester.path.glob(".wasm-repro/*-*")
    found = read(place)
    assert found.recording.cut == ""
    shutil.move(place, tmp_path / "bundle")
    os.chdir(tmp_path)  # where nothing of the test is
    status, lines = run(capsys, "bundle")
    assert (status, lines[1], lines[3]) == (1, "llvm against singlepass and cranelift:", "    llvm        row 1: 5")
    assert run(capsys, "bundle", "--backends=singlepass,cranelift")[0] == 0
    assert run(capsys, "bundle", "--minimize")[0] == 1
    small = read(tmp_path / "bundle-min").recording.events
    assert kinds([event for event in small if event[0] not in ("make", "write")]) == "new made map results"


@needs_wheels
def test_bundles_of_tests_that_agree_agree(
    pytester: pytest.Pytester, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(WHOLE)
    pytester.runpytest_subprocess("--wasm-backends=all", "--wasm-repro=always")
    places = [*pytester.path.glob(".wasm-repro/*-*")]
    assert sorted((place.name.split("-")[-2], run(capsys, str(place))[0]) for place in places) == [
        ("test_first", 0),
        ("test_second", 0),
        ("test_third", 1),
    ]
