"""Which backends a test runs on, and in which order."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer import checking, markers, settings
from pytest_wasmer.fixtures import ALL, FIXTURE
from pytest_wasmer.variants import backend_in, variant, variants_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_wasmer.engines.registry import Availability, Registry
    from pytest_wasmer.settings import Setting

GROUPS = ("all", "available")


class Selection:
    """`names` in the fixed order; `missing`, what was asked for by `available` and does not work here.

    `codes`: what to run on each backend, one of it without a name unless there are several.
    """

    def __init__(self, names: list[str], missing: list[Availability], codes: tuple[str, ...] = ("",)) -> None:
        self.names = names
        self.missing = missing
        #: What a test runs on, as its id says: a backend, or "llvm-fresh".
        self.variants = [variant(name, code) for name in names for code in codes]


def select(setting: Setting, registry: Registry, codes: tuple[str, ...] = ("",)) -> Selection:
    """The backends of this run. Raises UsageError for an unknown name, and for a named one that does not work here."""
    from pytest_wasmer.engines.registry import COMPILERS

    place = settings.where(settings.BACKENDS, setting)
    asked = checking.words(setting.value)
    if not asked:
        raise pytest.UsageError(
            f"{place} names no backend. Known: {', '.join(registry.names)}; special: all, available."
        )
    for name in asked:
        if name not in registry.names and name not in GROUPS:
            known = [*registry.names, *GROUPS]
            raise pytest.UsageError(
                f"{place}: backend {checking.unknown(name, known)} Known: {', '.join(registry.names)}; "
                f"special: {', '.join(GROUPS)}."
            )
    required = {name for word in asked for name in (COMPILERS if word == "all" else (word,)) if name not in GROUPS}
    wanted = required | set(COMPILERS if "available" in asked else ())
    found = [registry.availability(name) for name in registry.names if name in wanted]
    missing = [item for item in found if not item.works]
    working = [item.spec.name for item in found if item.works]
    lacking = [item for item in missing if item.spec.name in required]
    if lacking:
        raise pytest.UsageError(
            f"{place}={setting.value} needs what does not work here.\n{_remedies(lacking, working)}"
        )
    return Selection(working, missing, codes)


def _remedies(missing: Sequence[Availability], working: Sequence[str]) -> str:
    lines = [f"    {item.spec.name}: {item.reason}\n        {item.remedy}" for item in missing]
    if working:
        lines.append(f"Or run what works ({', '.join(working)}): --wasm-backends=available")
    return "\n".join(lines)


def refuse_other_python(isolation: Setting, selection: Selection, registry: Registry) -> None:
    """Raises UsageError if native code is to run in this process and a backend needs another Python."""
    specs = [registry.spec(name) for name in selection.names]
    elsewhere = [spec for spec in specs if not _is_this_python(spec.python)]
    if elsewhere:
        names = ", ".join(spec.name for spec in elsewhere)
        raise pytest.UsageError(
            f"{settings.where(settings.ISOLATION, isolation)}=none runs native code in this Python, {sys.executable}, "
            f"and {names} need {elsewhere[0].python}: {registry.interpreter.origin}.\n"
            f"    Use --wasm-isolation=process, or run the tests with that Python."
        )


def _is_this_python(executable: str) -> bool:
    """By the directory, too: the interpreters of all virtual environments are links to one file."""
    here = os.path.dirname(sys.executable) == os.path.dirname(executable)
    return executable == sys.executable or (here and os.path.samefile(executable, sys.executable))


def no_backend(selection: Selection) -> str:
    """Why no Wasm test can run here."""
    return f"no Wasm backend works here:\n{_remedies(selection.missing, [])}"


def parametrize(metafunc: pytest.Metafunc, selection: Callable[[], Selection], known: Sequence[str]) -> None:
    """Let a test that uses `wasm_backend` run on each backend. Backend first in the id, also if there is one only.

    Raises CollectError for wrong markers, for overrides of the fixture, and where no backend works.
    """
    if FIXTURE not in metafunc.fixturenames:
        return
    item = metafunc.definition
    _refuse_overrides(metafunc)
    said = markers.said(item, known)
    chosen = selection()
    if not chosen.names:
        raise pytest.Collector.CollectError(no_backend(chosen))
    params = []
    for shown in chosen.variants:
        name = backend_in(shown)
        marks = [pytest.mark.skip(reason=str(rule)) for rule in said.restrictions if rule.excludes(name)][:1]
        if name in said.xfails:
            marks.append(pytest.mark.xfail(reason=said.xfails[name], strict=True))
        params.append(pytest.param(shown, id=shown, marks=marks))
    metafunc.parametrize(FIXTURE, params, indirect=True, scope="session")


def _refuse_overrides(metafunc: pytest.Metafunc) -> None:
    """The factories are cached for the session: another `wasm_backend` of one test would leak into the others."""
    item = metafunc.definition
    remedy = f"choose backends by marker: @pytest.mark.wasm_backends('llvm') ({item.nodeid})"
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if FIXTURE in ([name.strip() for name in names.split(",")] if isinstance(names, str) else names):
            raise pytest.Collector.CollectError(f"{FIXTURE} cannot be parametrized; {remedy}")
    if len(metafunc._arg2fixturedefs.get(FIXTURE, ())) > 1:
        raise pytest.Collector.CollectError(f"fixture {FIXTURE} cannot be overridden; {remedy}")


def variant_of(item: pytest.Item) -> str | None:
    """What a test is parametrized with: its backend, or that and what runs on it."""
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get(FIXTURE) if callspec is not None else None
    return name if isinstance(name, str) else None


def asks_all(item: pytest.Item) -> bool:
    """Whether a test says that it uses `wasm_all`, itself or through fixtures."""
    return ALL in getattr(item, "fixturenames", ())


def left_to(item: pytest.Item, selection: Selection, known: Sequence[str]) -> list[str]:
    """Of what is selected, what the markers of a test leave. Raises CollectError for wrong ones."""
    return left_by(markers.said(item, known), selection)


def left_by(said: markers.Said, selection: Selection) -> list[str]:
    """Of what is selected, what markers leave."""
    if not said.restrictions:
        return selection.variants
    return [
        name for name in selection.variants if not any(rule.excludes(backend_in(name)) for rule in said.restrictions)
    ]


def only_variant(item: pytest.Item, selection: Selection, known: Sequence[str]) -> str:
    """What a test runs on that cannot be parametrized: the only one that its markers and the selection leave.

    Skips where they leave none; fails where they leave a choice, since the first one would be a silent one.
    """
    left = left_to(item, selection, known)
    if not selection.names:
        pytest.fail(no_backend(selection), pytrace=False)
    if not left:
        pytest.skip(nothing_left(item, selection, known))
    if len(left) > 1:
        pytest.fail(_choice_text(item, left), pytrace=False)
    return left[0]


def nothing_left(item: pytest.Item, selection: Selection, known: Sequence[str]) -> str:
    """Why a test is skipped whose markers leave nothing of what is selected."""
    return f"{markers.said(item, known).restrictions[0]} (selected: {', '.join(selection.names)})"


def _choice_text(item: pytest.Item, left: Sequence[str]) -> str:
    import doctest
    import unittest

    said = f"{item.nodeid} asks for a Wasm fixture but does not run on each backend ({', '.join(left)})"
    cls = getattr(item, "cls", None)
    if isinstance(cls, type) and issubclass(cls, unittest.TestCase):
        one = f"@pytest.mark.wasm_backends({backend_in(left[0])!r})"
        if len({backend_in(name) for name in left}) < len(left):
            one += " and run with --wasm-artifacts=cached"
        return f"{said}: a TestCase cannot be parametrized\nUse a plain class, or say {one}"
    if isinstance(getattr(item, "dtest", None), doctest.DocTest):
        return f"{said}: a doctest cannot be parametrized\nRun it on one: --wasm-backends={backend_in(left[0])}"
    return (
        f"{said}: it is requested by getfixturevalue\n"
        f"Name the fixture in the test's signature, or add @pytest.mark.usefixtures({FIXTURE!r})"
    )


def mark_unparametrized(
    items: Sequence[pytest.Item], selection: Callable[[], Selection], known: Callable[[], Sequence[str]]
) -> None:
    """Markers that count on one backend: `wasm_xfail` of tests that cannot be parametrized, and late markers.

    And `wasm_backends` that leaves none to a test that would ask all.
    """
    for item in items:
        shown = variant_of(item)
        if shown is not None:
            _mark_late(item, backend_in(shown), known())
        elif asks_all(item):
            _skip_without_backend(item, selection(), known())
        elif item.get_closest_marker("wasm_xfail") is not None:
            left = left_to(item, selection(), known())
            reason = markers.said(item, known()).xfails.get(backend_in(left[0])) if len(left) == 1 else None
            if reason:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _skip_without_backend(item: pytest.Item, selection: Selection, known: Sequence[str]) -> None:
    try:
        left = left_to(item, selection, known)
    except pytest.Collector.CollectError:
        return  # too late to be one: see `said_late`
    if not left:
        item.add_marker(pytest.mark.skip(reason=nothing_left(item, selection, known)))


def _mark_late(item: pytest.Item, backend: str, known: Sequence[str]) -> None:
    """Markers that `parametrize` could not see: of `pytest.param`, or added by hooks."""
    try:
        said = markers.said(item, known)
    except pytest.Collector.CollectError:
        return  # too late to be one: see `said_late`
    excluding = [rule for rule in said.restrictions if rule.excludes(backend)]
    reason = said.xfails.get(backend)
    if excluding and item.get_closest_marker("skip") is None:
        item.add_marker(pytest.mark.skip(reason=str(excluding[0])))
    if reason and not any(mark.kwargs.get("reason") == reason for mark in item.iter_markers("xfail")):
        item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def said_late(item: pytest.Item, known: Sequence[str]) -> markers.Said:
    """What the markers of a test say that is about to run. Fails it for late ones that are wrong."""
    try:
        return markers.said(item, known)
    except pytest.Collector.CollectError as error:
        pytest.fail(str(error), pytrace=False)


def in_mirror_order(items: list[pytest.Item], known: Callable[[], Sequence[str]]) -> list[pytest.Item]:
    """By file, then backend, then the same order of tests in each backend; files without Wasm tests stay as they are.

    Backends keep together within a file, so that its fixtures are set up once per backend, and instances
    shared between tests have the same history on each backend, also in random order.
    """
    backends = [variant_of(item) for item in items]
    if not any(backends):
        return items
    ranks = {name: rank for rank, name in enumerate(variants_of(known()))}
    several = len({*backends} - {None}) > 1
    files: dict[object, int] = {}
    tests: dict[object, int] = {}
    keys = []
    begun = set()
    for item, backend in zip(items, backends, strict=True):
        if backend is not None:
            begun.add(item.path)
            rank = ranks[backend]
        else:  # before or behind the file's Wasm tests, as it stands
            rank = len(ranks) if item.path in begun else -1
        test = tests.setdefault(_test_of(item, backend) if several else item.nodeid, len(tests))
        keys.append((files.setdefault(item.path, len(files)), rank, test))
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]


def group_of(nodeid: str, variant: str) -> str:
    """The id of what a test is on all its variants: "test_x[backends-agree]", "test_x[3-backends-agree]"."""
    base, _, parameters = nodeid.partition("[")
    others = f"-{parameters[:-1]}-".replace(f"-{variant}-", "-", 1)[1:-1]
    return f"{base}[{others}-backends-agree]" if others else f"{base}[backends-agree]"


def _test_of(item: pytest.Item, backend: str | None) -> str:
    """What is the same for one test on each backend: its id without the backend.

    Not `callspec.indices`: pytest counts a parameter's values over all backends there.
    """
    if backend is None:
        return item.nodeid
    base, _, parameters = item.nodeid.partition("[")
    return base + f"[-{parameters[:-1]}-".replace(f"-{backend}-", "-", 1)
