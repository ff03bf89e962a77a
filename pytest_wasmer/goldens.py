"""Goldens in a pytest session: checked where a test runs, written where reports arrive."""

from __future__ import annotations

import shlex
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_wasmer import selection
from pytest_wasmer.agreement import FOLDER, golden
from pytest_wasmer.agreement.groups import DIFFERENT, MISSING, REBUILT, SAME, test_name
from pytest_wasmer.agreement.judge import EXHAUSTED, UNKNOWN
from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.verdict import AGREED, Level, nothing_at_hand
from pytest_wasmer.fixtures import GOLDEN
from pytest_wasmer.report.agreement import Normalizer
from pytest_wasmer.report.table import counted
from pytest_wasmer.settings import BACKENDS, UPDATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_wasmer import markers
    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.groups import GoldenMark, Judged, Membership
    from pytest_wasmer.agreement.local import Local
    from pytest_wasmer.agreement.verdict import Verdict
    from pytest_wasmer.settings import Settings

    Normalize = Callable[[str, list[Event]], list[Event]]

LISTED = 10
DEEP = "it exhausts the stack, at a depth that differs between compilers and machines"


def uses(item: pytest.Item) -> bool:
    """Whether a test's observation is to be that of a golden."""
    return GOLDEN in getattr(item, "fixturenames", ())


def path_of(item: pytest.Item) -> Path:
    """The golden of a test, the same on all its backends."""
    group = selection.group_of(item.nodeid, selection.variant_of(item) or "")
    return golden.folder_of(item.path) / golden.file_name(test_name(group))


class Goldens:
    """One per session. `local`: gives its local files."""

    def __init__(self, config: pytest.Config, settings: Settings, local: Callable[[], Local | None]) -> None:
        self._config = config
        self._settings = settings
        self._local = local
        self._normalize = Normalizer(config)
        #: Files that no test uses, relative to rootdir; all workers of xdist say the same.
        self.unused: list[str] = []

    @cached_property
    def update(self) -> Update:
        """Used where reports arrive."""
        return Update(self._config.rootpath, self._settings.update.value, self._normalize, self._local())

    def path(self, item: pytest.Item | None) -> Path:
        """Where the golden of the running test is. Fails the test if it cannot have one."""
        if item is None or not uses(item):
            _fail(f"{GOLDEN}: name it in the signature of a test function, or of a fixture of it")
        return path_of(item)

    def check(self, item: pytest.Item, membership: Membership | None, said: markers.Agreement) -> None:
        """Fails a test where its golden says something else. What was found travels with the membership."""
        __tracebackhide__ = True
        strict = (said.level or self._settings.agree.value) == "strict"
        level = Level(strict, said.memory, said.globals, said.host_calls)
        check = Check(self._config.rootpath, self._settings, self._normalize, self._local())
        mark = check(item, selection.variant_of(item), membership["observed"] if membership else b"", level)
        if membership is not None:
            membership["golden"] = mark

    # Goldens that no test uses

    def collected(self, session: pytest.Session, deselected: set[Path]) -> None:
        """Of tests that were not collected nothing can be said. `deselected`: files some tests of which do not run."""
        if session.testsfailed or self._config.getoption("lf", False):
            return
        files = {item.path for item in session.items}
        partial = deselected | partly_named(self._config.args, files)
        self.unused = unused(session.items, partial, self._config.rootpath)

    def lines(self) -> list[str]:
        """For the summary."""
        if not self.unused:
            return self.update.lines()
        shown = shlex.join(["rm", *self.unused[:LISTED]])
        more = [f"    and {len(self.unused) - LISTED} more"] if len(self.unused) > LISTED else []
        return [*self.update.lines(), f"wasm: {counted(len(self.unused), 'golden')} without a test: {shown}", *more]


class Check:
    """Compares what a test let be seen with its golden, where the test runs."""

    def __init__(self, rootpath: Path, settings: Settings, normalize: Normalize, local: Local | None) -> None:
        self._rootpath = rootpath
        self._settings = settings
        self._normalize = normalize
        self._local = local

    def __call__(self, item: pytest.Item, variant: str | None, content: bytes, level: Level) -> GoldenMark:
        """What was found. Fails the test where its golden is missing, says something else, or cannot be there.

        `content`: a packed observation, or b"".
        """
        __tracebackhide__ = True
        if variant is None:
            _fail(f"{GOLDEN} in {item.nodeid}: name it in the signature of a test function that runs on each backend")
        if not content:
            _fail(f"{GOLDEN} in {item.nodeid}: nothing was asked of Wasm, there is nothing that a golden could hold")
        observed = Observation.unpacked(content)
        group = selection.group_of(item.nodeid, variant)
        trouble = observed.trouble or (DEEP if EXHAUSTED in golden.trap_kinds(self._all(observed)) else "")
        if trouble:
            _fail(f"{item.nodeid} cannot have a golden: {trouble}\nDo without {GOLDEN} there.")
        path = path_of(item)
        observed = observed._replace(events=self._normalize(group, observed.events))
        state = self._state(item, variant, path, observed, level)
        return {"path": self._shown(path), "state": state, "level": (*level,)}

    def _state(self, item: pytest.Item, variant: str, path: Path, observed: Observation, level: Level) -> str:
        __tracebackhide__ = True
        update = self._settings.update.value
        test = test_name(selection.group_of(item.nodeid, variant))
        expected = golden.read(path, test)
        if isinstance(expected, golden.Broken):
            if update == "all" and not expected.newer:
                return DIFFERENT
            anew = f"To write it anew: {self._line(item, '=all')}"
            remedy = "To read it: pip install --upgrade pytest-wasmer" if expected.newer else anew
            _fail(f"the golden {self._shown(path)} cannot be used: {expected}\n{remedy}")
        if expected is None:
            if update == "off":
                _fail(f"there is no golden {self._shown(path)}\nTo write it: {self._line(item, '')}")
            return MISSING
        # NaN bits count where they were stored.
        level = level._replace(strict=level.strict and expected.strict)
        seen = golden.golden_of(test, observed, level, nothing_at_hand if self._local is None else self._local.data)
        lines = golden.difference(expected, seen, level, (self._shown(path), variant))
        if not lines:
            return REBUILT if golden.other_module(expected, seen) else SAME
        if update != "all":
            _fail(
                "\n".join(
                    [f"{variant} does something else than its golden says:", *lines, *self._hints(item, observed)]
                )
            )
        return DIFFERENT

    def _all(self, observed: Observation) -> Sequence[Event]:
        """Also the events that are not told, if they are at hand."""
        told = self._local.told(observed.journal) if observed.checkpoints and self._local is not None else None
        return observed.events if told is None else told.events

    def _hints(self, item: pytest.Item, observed: Observation) -> list[str]:
        shared = any(event[0] == "use" for event in observed.events)
        said = ["It uses an instance that other tests use, too: what that does may depend on which of them ran before."]
        return [*(said if shared else []), f"If this is right: {self._line(item, '=all')}"]

    def _line(self, item: pytest.Item, value: str) -> str:
        """To type. Goldens are written by runs on several backends."""
        backends = self._settings.backends
        chosen = (
            [f"{BACKENDS.flag}={backends.value}"] if backends.source == BACKENDS.flag and "," in backends.value else []
        )
        return shlex.join(["pytest", item.nodeid.partition("[")[0], *chosen, f"{UPDATE.flag}{value}"])

    def _shown(self, path: Path) -> str:
        """Relative to rootdir, wherever that is on other machines."""
        return path.relative_to(self._rootpath).as_posix() if path.is_relative_to(self._rootpath) else str(path)


def _fail(text: str) -> NoReturn:
    __tracebackhide__ = True
    pytest.fail(text, pytrace=False)


class Update:
    """Writes goldens where reports arrive, and says what became of them."""

    def __init__(self, rootpath: Path, update: str, normalize: Normalize, local: Local | None) -> None:
        self._rootpath = rootpath
        self._update = update
        self._normalize = normalize
        self._local = local
        self._counts: Counter[str] = Counter()
        self._refused: list[str] = []

    def take(self, judged: Judged, mark: GoldenMark, compare: Callable[[Level], Verdict]) -> None:
        """A group with a golden is complete. `compare` judges it where nothing else does."""
        self._counts[mark["state"]] += 1
        if not self._wants(mark):
            return
        level = Level(*mark["level"])
        told = judged.why_not or self._disagreement(judged, compare, level)
        if told:
            self._refused.append(f"{judged.group}: {told}")
            return
        base = self._teller(judged.observed)
        if base is None:
            self._refused.append(f"{judged.group}: no backend says which trap it was")
            return
        self._write(judged, mark, base._replace(events=self._normalize(judged.group, base.events)), level)

    def _wants(self, mark: GoldenMark) -> bool:
        """Whether there is something to be written, or refused."""
        return self._update != "off" and (mark["state"] == MISSING or (self._update == "all" and mark["state"] != SAME))

    def _disagreement(self, judged: Judged, compare: Callable[[Level], Verdict], level: Level) -> str:
        verdict = judged.verdict if judged.compared else compare(level)
        return "" if verdict.kind == AGREED else verdict.reason or "the backends disagree"

    def _teller(self, observed: Mapping[str, Observation]) -> Observation | None:
        """Who tells which traps there were: some engines do not."""
        for found in observed.values():
            told = self._local.told(found.journal) if found.checkpoints and self._local is not None else None
            if UNKNOWN not in golden.trap_kinds(found.events if told is None else told.events):
                return found
        return None

    def _write(self, judged: Judged, mark: GoldenMark, observed: Observation, level: Level) -> None:
        find = nothing_at_hand if self._local is None else self._local.data
        new = golden.golden_of(test_name(judged.group), observed, level, find)
        try:
            golden.write(self._rootpath / mark["path"], new)
        except OSError as error:
            self._refused.append(f"{judged.group}: {mark['path']}: {error.strerror}")
        else:
            self._counts["written" if mark["state"] == MISSING else "updated"] += 1

    def incomplete(self, group: str, mark: GoldenMark, why: str) -> None:
        """A group that stays so."""
        if self._wants(mark):
            self._refused.append(f"{group}: {why}")

    def lines(self) -> list[str]:
        """For the summary."""
        said = [
            f"{counted(self._counts[what], 'golden')} {what}" for what in ("written", "updated") if self._counts[what]
        ]
        if self._refused:
            said.append(f"{counted(len(self._refused), 'golden')} not written")
        lines = [f"wasm: {', '.join(said)}", *_first(self._refused)] if said else []
        if self._counts[REBUILT] and self._update != "all":
            many = counted(self._counts[REBUILT], "golden")
            lines.append(
                f"wasm: {many} fit, but other modules are tested now: pytest {UPDATE.flag}=all says so in them"
            )
        return lines


def _first(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in [*lines[:LISTED], *(["..."] if len(lines) > LISTED else [])]]


# Files that no test uses


def unused(items: Sequence[pytest.Item], partial: set[Path], rootpath: Path) -> list[str]:
    """Goldens of the collected test files that no test of theirs uses, and goldens of files that are gone.

    `partial`: test files of which not all tests were collected. Relative to rootdir, or absolute.
    """
    files = dict.fromkeys(item.path for item in items)
    used = {path_of(item) for item in items if uses(item)}
    found = [
        path for file in files if file not in partial for path in _goldens(golden.folder_of(file)) if path not in used
    ]
    for folder in dict.fromkeys(file.parent / FOLDER for file in files):
        found += [path for gone in _without_test_file(folder) for path in _goldens(gone)]
    return [str(path.relative_to(rootpath) if path.is_relative_to(rootpath) else path) for path in found]


def _goldens(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.txt"))


def _without_test_file(folder: Path) -> Iterator[Path]:
    for goldens in sorted(folder.iterdir()) if folder.is_dir() else ():
        names = (goldens.name, f"{goldens.name}.py")
        if goldens.is_dir() and not any((folder.parent / name).exists() for name in names):
            yield goldens


def partly_named(arguments: Iterable[str], files: Iterable[Path]) -> set[Path]:
    """Test files of which the command line names single tests."""
    names = {Path(argument.partition("::")[0]).name for argument in arguments if "::" in argument}
    return {file for file in files if file.name in names}
