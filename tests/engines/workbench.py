"""Environments of the CPython 3.10 that runs the wheels here, with whatever wheels a test wants."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import PYTHON_WITH_WHEELS

if TYPE_CHECKING:
    from collections.abc import Iterable

BASE = os.path.realpath(PYTHON_WITH_WHEELS.executable)
PACKAGES = ("wasmer", "wasmer_compiler_singlepass", "wasmer_compiler_cranelift", "wasmer_compiler_llvm")


def site_of(environment: Path) -> Path:
    return environment / "lib" / "python3.10" / "site-packages"


def bare_environment(environment: Path) -> Path:
    """Without any package; its Python."""
    site_of(environment).mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "pyvenv.cfg").write_text(f"home = {os.path.dirname(BASE)}\ninclude-system-site-packages = false\n")
    python = environment / "bin" / "python"
    python.symlink_to(BASE)
    return python


def real_site() -> Path:
    library = PYTHON_WITH_WHEELS.library("wasmer")
    assert library is not None
    return library.parent.parent


def add_real(environment: Path, packages: Iterable[str] = PACKAGES) -> None:
    """The installed wheels, by links."""
    for package in packages:
        for path in real_site().glob(f"{package}*"):
            if path.name.partition("-")[0].partition(".")[0] == package:
                (site_of(environment) / path.name).symlink_to(path)


def add_fake(environment: Path, package: str, code: str, version: str = "1.1.0") -> None:
    """A wheel whose import runs this code."""
    folder = site_of(environment) / package
    folder.mkdir()
    (folder / "__init__.py").write_text(code)
    (folder / f"{package}{PYTHON_WITH_WHEELS.suffixes[0]}").write_bytes(b"no library")
    (site_of(environment) / f"{package}-{version}.dist-info").mkdir()
