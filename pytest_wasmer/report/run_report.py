"""What `--wasm-report` writes when a run ends: gathered from reports as they come in (schema: `agreement.runs`)."""

from __future__ import annotations

import base64
import json
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer import __version__
from pytest_wasmer.agreement.events import canonical_digests, digests_in
from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.runs import SCHEMA, TITLE
from pytest_wasmer.agreement.verdict import nothing_at_hand
from pytest_wasmer.artifacts.key import cpu_features
from pytest_wasmer.report.outcome import word_for
from pytest_wasmer.wasm.artifact import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.groups import Membership
    from pytest_wasmer.agreement.local import Local
    from pytest_wasmer.engines.registry import Availability
    from pytest_wasmer.report.terminal import Facts
    from pytest_wasmer.settings import Settings

# Contents of memories that are looked at together.
BATCH = 512


class RunReport:
    """One per session, where reports arrive."""

    def __init__(self, path: Path, normalize: Callable[[str, list[Event]], list[Event]]) -> None:
        self._path = path
        self._normalize = normalize
        self._tests: dict[str, dict[str, Any]] = {}
        self._artifacts: dict[str, list[dict[str, Any]]] = {}
        self._digests: set[tuple[str, int]] = set()

    def add(self, report: pytest.TestReport, facts: Facts) -> None:
        if report.when == "setup":  # a rerun counts from its last attempt
            self._tests.pop(report.nodeid, None)
        test = self._tests.setdefault(report.nodeid, _begun(report.nodeid, facts["variant"]))
        test["seconds"][report.when] = round(report.duration, 6)
        outcome = word_for(report)
        if outcome != "passed" and test["outcome"] != "failed":
            test["outcome"] = outcome
        for variant, loadings in facts["loadings"].items():
            self._artifacts.setdefault(report.nodeid, []).extend(
                {"test": report.nodeid, "variant": variant, "what": what, "seconds": seconds, "saved": saved}
                for what, seconds, saved in loadings
            )
        if facts["membership"] is not None:
            self._observed(test, facts["membership"])

    def _observed(self, test: dict[str, Any], membership: Membership) -> None:
        test["group"], test["level"] = membership["group"], membership["level"]
        if not membership["observed"]:
            return
        observed = Observation.unpacked(membership["observed"])
        # The journal is a local file; what the hook normalizes cannot be normalized later.
        observed = observed._replace(events=self._normalize(membership["group"], observed.events), journal="")
        test["observation"] = base64.b64encode(observed.packed()).decode()
        self._digests.update(digests_in([*observed.events, *observed.state]))

    def write(
        self,
        environment: Mapping[str, Any],
        began: float,
        verdicts: Mapping[str, tuple[str, str]],
        local: Local | None,
    ) -> str:
        """A line that says so, or why not."""
        content = {
            TITLE: SCHEMA,
            "began": datetime.fromtimestamp(began, timezone.utc).isoformat(timespec="seconds"),
            "environment": environment,
            "tests": list(self._tests.values()),
            "artifacts": [artifact for artifacts in self._artifacts.values() for artifact in artifacts],
            "verdicts": [{"group": name, "verdict": kind, "reason": why} for name, (kind, why) in verdicts.items()],
            "canonical": self._canonical(local),
        }
        try:
            write_whole(self._path, (json.dumps(content, indent=1) + "\n").encode())
        except OSError as error:
            return f"wasm: {self._path} could not be written: {error.strerror}"
        return f"wasm: wrote {self._path}"

    def _canonical(self, local: Local | None) -> dict[str, str]:
        find = nothing_at_hand if local is None else local.data
        wanted = sorted(self._digests)
        found: dict[str, str] = {}
        for start in range(0, len(wanted), BATCH):
            for (digest, offset), other in canonical_digests(wanted[start : start + BATCH], find).items():
                found[f"{digest}@{offset}"] = other
        return found


def _begun(nodeid: str, variant: str) -> dict[str, Any]:
    return {
        "test": nodeid,
        "group": "",
        "variant": variant,
        "outcome": "passed",
        "seconds": {},
        "level": None,
        "observation": "",
    }


def environment(config: pytest.Config, settings: Settings, backends: Iterable[Availability]) -> dict[str, Any]:
    """What a run depends on, without names of users, machines and private directories."""
    said = {name: {**vars(setting)} for name, setting in vars(settings).items()}
    for path in (said["cache_dir"], said["report"]):
        path["value"] = _public(path["value"], config.rootpath)
    return {
        "pytest_wasmer": __version__,
        "pytest": pytest.__version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "features": cpu_features(),
        "backends": {item.spec.name: {"engine": item.detail, "library": item.library} for item in backends},
        "settings": said,
    }


def _public(value: str, rootpath: Path) -> str:
    """A path, if it is one that others have, too."""
    path = Path(value).expanduser()
    if not value or not path.is_absolute():
        return value
    for name, folder in (("", rootpath), ("~", Path.home())):
        if path.is_relative_to(folder):
            return (Path(name) / path.relative_to(folder)).as_posix()
    return f".../{path.name}"
