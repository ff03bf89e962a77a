"""Reproducer bundles of this run's groups, and what the failure and JUnit say of them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.agreement.verdict import AGREED, DIVERGED, Level, nothing_at_hand
from pytest_wasmer.variants import backend_in

if TYPE_CHECKING:
    import pytest

    from pytest_wasmer.agreement.groups import Judged
    from pytest_wasmer.agreement.local import Local
    from pytest_wasmer.engines.registry import Registry
    from pytest_wasmer.settings import Settings

FOLDER = ".wasm-repro"
# Of failures: a compiler that gets everything wrong must not fill the disk.
LIMIT = 100
PROPERTY = "wasm_repro"


class Kept(NamedTuple):
    """`line`: of a failure. `properties`: of its report, and so of JUnit's file."""

    line: str
    properties: list[tuple[str, object]]

    def within(self, text: str) -> str:
        """The text of a failure, with the line before its last, "Again: ..."."""
        before, _, last = text.rpartition("\n")
        return "\n".join([before, self.line, last])


class Bundles:
    """One per session, where groups are judged."""

    def __init__(self, config: pytest.Config, settings: Settings, registry: Registry, local: Local | None) -> None:
        self._config = config
        self._settings = settings
        self._registry = registry
        self._local = local
        self._count = 0

    def keep(self, judged: Judged) -> Kept | None:
        """Write the bundle of a group, if one is wanted."""
        wanted = self._settings.repro.value
        kinds = {"always": (DIVERGED, AGREED), "on-failure": (DIVERGED,)}.get(wanted, ())
        if judged.verdict.kind not in kinds or not judged.observed or judged.level is None:
            return None
        self._count += 1
        if self._count > LIMIT and wanted != "always":
            return Kept(f"Repro: none, {LIMIT} were written (--wasm-repro=always writes all)", [])
        try:
            return self._written(judged, Level(*judged.level))
        except OSError as error:
            return Kept(f"Repro: none, {error.filename or FOLDER} cannot be written: {error.strerror}", [])

    def _written(self, judged: Judged, level: Level) -> Kept:
        from pytest_wasmer.agreement.bundles.bundle import write
        from pytest_wasmer.agreement.bundles.recording import recorded

        _, recording = recorded(judged.observed, judged.verdict, level, lambda _: self._local)
        place = write(
            self._config.rootpath / FOLDER,
            judged.group,
            recording,
            judged.verdict,
            {name: self._registry.availability(backend_in(name)).detail for name in judged.observed},
            level=level,
            artifacts=self._settings.artifacts.value,
            find=nothing_at_hand if self._local is None else self._local.data,
        )
        cut = f" (the recording was cut: {recording.cut})" if recording.cut else ""
        shown = place.relative_to(self._config.rootpath).as_posix()
        return Kept(f"Repro: pytest-wasmer repro {shlex.quote(self._from_here(place))}{cut}", [(PROPERTY, shown)])

    def _from_here(self, place: Path) -> str:
        """As it is typed where pytest was started."""
        try:
            return os.path.relpath(place, self._config.invocation_params.dir)
        except ValueError:  # on another drive
            return str(place)
