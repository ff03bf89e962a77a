"""Artifacts as files that users keep: native code, and a sidecar that says what it is.

    lexer.wasmu         the artifact, as any Wasmer of this version loads it
    lexer.wasmu.json    {"pytest-wasmer artifact": 1, "sha256": ..., "parts": {...}}, see `artifacts.key.Parts`

Engines load what they are given, of another version, compiler or processor too, and die of it later. So what is in
the sidecar is checked first. It guards against mix-ups, not against malice: whoever can write the file can write both.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_wasmer.artifacts.key import Parts
from pytest_wasmer.wasm.errors import ArtifactError

if TYPE_CHECKING:
    from typing import NoReturn

FORMAT = "pytest-wasmer artifact"
MAGICS = {
    b"\0wasmer-universal": "universal",
    b"\x7fELF": "dylib",
    b"\xcf\xfa\xed\xfe": "dylib",  # Mach-O, 64 bit
    b"MZ": "dylib",
}


def sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def save(path: Path, artifact: bytes, parts: Parts) -> None:
    """Write both files, each whole or not at all. Raises OSError."""
    about = {FORMAT: 1, "sha256": hashlib.sha256(artifact).hexdigest(), "parts": parts._asdict()}
    _write(path, artifact)
    _write(sidecar(path), (json.dumps(about, indent=2) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    try:
        _replace(path, content)
    except OSError as error:  # which names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from None


def _replace(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if sys.platform != "win32":
                os.fchmod(descriptor, 0o666 & ~_umask())  # mkstemp makes what only its owner can read
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def kind_of(artifact: bytes) -> str | None:
    """ "universal", "dylib", or None for what is neither."""
    return next((kind for magic, kind in MAGICS.items() if artifact.startswith(magic)), None)


def kind_in(path: Path) -> str | None:
    """The kind of a file. Raises `ArtifactError`."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(32))
    except OSError as error:
        raise ArtifactError(f"artifact {path} cannot be read: {error.strerror}") from None


def read(path: Path, here: Parts, *, trusted: bool, how_to_trust: str) -> tuple[bytes, Parts | None]:
    """The artifact in a file that may run `here`, and its parts, if there is a sidecar.

    `here`: what an artifact of the backend that is to load it would have; no compiler means that any will do.
    Without a sidecar the file is loaded only if it is `trusted`. Raises `ArtifactError`.
    """
    try:
        artifact = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"artifact {path} cannot be read: {error.strerror}") from None
    kind = kind_of(artifact) if here.kind else ""  # what other engines serialize has no kind
    if kind is None:
        _refuse_other_files(path, artifact)
    parts = _described(path, artifact)
    if kind != here.kind:
        other = {"universal": "one without -dylib", "dylib": "one with -dylib"}[kind]
        raise ArtifactError(
            f"{path} is a {kind} artifact; {here.compiler or 'this engine'} here loads {here.kind} ones\n"
            f"Load it with a backend for its kind: {other}"
        )
    if parts is None and not trusted:
        raise ArtifactError(
            f"{path} has no {sidecar(path).name} that says what it is: nobody can tell whether it may run here\n"
            f"If you know where it comes from: {how_to_trust}"
        )
    if parts is not None:
        _check(path, parts, here)
    return artifact, parts


def _refuse_other_files(path: Path, content: bytes) -> NoReturn:
    said = f"{path} is no artifact"
    if content.startswith(b"\0asm"):
        raise ArtifactError(f"{said} but a Wasm module\nCompile it: pytest-wasmer compile {path} --backend llvm -o OUT")
    if not content:
        raise ArtifactError(f"{said}: it is empty")
    raise ArtifactError(f"{said}: it begins with {content[:8].hex(' ')}")


def _described(path: Path, artifact: bytes) -> Parts | None:
    """What the sidecar says; None without one."""
    about = sidecar(path)
    try:
        found = json.loads(about.read_bytes())
        version = found[FORMAT]
        if version != 1:
            raise ArtifactError(f"{about} has format {version}; this pytest-wasmer reads 1\nInstall a newer one.")
        digest, parts = found["sha256"], found["parts"]
        described = Parts(**{name: str(value) for name, value in parts.items()})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{about} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{about} is not what pytest-wasmer wrote: {error}\nSave the artifact again.") from None
    if digest != hashlib.sha256(artifact).hexdigest():
        raise ArtifactError(
            f"{path} is not the file that {about.name} describes: it was changed or cut off\nSave it again."
        )
    return described


def _check(path: Path, parts: Parts, here: Parts) -> None:
    """Raise `ArtifactError` for the first thing that keeps it from running here."""
    if (parts.engine, parts.version) != (here.engine, here.version):
        said, wanted = f"{parts.engine} {parts.version}", f"{here.engine} {here.version}"
    elif here.compiler and parts.compiler != here.compiler:
        said, wanted = parts.compiler, here.compiler
    elif parts.target != here.target:
        said, wanted = parts.target, here.target
    else:
        lacking = [feature for feature in parts.features.split() if feature not in here.features.split()]
        if not lacking:
            return
        said, wanted = f"a processor with {' '.join(lacking)}", "one without"
    raise ArtifactError(f"{path} is for {said}, here is {wanted}\nCompile its module here: pytest-wasmer compile")
