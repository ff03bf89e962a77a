"""Every kind of difference between backends, in tests that look at nothing: each is seen, and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.agreement import observe
from pytest_wasmer.agreement.observe import CHECKPOINTS, Observation, Recorder

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "--wasm-backends=fake-a,fake-b,fake-c"
SUITE = """
    import pytest
    from fake_engine import function, memory, module, table, variable
    from pytest_wasmer import Trap

    def odd(usual, strange):
        return {{"fake-b": strange, "*": usual}}

    WASM = module(exports={{
        "m": memory(2), "g": variable("i32", 0), "x": variable("f32", 0), "t": table(3),
        "f": function({signature!r}, odd({usual!r}, {strange!r})),
    }}, imports=[("env", "log", ["func", ["i32"], ["i32"]]), ("env", "warn", ["func", ["i32"], ["i32"]])])

    def test_f(wasm_instance):
        w = wasm_instance(WASM, imports={{"env": {{"log": lambda n: n, "warn": lambda n: n}}}})
        try:
            w.exports.f(5)
        except Trap:
            pass
        {more}
"""
LOG, WARN = ["host", 0], ["host", 1]
FIVE: list[object] = [["return", 5]]
DIVERGENCES: dict[str, tuple[str, Sequence[object], Sequence[object], str, Sequence[str]]] = {
    "result-bit": (
        "i32 -> i32",
        [["return", 4]],
        [["return", 5]],
        "",
        [
            "call f(5) (event 3):",
            "    fake-b  5  0x00000005  0b00000000000000000000000000000101",
            "    fake-a  4  0x00000004  0b00000000000000000000000000000100",
        ],
    ),
    "sign-of-zero": ("i32 -> f64", [["return", 0]], [["return", 1 << 63]], "", ["    fake-b  -0.0  0x8000000000*"]),
    "nan-against-number": ("i32 -> f32", [["return", 0x7FC00000]], [["return", 0]], "", ["    fake-b  0.0 *"]),
    "trap-kind": (
        "i32 ->",
        [["trap", "UNREACHABLE"]],
        [["trap", "INTEGER_OVERFLOW"]],
        "",
        ["    fake-b  trap INTEGER_OVERFLOW", "    fake-a  trap UNREACHABLE"],
    ),
    "trap-against-value": (
        "i32 -> i32",
        FIVE,
        [["trap", "MEMORY_OUT_OF_BOUNDS"]],
        "",
        ["    fake-b  trap MEMORY_OUT_OF_BOUNDS", "    fake-a  5 *0x00000005*"],
    ),
    "one-host-call-more": ("i32 -> i32", [LOG, *FIVE], [LOG, LOG, *FIVE], "", ["    fake-b  host call env.log(5)"]),
    "one-host-call-less": ("i32 -> i32", [LOG, *FIVE], FIVE, "", ["    fake-a  host call env.log(5)"]),
    "order-of-host-calls": (
        "i32 -> i32",
        [LOG, WARN],
        [WARN, LOG],
        "",
        ["    fake-b  host call env.warn(5)", "    fake-a  host call env.log(5)"],
    ),
    "one-memory-byte": (
        "i32 ->",
        [["poke", "m", 70000, "07"]],
        [["poke", "m", 70000, "17"]],
        "",
        [
            "After the test, memory 'm' of instance 0 differs:",
            "    fake-b  2 pages; page 1 *",
            "The first byte that differs is at 0x11170; from 0x11170:",
            "    fake-b  17 00 00 00 *",
            "    fake-a  07 00 00 00 *",
        ],
    ),
    "a-byte-that-python-reads": (
        "i32 ->",
        [["poke", "m", 8, "07"]],
        [["poke", "m", 8, "17"]],
        "w.memory.read(0, 100)",
        ["read 0 m 0 100 (event 5):", "The first byte that differs is at 0x8; from 0x0:"],
    ),
    "memory-size": ("i32 ->", [], [["grow", "m", 1]], "", ["    fake-b  3 pages", "    fake-a  2 pages"]),
    "memory-size-that-python-asks-for": ("i32 ->", [], [["grow", "m", 1]], "w.memory.size", ["    fake-b  3"]),
    "global": (
        "i32 ->",
        [["set", "g", 1]],
        [["set", "g", 2]],
        "",
        ["After the test, global 'g' of instance 0 differs:", "    fake-b  2", "    fake-a  1"],
    ),
    "global-that-python-reads": (
        "i32 ->",
        [["set", "g", 1]],
        [["set", "g", 2]],
        "w.exports.g.value",
        ["    fake-b  2 *", "    fake-a  1 *"],
    ),
    "table-size": ("i32 ->", [], [["set", "t", 4]], "", ["    fake-b  4 elements", "    fake-a  3 elements"]),
    "a-row-of-map": (
        "i32 -> i32",
        ["sum"],
        FIVE,
        "w.exports.f.map([(5,), (6,)])",
        ["map of f over 2 rows (event 5):", "    fake-b  row 1: 5", "    fake-a  row 1: 6"],
    ),
}  # fmt: skip


def suite(signature: str, usual: Sequence[object], strange: Sequence[object], more: str) -> str:
    return SUITE.format(signature=signature, usual=usual, strange=strange, more=more)


@pytest.mark.parametrize(("signature", "usual", "strange", "more", "said"), DIVERGENCES.values(), ids=list(DIVERGENCES))
def test_is_red_and_says_who_and_where(
    fakes: pytest.Pytester,
    signature: str,
    usual: Sequence[object],
    strange: Sequence[object],
    more: str,
    said: Sequence[str],
) -> None:
    fakes.makepyfile(suite(signature, usual, strange, more))
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["fake-b against fake-a and fake-c:", *said])
    fakes.makepyfile(suite(signature, usual, usual, more) + "\n")
    fakes.runpytest(ALL).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("signature", "usual", "strange", "more"),
    [
        ("i32 -> f32", [["return", 0x7FC00000]], [["return", 0xFFC00001]], ""),
        ("i32 ->", [["set", "x", 0x7FC00000]], [["set", "x", 0xFFC00001]], ""),
        ("i32 ->", [["poke", "m", 8, "0000c07f"]], [["poke", "m", 8, "0100c0ff"]], ""),
        ("i32 ->", [["poke", "m", 8, "0000c07f"]], [["poke", "m", 8, "0100c0ff"]], "w.memory.read(0, 1000)"),
        ("i32 ->", [["poke", "m", 8, "0000c07f"]], [["poke", "m", 8, "0100c0ff"]], "w.memory.read_f32(8)"),
    ],
    ids=["result", "global", "memory", "long-read", "short-read"],
)
def test_nan_bits_are_red_for_strict_only(
    fakes: pytest.Pytester, signature: str, usual: Sequence[object], strange: Sequence[object], more: str
) -> None:
    fakes.makepyfile(suite(signature, usual, strange, more))
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["wasm: 1 tests agreed, 0 diverged, 0 not compared"])
    if usual[0][0] == "poke":  # type: ignore[index]
        result.stdout.fnmatch_lines(["wasm: *test_f[[]backends-agree[]]: memory 'm' of instance 0 differs in NaN bits"])
    fakes.runpytest(ALL, "--wasm-agree=strict").assert_outcomes(passed=3, failed=1)


LONG = """
    def test_long(wasm_instance):
        w = wasm_instance(WASM, imports={"env": {"log": lambda n: n, "warn": lambda n: n}})
        for number in range(6000):
            w.exports.f(number)
        w.exports.g.value = 1
"""


@pytest.mark.parametrize("plugins", [(), ("-p", "xdist.plugin", "-n2")], ids=["alone", "xdist"])
def test_a_difference_after_thousands_of_events_is_located(fakes: pytest.Pytester, plugins: tuple[str, ...]) -> None:
    """Beyond what travels on a report."""
    strange = [{"5000": [["return", 1]], "*": ["sum"]}]
    fakes.makepyfile(suite("i32 -> i32", ["sum"], [["pick", strange]], "") + LONG)
    result = fakes.runpytest(ALL, *plugins)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*test_long[[]backends-agree[]]*", "fake-b against *", "call f(5000) (event 10003):"])


def test_markers_that_hide_nothing_any_more_are_said(fakes: pytest.Pytester) -> None:
    text = suite("i32 ->", [["set", "g", 1]], [["set", "g", 2]], "")
    for marker, hides in (("globals=False", True), ("memory=False", None), ("'off'", True)):
        marked = text.replace("    def test_f", f"    @pytest.mark.wasm_agree({marker})\n    def test_f")
        fakes.makepyfile(marked)
        result = fakes.runpytest(ALL)
        result.assert_outcomes(passed=3, failed=0 if hides else 1)
        assert not any("hides nothing" in line for line in result.stdout.lines)
        fakes.makepyfile(marked.replace("[['set', 'g', 2]]", "[['set', 'g', 1 ]]"))
        fakes.runpytest(ALL).stdout.fnmatch_lines(
            [f"wasm: wasm_agree({marker}) of test_*::test_f[[]backends-agree[]] hides nothing any more"]
        )


def test_a_test_that_is_not_deterministic_is_a_warning_and_an_error_under_strict(fakes: pytest.Pytester) -> None:
    text = suite("i32 -> i32", ["sum"], ["sum"], "w.exports.f(ord(w._owner.connection.backend[-1]))")
    fakes.makepyfile(test_it=text)
    said = "call f(97) on fake-a, call f(98) on fake-b, call f(99) on fake-c"
    result = fakes.runpytest(ALL)
    assert result.parseoutcomes()["passed"] == 3  # older pytests have warnings of their own
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_f[[]backends-agree[]]",
            f"  test_it.py:*: PytestWarning: the test itself is not deterministic, nothing was compared: {said}",
        ]
    )
    strict = fakes.runpytest(ALL, "--wasm-agree=strict")
    strict.assert_outcomes(passed=3, failed=1)
    strict.stdout.fnmatch_lines([f"the test itself is not deterministic, an error under strict: {said}"])


@pytest.mark.parametrize(("told", "left"), [(observe.TOLD, 0), (10, 2)], ids=["short", "long"])
def test_local_files_go_with_the_session(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, told: int, left: int
) -> None:
    """What travels whole has none; what does not, until its group is judged."""
    monkeypatch.setattr(observe, "TOLD", told)
    monkeypatch.setenv("TMPDIR", str(fakes.path))
    monkeypatch.setattr("tempfile.tempdir", None)
    fakes.makepyfile(
        "    import tempfile\n    from pathlib import Path"
        + suite("i32 -> i32", ["sum"], ["sum"], "")
        + """

    @pytest.mark.parametrize("n", range(20))
    def test_many(wasm_instance, wasm_backend, n):
        test_f(wasm_instance)
        if (wasm_backend, n) == ("fake-c", 19):
            journals = [*Path(tempfile.gettempdir()).glob("pytest-wasmer-*/journals/*")]
            assert len(journals) == """
        + f"{left}, journals\n"
    )
    fakes.runpytest(ALL).assert_outcomes(passed=63)
    assert [path.name for path in fakes.path.glob("pytest-wasmer-*")] == []


MANY = """
    def test_many(wasm_instance):
        alive = []
        for number in range(1200):
            w = wasm_instance(WASM, imports={"env": {"log": lambda n: n, "warn": lambda n: n}})
            w.exports.f(number)
            alive.append(w)
"""


def test_what_many_instances_leave_is_located(fakes: pytest.Pytester) -> None:
    """More than travels on a report."""
    usual = [["poke", "m", 0, "01"], ["poke", "m", 70000, "02"], ["pick", [{"*": []}]]]
    strange = [*usual[:2], ["pick", [{"1100": [["poke", "m", 70001, "ff"]], "*": []}]]]
    fakes.makepyfile(suite("i32 ->", usual, strange, "") + MANY)
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(
        ["After the test, memory 'm' of instance 1100 differs:", "The first byte that differs is at 0x11171; *"]
    )


def test_one_that_travels_whole_and_one_that_does_not(fakes: pytest.Pytester) -> None:
    """The divergence makes the test shorter on one backend, so that all of it is told there."""
    fakes.makepyfile(
        """
    from fake_engine import function, module

    ODD = {"fake-b": [["return", 43]], "*": [["return", 42]]}
    WASM = module(exports={"same": function("i32 -> i32", ["sum"]), "odd": function("i32 -> i32", ODD)})

    def test_f(wasm_instance):
        w = wasm_instance(WASM).exports
        for number in range(2650):
            w.same(1000 + number)
        if w.odd(7) == 42:
            for number in range(600):
                w.same(1000 + number)
"""
    )
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["call odd(7) (event *):", "    fake-b  43 *"])


@pytest.mark.parametrize("limit", range(255, 335, 10))
def test_a_state_that_travels_whole_and_one_that_does_not(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """One backend leaves a page more, which may be what does not fit."""
    monkeypatch.setattr(observe, "STATE", limit)
    fakes.makepyfile(
        """
    from fake_engine import function, memory, module

    F = {"fake-b": [["poke", "n", 3 << 16, "01"]], "*": []}
    WASM = module(exports={"m": memory(4), "n": memory(4), "f": function("->", F)})

    def test_f(wasm_instance):
        w = wasm_instance(WASM).exports
        for page in range(4):
            w.m.write(page << 16, b"x")
            w.n.write((page % 3) << 16, b"x")
        w.f()
"""
    )
    result = fakes.runpytest(ALL)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["After the test, memory 'n' of instance 0 differs:"])


def test_hundreds_of_thousands_of_events_travel_as_a_few_digests() -> None:
    recorder = Recorder()
    recorder.begin("a")
    for number in range(300_000):
        recorder.note(("call", 0, "f", "i32", number))
        recorder.note(("result", "i32", number))
    content = recorder.end()
    assert content is not None
    observed = Observation.unpacked(content)
    assert observed.total == 600_000
    assert CHECKPOINTS // 2 <= len(observed.checkpoints) <= CHECKPOINTS + 1
    assert len(content) < 100_000
