"""The only reader of options, environment and ini: each setting with its source."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence


class Option(NamedTuple):
    """An option with its environment and ini twins: `--wasm-NAME`, `PYTEST_WASMER_NAME`, `wasm_name`."""

    name: str
    metavar: str
    default: str
    help: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return f"--wasm-{self.name}"

    @property
    def variable(self) -> str:
        return f"PYTEST_WASMER_{self.name.upper().replace('-', '_')}"

    @property
    def ini(self) -> str:
        return f"wasm_{self.name.replace('-', '_')}"


BACKENDS = Option(
    "backends",
    "NAMES",
    "available",
    "Wasm backends to run tests on: names with commas between them, 'all' (singlepass, cranelift and llvm; "
    "a missing one is an error) or 'available' (those of the three that work here)",
)
ISOLATION = Option(
    "isolation",
    "process|none",
    "process",
    "Where native code runs: 'process' (an engine process per backend) or 'none' (in the test process: for "
    "profiling; a native crash ends the session)",
    ("process", "none"),
)
OPTIONS = (BACKENDS, ISOLATION)

# What --markers shows; what they mean is in `markers`.
MARKER_LINES = (
    "wasm_backends(*names, exclude=(), reason=''): run on these Wasm backends only, or on all but the excluded ones.",
    "wasm_xfail(**{backend: reason}): expected to fail on these Wasm backends; a pass is a failure (strict).",
)


class Setting(NamedTuple):
    """A value and where it is from: an option, a variable, an ini file, or "default"."""

    value: str
    source: str

    @property
    def given(self) -> bool:
        return self.source != "default"

    def __str__(self) -> str:
        return f"{self.value} (from {self.source})" if self.given else self.value


class Settings(NamedTuple):
    backends: Setting
    isolation: Setting

    @property
    def given(self) -> list[Setting]:
        """Those that somebody set."""
        return [setting for setting in self if setting.given]


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("wasmer", "WebAssembly tests on Wasmer's compilers (pytest-wasmer)")
    for option in OPTIONS:
        twins = f"{option.help}. Default: {option.default}. Also: {option.variable}, ini {option.ini}"
        group.addoption(option.flag, dest=option.ini, metavar=option.metavar, default=None, help=twins)
        parser.addini(option.ini, f"{option.flag} for every run", default=None)


def read(config: pytest.Config) -> Settings:
    """Command line before environment before ini before default. Raises UsageError for a value that is no choice."""
    return Settings(*[_read(config, option) for option in OPTIONS])


def _read(config: pytest.Config, option: Option) -> Setting:
    setting = _first_given(config, option)
    if option.choices and setting.value not in option.choices:
        raise pytest.UsageError(
            f"{where(option, setting)}: {unknown(setting.value, option.choices)} Known: {', '.join(option.choices)}."
        )
    return setting


def _first_given(config: pytest.Config, option: Option) -> Setting:
    given = config.getoption(option.ini)
    if given is not None:
        return Setting(given, option.flag)
    variable = os.environ.get(option.variable)
    if variable:
        return Setting(variable, option.variable)
    ini = config.getini(option.ini)
    if ini:
        value = " ".join(ini) if isinstance(ini, list) else str(ini)
        return Setting(value, config.inipath.name if config.inipath else "ini")
    return Setting(option.default, "default")


def where(option: Option, setting: Setting) -> str:
    """How a message names the place of a bad value: "--wasm-backends", or "wasm_backends (from pytest.ini)"."""
    return (
        setting.source if setting.source in (option.flag, option.variable) else f"{option.ini} (from {setting.source})"
    )


def unknown(value: str, known: Sequence[str]) -> str:
    """ "'lvm' is unknown. Did you mean 'llvm'?" """
    from difflib import get_close_matches

    near = get_close_matches(value.lower(), known, 1, 0.5)
    return f"{value!r} is unknown.{f' Did you mean {near[0]!r}?' if near else ''}"


def words(value: str) -> list[str]:
    """Names with commas or blanks between them."""
    return [word for word in re.split(r"[,\s]+", value) if word]
