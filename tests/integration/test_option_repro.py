"""--wasm-repro, PYTEST_WASMER_REPRO, wasm_repro: bundles of tests on which backends disagree."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.agreement.bundles.bundle import read
from pytest_wasmer.report import bundles
from tests.agreement.recordings import kinds

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_wasmer.agreement.bundles.bundle import Bundle

ALL = "--wasm-backends=fake-a,fake-b"
MODULE = """
    import pytest
    from fake_engine import module, function, memory

    WASM = module(exports={
        "m": memory(1),
        "odd": function("i32 -> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]}),
        "even": function("i32 -> i32", ["sum"]),
        "ask": function("i32 -> i32", [["host"]]),
    }, imports=[("env", "h", ["func", ["i32"], ["i32"]])])
    IMPORTS = {"env": {"h": lambda number: number}}
"""
TESTS = """
    def test_odd(wasm_instance): wasm_instance(WASM, IMPORTS).exports.odd(7)
    def test_even(wasm_instance): wasm_instance(WASM, IMPORTS).exports.even(7)
"""


@pytest.fixture
def project(fakes: pytest.Pytester) -> pytest.Pytester:
    fakes.makepyfile(test_it=MODULE + TESTS)
    return fakes


def written(project: pytest.Pytester) -> list[Bundle]:
    return [read(place) for place in sorted(project.path.glob(".wasm-repro/*-*"))]


def titles(project: pytest.Pytester) -> list[str]:
    return [bundle.title.partition("::")[2] for bundle in written(project)]


def test_on_failure(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL)
    (bundle,) = written(project)
    assert bundle.title == "test_it.py::test_odd[backends-agree]"
    assert (bundle.variants, bundle.artifacts, bundle.recording.cut) == (["fake-a", "fake-b"], "cached", "")
    assert kinds(bundle.recording.events) == "new made call result"
    (place,) = project.path.glob(".wasm-repro/*-*")
    lines = result.stdout.lines
    at = lines.index(f"Repro: pytest-wasmer repro .wasm-repro/{place.name}")
    assert lines[at + 1].startswith("Again: pytest ")
    observed = json.loads((place / "observed.json").read_text())
    assert observed["text"] == lines[lines.index("fake-a against fake-b: they disagree") : at]
    assert observed["engines"].keys() == {"fake-a", "fake-b"}


def test_a_second_run_writes_the_same(project: pytest.Pytester) -> None:
    project.runpytest(ALL)
    before = [place.name for place in project.path.glob(".wasm-repro/*")]
    project.runpytest(ALL)
    assert [place.name for place in project.path.glob(".wasm-repro/*")] == before


def test_always(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "--wasm-repro=always").stdout.fnmatch_lines(["wasm: * repro always (from --wasm-repro)*"])
    assert titles(project) == ["test_even[backends-agree]", "test_odd[backends-agree]"]


@pytest.mark.parametrize("options", [("--wasm-repro=off",), ("--wasm-agree=off", "--wasm-repro=always")])
def test_off(project: pytest.Pytester, options: tuple[str, ...]) -> None:
    result = project.runpytest(ALL, *options)
    assert not (project.path / ".wasm-repro").exists()
    result.stdout.no_fnmatch_line("*repro .wasm*")


def test_nothing_where_nothing_is_compared(project: pytest.Pytester) -> None:
    project.runpytest("--wasm-backends=fake-a", "--wasm-repro=always")
    project.runpytest(ALL, "-k", "fake-a", "--wasm-repro=always")
    assert not (project.path / ".wasm-repro").exists()


def test_precedence(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.makeini("[pytest]\nwasm_repro = off")
    project.runpytest(ALL)
    assert titles(project) == []
    monkeypatch.setenv("PYTEST_WASMER_REPRO", "on-failure")
    project.runpytest(ALL)
    assert titles(project) == ["test_odd[backends-agree]"]
    project.runpytest(ALL, "--wasm-repro=always")
    assert len(titles(project)) == 2


def test_unknown_values(project: pytest.Pytester) -> None:
    result = project.runpytest(ALL, "--wasm-repro=allways")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --wasm-repro: 'allways' is unknown. Did you mean 'always'? Known: on-failure, always, off."]
    )


def test_junit(project: pytest.Pytester, tmp_path: Path) -> None:
    project.runpytest(ALL, f"--junitxml={tmp_path / 'out.xml'}")
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()[0]
    found = {case.get("name"): [dict(item.attrib) for item in case.iter("property")] for case in suite}
    (place,) = project.path.glob(".wasm-repro/*-*")
    value = [{"name": "wasm_repro", "value": f".wasm-repro/{place.name}"}]
    assert {name: properties for name, properties in found.items() if properties} == {"test_odd[backends-agree]": value}


def test_under_xdist(project: pytest.Pytester) -> None:
    project.runpytest(ALL, "-p", "xdist.plugin", "-n2")
    (bundle,) = written(project)
    assert (bundle.title, bundle.recording.cut) == ("test_it.py::test_odd[backends-agree]", "")


def test_the_path_is_the_one_to_type_where_pytest_was_started(project: pytest.Pytester) -> None:
    project.makeini("[pytest]")
    sub = project.mkdir("a b")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sub)
        result = project.runpytest(ALL, "..")
    result.stdout.fnmatch_lines(["Repro: pytest-wasmer repro ../.wasm-repro/test_it-test_odd-*"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a path within a file to be NotADirectory")
def test_a_directory_that_cannot_be_written(project: pytest.Pytester) -> None:
    (project.path / ".wasm-repro").write_text("a file")
    result = project.runpytest(ALL)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["Repro: none, *.wasm-repro cannot be written: File exists", "Again: *"])


def test_a_limit_for_failures(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "LIMIT", 0)
    project.runpytest(ALL).stdout.fnmatch_lines(["Repro: none, 0 were written (--wasm-repro=always writes all)"])
    assert titles(project) == []
    project.runpytest(ALL, "--wasm-repro=always")
    assert len(titles(project)) == 2


# What is in them


def only(project: pytest.Pytester, test: str, *options: str) -> tuple[Bundle, pytest.RunResult]:
    """The one bundle of a run of this test."""
    project.makepyfile(test_it=MODULE + test)
    result = project.runpytest(ALL, *options)
    (bundle,) = written(project)
    return bundle, result


def test_parameters_level_and_kinds_of_code(fakes: pytest.Pytester) -> None:
    test = """
    @pytest.mark.wasm_agree("strict", memory=False, reason="padding")
    @pytest.mark.parametrize("n", [3])
    def test_some(wasm_instance, n): wasm_instance(WASM, IMPORTS).exports.odd(n)
    """
    bundle, _ = only(fakes, test, "--wasm-artifacts=both")
    assert bundle.title == "test_it.py::test_some[3-backends-agree]"
    assert bundle.artifacts == "both"
    assert bundle.level == (True, False, True, True)
    assert bundle.variants == ["fake-a-fresh", "fake-a-reloaded", "fake-b-fresh", "fake-b-reloaded"]


def test_host_functions_with_all_that_they_do(fakes: pytest.Pytester) -> None:
    test = """
    from pytest_wasmer import Caller
    def test_asks(wasm_instance):
        def h(caller: Caller, number):
            caller.memory.write(0, bytes(range(100)))
            return caller.exports.even(number) + 1
        w = wasm_instance(WASM, {"env": {"h": h}})
        assert w.exports.ask(1) == 2
        w.exports.odd(1)
        w.exports.even(1)
    """
    bundle, _ = only(fakes, test)
    assert kinds(bundle.recording.events) == "new made call host write call result return result call result"
    assert [*bundle.recording.data.values()] == [bytes(range(100))]
    assert bundle.recording.cut == ""


PAST = """
    @pytest.fixture(scope="module")
    def w(wasm_instance):
        w = wasm_instance(WASM, IMPORTS)
        w.memory.write(0, b"made")
        return w

    def test_first(w): w.exports.even(1)
    def test_other(wasm_instance): wasm_instance(WASM, IMPORTS)
    def test_second(w): w.exports.even(2)
    def test_third(w): w.exports.odd(3)
"""


@pytest.mark.parametrize("plugins", [(), ("-p", "xdist.plugin", "-n2", "--dist=loadfile")], ids=["alone", "xdist"])
def test_instances_with_a_past(fakes: pytest.Pytester, plugins: tuple[str, ...]) -> None:
    """Also where the test is the last one of its module, so that nothing lives when it is judged."""
    bundle, _ = only(fakes, PAST, *plugins)
    assert bundle.title == "test_it.py::test_third[backends-agree]"
    assert bundle.recording.cut == ""
    calls = [event[4] for event in bundle.recording.events if event[0] == "call"]
    assert (calls, kinds(bundle.recording.events[:3])) == ([1, 2, 3], "new made write")


SHORT_AND_LONG = """
    @pytest.fixture(scope="module")
    def w(wasm_instance):
        return wasm_instance(WASM, IMPORTS)

    def test_first(w): w.exports.even(1)
    def test_long(w):
        for number in range(60): w.exports.even(2 * number)
    def test_second(w): w.exports.even(2)
    def test_third(w): w.exports.odd(3)
"""
LONG = [*range(0, 120, 2)]


@pytest.mark.parametrize("first", [[1], []], ids=["short first", "long first"])
def test_short_and_long_pasts_in_their_order(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, first: list[int]
) -> None:
    monkeypatch.setattr("pytest_wasmer.agreement.observe.TOLD", 1000)
    test = SHORT_AND_LONG if first else SHORT_AND_LONG.replace("    def test_first(w): w.exports.even(1)\n", "")
    bundle, _ = only(fakes, test)
    assert bundle.recording.cut == ""
    assert [event[4] for event in bundle.recording.events if event[0] == "call"] == [*first, *LONG, 2, 3]


def test_a_past_is_missing_where_files_have_one_name_only(
    fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("pytest_wasmer.agreement.observe.TOLD", 1000)
    monkeypatch.setattr("os.link", refuse)
    bundle, _ = only(fakes, SHORT_AND_LONG)
    assert bundle.recording.cut.startswith("what was done in earlier tests is not at hand")


def test_the_past_of_an_instance_that_dies_in_the_test(fakes: pytest.Pytester) -> None:
    test = """
    @pytest.fixture(scope="module")
    def held(wasm_instance): return [wasm_instance(WASM, IMPORTS)]

    def test_first(held): held[0].exports.even(1)
    def test_second(held): held.pop().exports.odd(3)
    """
    bundle, _ = only(fakes, test)
    assert bundle.recording.cut == ""
    assert [event[4] for event in bundle.recording.events if event[0] == "call"] == [1, 3]


def test_a_past_that_is_too_long_to_travel(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it has a file of its own, which outlives the group that it was judged with."""
    monkeypatch.setattr("pytest_wasmer.agreement.observe.TOLD", 50)
    bundle, _ = only(fakes, PAST)
    assert bundle.recording.cut == ""
    assert [event[4] for event in bundle.recording.events if event[0] == "call"] == [1, 2, 3]


def test_a_past_that_is_not_at_hand(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As there was too much of it. Said in the failure, too."""
    monkeypatch.setattr("pytest_wasmer.runtime.blobs.LIMIT", 1)
    bundle, result = only(fakes, PAST)
    why = "an instance was made in an earlier test, which is not at hand"
    assert bundle.recording.cut == why
    assert re.search(r"Repro: .*-\w{10} \(the recording was cut: " + why, result.stdout.str())


def test_a_module_without_wasm(fakes: pytest.Pytester) -> None:
    test = """
    def test_loaded(wasm_module, tmp_path):
        wasm_module(WASM).save(tmp_path / "m")
        wasm_module.load_artifact(tmp_path / "m").instantiate(IMPORTS).exports.odd(1)
    """
    bundle, result = only(fakes, test)
    assert bundle.recording.events == []
    result.stdout.fnmatch_lines(
        ["Repro: * (the recording was cut: the Wasm of module * (loaded from an artifact, say))"]
    )


def test_a_journal_that_was_cut(fakes: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_wasmer.agreement import local

    monkeypatch.setattr(local, "JOURNAL_LIMIT", 200)
    monkeypatch.setattr("pytest_wasmer.agreement.observe.TOLD", 200)
    test = """
    def test_long(wasm_instance):
        w = wasm_instance(WASM, IMPORTS)
        for _ in range(2000): w.exports.even(1)
        w.exports.odd(1)
    """
    bundle, _ = only(fakes, test)
    assert bundle.recording.cut == "only the first events are at hand"
