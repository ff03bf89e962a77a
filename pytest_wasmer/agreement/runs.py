"""What one run let be seen, as a file: `--wasm-report` writes it, `pytest-wasmer compare` reads it.

JSON::

    {"pytest-wasmer run": 1, "began": "2024-05-01T12:00:00+00:00",
     "environment": {"python": ..., "machine": ..., "features": ..., "backends": {NAME: {"engine", "library"}},
                     "settings": {NAME: {"value", "source"}}, ...},
     "tests": [{"test": node id, "group": ..., "variant": ..., "outcome": ..., "seconds": {"setup", "call", "teardown"},
                "level": [strict, memory, globals, host_calls] or null, "observation": base64 of `Observation.packed`}],
     "artifacts": [{"test", "variant", "what": "compiled", "loaded" or "refused", "seconds", "saved"}],
     "verdicts": [{"group", "verdict", "reason"}],
     "canonical": {"digest@offset": digest}}

Contents of memories are not in it. So that NaN bits can be told from other bits all the same, `canonical` has for each
digest of a page or of long data the digest of the same with NaNs made canonical (see `events.without_nan_words`),
where that is another one and the content was at hand. The offset is modulo 8.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement.observe import Observation
from pytest_wasmer.agreement.verdict import Level
from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TITLE = "pytest-wasmer run"
SCHEMA = 1


class Member(NamedTuple):
    """One test on one variant. `level`: None where nothing is to be compared; `observed`: None if nothing was."""

    test: str
    outcome: str
    level: Level | None
    observed: Observation | None


class Run(NamedTuple):
    """`groups`: by group and variant. `canonical`: by digest and offset modulo 8."""

    environment: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Member]]
    canonical: Mapping[tuple[str, int], str]


def read(path: Path) -> Run:
    """Raises WasmError, which says what is wrong with the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WasmError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise WasmError(f"{path} is no run report: it is not JSON; pytest --wasm-report=RUN.json writes one") from None
    version = content.get(TITLE) if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise WasmError(f"{path} is no run report: it has no {TITLE!r}; pytest --wasm-report=RUN.json writes one")
    if version != SCHEMA:
        raise WasmError(
            f"{path} is of a newer version ({version}, this pytest-wasmer reads {SCHEMA})\n"
            "To read it: pip install --upgrade pytest-wasmer"
        )
    try:
        return _run(content)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise WasmError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _run(content: dict[str, Any]) -> Run:
    groups: dict[str, dict[str, Member]] = {}
    for test in content["tests"]:
        if test["group"]:
            groups.setdefault(str(test["group"]), {})[str(test["variant"])] = _member(test)
    canonical = {}
    for key, digest in content["canonical"].items():
        raw, _, offset = key.partition("@")
        canonical[raw, int(offset)] = str(digest)
    environment = content["environment"]
    if not isinstance(environment, dict):
        raise TypeError("environment is no object")
    return Run(environment, groups, canonical)


def _member(test: Mapping[str, Any]) -> Member:
    level = test["level"]
    packed = base64.b64decode(test["observation"], validate=True)
    return Member(
        str(test["test"]),
        str(test["outcome"]),
        None if level is None else Level(*map(bool, level)),
        Observation.unpacked(packed) if packed else None,
    )
