"""Makes the environment of `pytest-wasmer setup`: a CPython 3.10 with the four wheels and nothing else.

Never during a test run. It is made beside its place under another name, tried, and renamed: what is in its place
works, whoever else makes one meanwhile, and whenever this is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.engines.interpreter import (
    PACKAGES,
    PROVISIONED,
    SETUP,
    WHEEL_VERSION,
    described,
    environment,
    python_in,
)
from pytest_wasmer.engines.registry import COMPILERS, WHEELS, BackendSpec, probe, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_wasmer.engines.interpreter import Interpreter

    Say = Callable[[str], None]

PINNED = tuple(f"{package.replace('_', '-')}=={WHEEL_VERSION}" for package in PACKAGES)
UNFINISHED = ".unfinished-"
LAST_LINES = 12
EXTRA = "pip install 'pytest-wasmer[setup]'"
# What uv puts into every environment; it costs each engine process a part of its start.
DISTUTILS_PATCH = ("_virtualenv.pth", "_virtualenv.py")


class Failed(Exception):
    """Why there is no environment, what was tried, and the line to type."""


class Environment(NamedTuple):
    """`python` runs the `working` compilers; `broken` says of the others what they said. `made`: just now."""

    python: Interpreter
    working: tuple[str, ...]
    broken: dict[str, str]
    made: bool


def provide(python: str | None, *, upgrade: bool, say: Say) -> Environment:
    """The environment; made if there is none that works, or to upgrade. Raises `Failed`.

    `python`: a CPython 3.10; uv finds or downloads one if None.
    """
    place = environment()
    with _alone(place, say):
        found = None if upgrade else _examined(place, say)
        if found is not None and not found.broken:
            return found
        return _make(place, _uv(), python, say)


def remove(say: Say) -> Path | None:
    """Where it was; None if there was none."""
    place = environment()
    if not place.parent.is_dir():
        return None
    with _alone(place, say):
        if not place.is_dir():
            return None
        _discard(place)
        if place.is_dir():
            raise Failed(f"{place} cannot be removed")
        return place


@contextmanager
def _alone(place: Path, say: Say) -> Iterator[None]:
    """One at a time per environment; a dead holder holds nothing."""
    from filelock import FileLock, Timeout

    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(f"{place}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("waiting for another setup")
        lock.acquire()
    try:
        for left in place.parent.glob(f"{place.name}{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _examined(place: Path, say: Say) -> Environment | None:
    """What is there, if it is what this version makes."""
    python = python_in(place)
    if not python.is_file():
        return None
    say("trying what is there")
    with tempfile.TemporaryDirectory() as nothing:
        found = described(str(python), PROVISIONED, SETUP, Path(nothing))
    libraries = [found.library(package) for package in PACKAGES]
    versions = {version_of(library) if library else None for library in libraries}
    if found.reason or versions != {WHEEL_VERSION}:
        return None
    said = {name: probe(BackendSpec(name, WHEELS, name, str(python))) for name in COMPILERS}
    broken = {name: words for name, (works, words) in said.items() if not works}
    return Environment(found, tuple(name for name in COMPILERS if name not in broken), broken, made=False)


def _make(place: Path, uv: str, python: str | None, say: Say) -> Environment:
    unfinished = Path(tempfile.mkdtemp(prefix=f"{place.name}{UNFINISHED}", dir=place.parent))
    try:
        fresh = unfinished / "environment"
        say(f"making an environment for {python or 'CPython 3.10'}")
        _venv(uv, python, fresh)
        say(f"installing {', '.join(PINNED)}")
        _run(
            [uv, "pip", "install", "--python", str(python_in(fresh)), "--no-deps", "--only-binary", ":all:", *PINNED],
            "uv could not install the wheels",
        )
        for name in DISTUTILS_PATCH:
            for file in fresh.rglob(name):
                file.unlink()
        made = _examined(fresh, say)
        if made is None or not made.working:
            said = "".join(f"\n    {name}: {words}" for name, words in made.broken.items()) if made else ""
            raise Failed(f"the wheels were installed, and no compiler works{said}")
        if place.exists():
            os.replace(place, unfinished / "old")
        try:
            os.replace(fresh, place)
        except OSError:
            with suppress(OSError):
                os.replace(unfinished / "old", place)
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return made._replace(python=made.python._replace(executable=str(python_in(place))), made=True)


def _venv(uv: str, python: str | None, fresh: Path) -> None:
    """Raises `Failed` for another Python than CPython 3.10, too."""
    if python is None:
        remedy = f"If there is a CPython 3.10, name it: {SETUP} --python PATH"
        what = "uv found no CPython 3.10, and could not download one"
    else:
        remedy, what = f"Without --python uv looks for one: {SETUP}", f"uv could not use {python}"
    command = [uv, "venv", "--relocatable", "--no-project", "--python", python or "cpython3.10", str(fresh)]
    _run(command, what, remedy)
    with tempfile.TemporaryDirectory() as nothing:
        found = described(str(python_in(fresh)), f"made of {python}", SETUP, Path(nothing))
    if found.reason:
        raise Failed(f"{found.reason}\n{remedy}")


def _run(command: Sequence[str], what: str, remedy: str = "") -> None:
    """Raises `Failed` with uv's last lines."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, env=_wanted()
        )
    except OSError as error:
        raise Failed(f"{what}: {command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-LAST_LINES:]
        said = [f"    {line}" for line in lines or [f"exit status {done.returncode}"]]
        raise Failed(
            "\n".join([f"{what}. It was asked:", f"    {' '.join(command)}", "and said:", *said, remedy]).strip()
        )


def _wanted() -> dict[str, str]:
    """Without what would make uv look at another environment."""
    unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def _uv() -> str:
    """The program: on PATH, else of the package of that name."""
    found = shutil.which("uv")
    if found is not None:
        try:
            _run([found, "--version"], "uv on PATH does not run")
        except Failed as failed:  # a shim of another Python's, say
            return _uv_of_package(str(failed))
        return found
    return _uv_of_package("uv is not on PATH")


def _uv_of_package(otherwise: str) -> str:
    try:
        import uv

        return str(uv.find_uv_bin())
    except ImportError:
        why = "there is no package uv"
    except FileNotFoundError:
        why = "the package uv has no program"
    raise Failed(f"{otherwise}\nAnd {why}:\n{EXTRA}")


def _discard(place: Path) -> None:
    """Out of the way at once; then file by file."""
    away = Path(tempfile.mkdtemp(prefix=f"{place.name}{UNFINISHED}", dir=place.parent))
    with suppress(OSError):
        os.replace(place, away / "old")
    shutil.rmtree(away, ignore_errors=True)
