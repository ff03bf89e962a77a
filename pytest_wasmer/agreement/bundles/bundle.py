"""Reproducer bundles: a directory that holds all it takes to see a divergence again, without the test.

    <test>-<hash>/
        calls.json      {"pytest-wasmer calls": 1, ...}: what was done, with what host functions answered
        0.wasm, ...     the modules
        observed.json   {"pytest-wasmer observed": 1, ...}: what came out where, engine versions, the machine
        README.md       the verdict in words, and the one command

`calls.json` has an event a line, as in `events`; long data that was written to a memory is "base64:...". Bundles are
sent around: what is read here may have been written by anybody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement.bundles.recording import Recording, settled
from pytest_wasmer.agreement.bundles.shapes import checked
from pytest_wasmer.agreement.events import LONG, content_of, data_text
from pytest_wasmer.agreement.verdict import DIVERGED, Level, nothing_at_hand
from pytest_wasmer.agreement.verdicts import disagreement
from pytest_wasmer.artifacts.key import cpu_features
from pytest_wasmer.runtime.blobs import digest_of
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm import binary
from pytest_wasmer.wasm.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.verdict import Find, Verdict

CALLS, OBSERVED, README = "calls.json", "observed.json", "README.md"
FORMAT, OBSERVED_FORMAT = "pytest-wasmer calls", "pytest-wasmer observed"
VERSION = 1
BASE64 = "base64:"
NAME_LENGTH = 80
ARTIFACTS = ("cached", "fresh", "both")


class BundleError(WasmError):
    """A bundle cannot be read or replayed; the message names the file."""


class Bundle(NamedTuple):
    """What is in one. `variants`: what it was seen on; `artifacts`: as of --wasm-artifacts."""

    title: str
    variants: list[str]
    artifacts: str
    level: Level
    recording: Recording


# Writing


def write(
    folder: Path,
    title: str,
    recording: Recording,
    verdict: Verdict,
    engines: Mapping[str, str],
    *,
    level: Level | None = None,
    artifacts: str = "cached",
    find: Find = nothing_at_hand,
) -> Path:
    """Write a bundle to a directory in `folder` that is named after the title and the content; which one.

    `engines`: versions by variant. `find`: contents of memories by digest, for the words. Raises OSError.
    """
    bundle = Bundle(title, list(engines), artifacts, level or Level(), settled(recording))
    files = _files(bundle)
    digest = hashlib.blake2b(b"\0".join(files.values()), digest_size=5).hexdigest()
    _ignored(folder)
    return _save(folder / f"{_slug(title)}-{digest}", files, bundle, verdict, engines, find)


def rewrite(place: Path, bundle: Bundle, verdict: Verdict, engines: Mapping[str, str], find: Find) -> Path:
    """Write a bundle to this very directory. Raises OSError."""
    bundle = bundle._replace(recording=settled(bundle.recording))
    return _save(place, _files(bundle), bundle, verdict, engines, find)


def _slug(title: str) -> str:
    """Of "tests/test_it.py::test_x[3-backends-agree]" "test_it-test_x-3": a name on every system."""
    base, bracket, parameters = title.partition("[")
    path, _, test = base.partition("::")
    file = re.split(r"[/\\]", path)[-1].removesuffix(".py")
    chosen = f"{parameters}-".replace("backends-agree]-", "") if bracket else ""
    words = re.findall(r"[A-Za-z0-9_]+", f"{file}-{test}-{chosen}")
    return "-".join(words)[:NAME_LENGTH].strip("-") or "test"


def _ignored(folder: Path) -> None:
    """The folder, which no repository is to hold."""
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _save(
    place: Path,
    files: Mapping[str, bytes],
    bundle: Bundle,
    verdict: Verdict,
    engines: Mapping[str, str],
    find: Find,
) -> Path:
    text = disagreement(verdict, find) if verdict.kind == DIVERGED else ["All backends agreed."]
    observed = _lines(_observed(bundle, verdict, engines, text))
    temporary = place.with_name(f".new-{secrets.token_hex(8)}")
    temporary.mkdir()
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        (temporary / OBSERVED).write_bytes(f"{{\n{observed}\n}}\n".encode())
        (temporary / README).write_bytes(_readme(bundle, engines, text).encode(errors="replace"))
        _put(temporary, place)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return place


def _put(temporary: Path, place: Path) -> None:
    """In one move; whoever writes the same meanwhile has written the same."""
    old = Path(f"{temporary}-old")
    with suppress(FileNotFoundError):
        os.rename(place, old)
    try:
        os.rename(temporary, place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(temporary, ignore_errors=True)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _files(bundle: Bundle) -> dict[str, bytes]:
    """What is replayed: calls.json, and the modules, by name."""
    recording = bundle.recording
    files = {f"{number}.wasm": wasm for number, wasm in enumerate(recording.modules.values())}
    head = {
        FORMAT: VERSION,
        "title": bundle.title,
        "variants": bundle.variants,
        "artifacts": bundle.artifacts,
        "level": bundle.level._asdict(),
        "cut": recording.cut,
        "modules": {
            identity: {"file": file, "sha256": hashlib.sha256(wasm).hexdigest()}
            for (identity, wasm), file in zip(recording.modules.items(), files, strict=True)
        },
    }
    events = ",\n".join(_encode(_inline(event, recording.data)) for event in recording.events)
    return {CALLS: f'{{\n{_lines(head)},\n"events": [\n{events}\n]\n}}\n'.encode(), **files}


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _lines(content: Mapping[str, object]) -> str:
    """A line for each member of a JSON object."""
    return ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())


def _inline(event: Event, data: Mapping[str, bytes]) -> Event:
    """The event with long data in place."""
    if event[0] != "write" or " " not in event[4]:
        return event
    content = content_of(event[4], lambda _: data)
    return event if content is None else (*event[:4], BASE64 + base64.b64encode(content).decode())


def _observed(bundle: Bundle, verdict: Verdict, engines: Mapping[str, str], text: Sequence[str]) -> dict[str, object]:
    return {
        OBSERVED_FORMAT: VERSION,
        "title": bundle.title,
        "verdict": verdict.kind,
        "text": [*text],
        "outcomes": verdict.outcomes,
        "engines": engines,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "machine": platform.machine(),
        "features": cpu_features(),
        "cut": bundle.recording.cut,
    }


def _readme(bundle: Bundle, engines: Mapping[str, str], text: Sequence[str]) -> str:
    cut = bundle.recording.cut
    versions = ", ".join(f"{name} ({detail})" if detail else name for name, detail in engines.items())
    lines = [
        f"# {bundle.title}",
        "",
        *[f"    {line}" for line in text],
        "",
        *([f"**The recording was cut**: {cut}. It may not show this.", ""] if cut else []),
        "To see it again, without the test (`pip install pytest-wasmer`):",
        "",
        "    pytest-wasmer repro .",
        "",
        f"Seen on {versions}, {platform.platform()}.",
        f"`{CALLS}` is what was done, with what host functions answered; `{OBSERVED}` is what came out, and where.",
    ]
    return "\n".join(lines) + "\n"


# Reading


def read(place: Path) -> Bundle:
    """Raises `BundleError` for what is none, or is damaged, or was written by a newer version."""
    file = place / CALLS
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}\nA bundle is a directory with {CALLS}.") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not what pytest-wasmer wrote: {error}") from None
    version = content.get(FORMAT) if isinstance(content, dict) else None
    if type(version) is int and version > VERSION:
        raise BundleError(f"{file} has format {version}; this pytest-wasmer reads {VERSION}\nInstall a newer one.")
    try:
        if version != VERSION:
            raise ValueError(f"no {FORMAT!r}: {VERSION}")
        return _read(place, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{file} is not what pytest-wasmer wrote: {what}") from None


def _read(place: Path, content: dict[str, Any]) -> Bundle:
    level = Level(**{name: bool(value) for name, value in content["level"].items()})
    if content["artifacts"] not in ARTIFACTS:
        raise ValueError(f"artifacts are {content['artifacts']!r}")
    modules = {str(identity): _module(place, about) for identity, about in content["modules"].items()}
    data: dict[str, bytes] = {}
    events = [_outlined(checked(number, event), data) for number, event in enumerate(content["events"], 1)]
    recording = Recording(events, modules, data, str(content["cut"]))
    return Bundle(
        str(content["title"]), [str(name) for name in content["variants"]], content["artifacts"], level, recording
    )


def _module(place: Path, about: Mapping[str, str]) -> bytes:
    if not re.fullmatch(r"\d{1,9}\.wasm", about["file"]):
        raise ValueError(f"a module in {about['file']!r}")
    file = place / about["file"]
    try:
        wasm = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from None
    if hashlib.sha256(wasm).hexdigest() != about["sha256"]:
        raise BundleError(f"{file} is not the file that {CALLS} describes: it was changed or cut off")
    try:
        binary.check(wasm, str(file))
    except SourceError as error:
        raise BundleError(str(error)) from None
    return wasm


def _outlined(event: Event, data: dict[str, bytes]) -> Event:
    """The reverse of `_inline`."""
    if event[0] != "write" or not event[4].startswith(BASE64):
        return event
    try:
        content = base64.b64decode(event[4].removeprefix(BASE64), validate=True)
    except binascii.Error as error:
        raise ValueError(f"data of a write: {error}") from None
    if len(content) > LONG:
        data[digest_of(content)] = content
    return (*event[:4], data_text(content))
