"""Runs as files, and their comparison."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.agreement import runs
from pytest_wasmer.agreement.compare import compare
from pytest_wasmer.agreement.events import canonical_digests
from pytest_wasmer.agreement.judge import OTHER_HISTORY
from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.runs import Member, Run
from pytest_wasmer.agreement.verdict import Level
from pytest_wasmer.runtime.blobs import digest_of
from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_wasmer.agreement.events import Event

GROUP, NAME = "test_it.py::test_x[3-backends-agree]", "test_it.py::test_x[3]"
NEW: list[Event] = [("new", 0, "d1", []), ("made",)]
CALL: Event = ("call", 0, "f", "i32", 7)


def member(variant: str, *events: Event, state: list[Event] | None = None, **more: Any) -> Member:
    told = more.get("told", [*NEW, CALL, *events])
    observed = Observation(variant, told, len(told), [], state or [], "")
    return Member(
        f"test_it.py::test_x[{variant}-3]", more.get("outcome", "passed"), more.get("level", Level()), observed
    )


def run(*members: Member, canonical: dict[tuple[str, int], str] | None = None, group: str = GROUP) -> Run:
    found = {one.observed.variant if one.observed else "llvm": one for one in members}
    return Run({}, {group: found} if members else {}, canonical or {})


def result(bits: int, types: str = "i32") -> Event:
    return ("result", types, bits)


def test_equal_runs_agree() -> None:
    found = compare({"a": run(member("llvm", result(1))), "b": run(member("llvm", result(1)))})
    assert found == ([NAME], {}, {}, {}, [])


def test_a_divergence_names_runs_and_variants() -> None:
    found = compare(
        {
            "x86": run(member("llvm", result(1)), member("cranelift", result(1))),
            "arm": run(member("llvm", result(2)), member("cranelift", result(1))),
        }
    )
    assert list(found.diverged) == [NAME]
    assert found.diverged[NAME].splitlines() == [
        "arm llvm against x86 llvm, x86 cranelift and arm cranelift:",
        "call f(7) (event 3):",
        "    arm llvm       2  0x00000002  0b00000000000000000000000000000010",
        "    x86 llvm       1  0x00000001  0b00000000000000000000000000000001",
        "    x86 cranelift  1  0x00000001  0b00000000000000000000000000000001",
        "    arm cranelift  1  0x00000001  0b00000000000000000000000000000001",
        "Again: pytest 'test_it.py::test_x[llvm-3]' 'test_it.py::test_x[cranelift-3]'",
    ]


def test_variants_that_only_one_run_has_take_part() -> None:
    found = compare({"a": run(member("llvm", result(1))), "b": run(member("singlepass", result(2)))})
    assert found.diverged[NAME].startswith("a llvm against b singlepass: they disagree")


def test_only_in_one_run() -> None:
    other = run(member("llvm", result(1)), group="test_it.py::test_y[backends-agree]")
    found = compare({"a": run(member("llvm", result(1))), "b": other})
    assert found.alone == {NAME: "a", "test_it.py::test_y": "b"}
    assert not found.agreed


def test_three_runs() -> None:
    one = run(member("llvm", result(1)))
    assert compare({"a": one, "b": run(), "c": one}).agreed == [NAME]
    assert (
        compare({"a": one, "b": run(member("llvm", result(2))), "c": one}).diverged[NAME].startswith("b llvm against")
    )


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (member("llvm", result(2), outcome="failed"), "did not pass: b llvm (failed)"),
        (member("llvm", result(2), level=None), "told not to compare"),
        (member("llvm", told=[("new", 0, "d2", []), ("made",)]), "other modules were tested"),
        (member("llvm", told=[("use", 0, "d1", "aa"), CALL]), OTHER_HISTORY),
        (member("llvm", result(1))._replace(observed=None), "Wasm was asked on some backends only"),
        (
            member("llvm", told=[*NEW, ("call", 0, "f", "i32", 8), result(1)]),
            "the test itself is not deterministic: call f(7) on a llvm, call f(8) on b llvm",
        ),
        (member("llvm", ("trap", "STACK_OVERFLOW")), "the stack was exhausted on b llvm, *"),
    ],
)
def test_not_compared(other: Member, reason: str) -> None:
    history = reason == OTHER_HISTORY
    one = member("llvm", told=[("use", 0, "d1", "bb"), CALL]) if history else member("llvm", result(1))
    found = compare({"a": run(one), "b": run(other)})
    assert found.incomparable[NAME].startswith(reason.rstrip("*"))
    assert not found.agreed
    assert not found.diverged


NAN, OTHER_NAN = 0x7FC00000, 0xFFC00001


@pytest.mark.parametrize(("one", "other", "agreed"), [(Level(), Level(), True), (Level(strict=True), Level(), True)])
def test_what_all_runs_ask_for_counts(one: Level, other: Level, agreed: bool) -> None:
    members = [member("llvm", result(bits, "f32"), level=level) for bits, level in ((NAN, one), (OTHER_NAN, other))]
    assert bool(compare({"a": run(members[0]), "b": run(members[1])}).agreed) == agreed
    strict = [found._replace(level=Level(strict=True)) for found in members]
    assert compare({"a": run(strict[0]), "b": run(strict[1])}).diverged


PAGES = [struct.pack("<I", bits).ljust(65536, b"x") for bits in (NAN, OTHER_NAN, 0x7F800000)]


def left(content: bytes, *, at_hand: bool = True, level: Level = Level(), last: int = 1) -> Run:  # noqa: B008
    """A run whose test reads 100 bytes, and leaves a page."""
    whole, part = digest_of(content), digest_of(content[:100])
    state: list[Event] = [("state", 0, "m", "memory", "1", "1", f"0={whole}")]
    events = [("read", 0, "m", 0, 100), ("data", 0, f"100 bytes {part}"), CALL, result(last)]
    known = {whole: content, part: content[:100]}
    canonical = canonical_digests([(whole, 0), (part, 0)], lambda digests: known) if at_hand else {}
    return run(member("llvm", result(1), *events, state=state, level=level), canonical=canonical)


def test_nan_bits_in_memories() -> None:
    one, other, infinite = (left(content) for content in PAGES)
    found = compare({"a": one, "b": other})
    assert (found.agreed, found.notes) == ([NAME], [f"{NAME} differs in NaN bits of memories"])
    assert compare({"a": one, "b": one}).notes == []
    assert compare({"a": one, "b": infinite}).diverged
    assert compare({"a": one, "b": left(PAGES[1], at_hand=False)}).diverged
    strict = [left(content, level=Level(strict=True)) for content in PAGES[:2]]
    assert compare({"a": strict[0], "b": strict[1]}).diverged
    assert (
        compare({"a": left(PAGES[0]), "b": left(PAGES[1], last=2)}).diverged[NAME].splitlines()[1]
        == "call f(7) (event 7):"
    )


# Files


def written(tmp_path: Path, **changes: Any) -> Path:
    one = member("llvm", result(1))
    assert one.observed is not None
    test = {"test": one.test, "group": GROUP, "variant": "llvm", "outcome": "passed", "level": [*Level()]}
    test["observation"] = base64.b64encode(one.observed.packed()).decode()
    content = {
        "pytest-wasmer run": 1,
        "environment": {},
        "tests": [{**test, **changes.pop("test", {})}],
        "canonical": {"ab@3": "cd"},
    }
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    found = runs.read(written(tmp_path))
    assert found.groups == {GROUP: {"llvm": member("llvm", result(1))}}
    assert found.canonical == {("ab", 3): "cd"}
    assert runs.read(written(tmp_path, test={"observation": "", "level": None})).groups[GROUP]["llvm"][2:] == (
        None,
        None,
    )
    assert runs.read(written(tmp_path, test={"group": ""})).groups == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pytest-wasmer run": 2}, "is of a newer version (2, this pytest-wasmer reads 1)\nTo read it: pip install *"),
        ({"pytest-wasmer run": "1"}, "is no run report: it has no 'pytest-wasmer run'; *"),
        ({"tests": 3}, "is damaged: *"),
        ({"tests": [3]}, "is damaged: *"),
        ({"canonical": []}, "is damaged: *"),
        ({"environment": 1}, "is damaged: *"),
        ({"test": {"observation": "!"}}, "is damaged: *"),
        ({"test": {"observation": "AAAA"}}, "is damaged: *"),
        ({"test": {"level": [1]}}, None),
        ({"test": {"level": 1}}, "is damaged: *"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, changes: dict[str, Any], said: str | None) -> None:
    path = written(tmp_path, **changes)
    if said is None:
        runs.read(path)
        return
    with pytest.raises(WasmError) as raised:
        runs.read(path)
    assert str(raised.value).startswith(f"{path} {said.rstrip('*')}")


@pytest.mark.parametrize("content", ["", "[" * 100_000, "null", "[]", "\xff"])
def test_files_that_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(WasmError, match="is no run report"):
        runs.read(path)


@pytest.mark.parametrize("event", [(), ("new",), ("result", 3), ("result", "f32", "x"), ("trap",), ("data", 0, 7)])
def test_an_observation_that_makes_no_sense(event: Event) -> None:
    with pytest.raises(WasmError, match=r"an observation of .* is damaged"):
        compare({"a": run(member("llvm", event)), "b": run(member("llvm", result(1)))})
