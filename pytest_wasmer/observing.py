"""What the running test lets be seen, and which group it is a member of."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_wasmer import selection
from pytest_wasmer.fixtures import GOLDEN
from pytest_wasmer.markers import NOTHING

if TYPE_CHECKING:
    import pytest

    from pytest_wasmer import markers
    from pytest_wasmer.agreement.groups import Membership
    from pytest_wasmer.agreement.local import Local
    from pytest_wasmer.agreement.observe import Recorder
    from pytest_wasmer.session import WasmSession


class Observing:
    """Of one session; `config` is the session's."""

    def __init__(self, session: WasmSession, config: pytest.Config) -> None:
        self._session = session
        self._config = config
        #: Of the running test, for its report.
        self.membership: Membership | None = None
        # What its markers say.
        self._agreement = NOTHING.agreement
        #: For whoever starts an engine: on which variant (None: any) who takes down what objects do.
        self.recorded: tuple[str | None, Recorder | None] = None, None

    @cached_property
    def local(self) -> Local | None:
        """The session's local files: made where reports arrive; workers of xdist on other machines have none."""
        from pytest_wasmer.agreement.local import Local

        if not self._is_worker:
            try:
                return Local.make()
            except OSError:
                return None
        folder = self._config.workerinput.get("wasm_local")  # type: ignore[attr-defined]
        return Local(folder) if folder and Path(folder).is_dir() else None

    @property
    def _is_worker(self) -> bool:
        return hasattr(self._config, "workerinput")

    def close(self) -> None:
        local = self.__dict__.get("local")
        if local is not None and not self._is_worker:
            local.remove()

    @cached_property
    def _recorder(self) -> Recorder:
        from pytest_wasmer.agreement.observe import Recorder

        return Recorder(self.local)

    def begin(self, item: pytest.Item, said: markers.Said) -> None:
        """Also of a test that is not compared: what it does to shared instances is their history."""
        self.membership = None
        self._agreement = said.agreement
        session = self._session
        option = session.settings.agree.value
        level = self._agreement.level or option
        compared = len(session.selection.variants) > 1 and (level != "off" or option != "off")
        if compared or session.settings.report.value or GOLDEN in getattr(item, "fixturenames", ()):
            variant = selection.variant_of(item)
            self._recorder.begin(variant or "")
            self._record(variant, self._recorder)
        self.membership = self._membership_of(item, level, selection.left_by(said, session.selection))

    def _membership_of(self, item: pytest.Item, level: str, expected: list[str]) -> Membership | None:
        variant, agreement = selection.variant_of(item), self._agreement
        if variant not in expected:
            return None
        return {
            "group": selection.group_of(item.nodeid, variant),
            "variant": variant,
            "expected": expected,
            "level": (level == "strict", agreement.memory, agreement.globals, agreement.host_calls)
            if level != "off"
            else None,
            "exempt": str(agreement) if agreement.exempts else "",
            "observed": b"",
            "golden": None,
        }

    def _record(self, variant: str | None, recorder: Recorder | None) -> None:
        self.recorded = variant, recorder
        if self._session.started:
            self._session.pool.record(variant, recorder)

    def end(self) -> None:
        """The test is over: what was seen is to be compared."""
        if "_recorder" not in self.__dict__:
            return
        observed = self._recorder.end()
        self._record(None, None)
        if observed is not None and self.membership is not None:
            self.membership["observed"] = observed

    def check_golden(self, item: pytest.Item) -> None:
        """After a test that passed. Fails it where its golden says something else."""
        __tracebackhide__ = True
        if GOLDEN in getattr(item, "fixturenames", ()):
            self._session.goldens.check(item, self.membership, self._agreement)
