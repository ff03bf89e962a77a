"""What the texts of settings mean, and what is wrong with them: for whoever sets something."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.settings import (
    CACHE_MAX_AGE,
    CACHE_MAX_SIZE,
    ISOLATION,
    MEMORY_LIMIT,
    NONE,
    REPORT,
    TIMEOUT,
    UPDATE,
    where,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_wasmer.settings import Option, Setting, Settings


def check(config: pytest.Config, settings: Settings) -> None:
    """Raises UsageError for what cannot be meant."""
    if settings.cache_max_size.given:
        size_in_bytes(CACHE_MAX_SIZE, settings.cache_max_size)
    if settings.cache_max_age.given:
        days(CACHE_MAX_AGE, settings.cache_max_age)
    if settings.memory_limit.given:
        size_in_bytes(MEMORY_LIMIT, settings.memory_limit)
    if settings.timeout.given and seconds(TIMEOUT, settings.timeout):
        refuse_timeout_without_isolation(settings)
    if not hasattr(config, "workerinput"):
        refuse_update_on_ci(settings.update)
        if settings.report.value:
            report_file(config, settings.report)


def refuse_timeout_without_isolation(settings: Settings) -> None:
    """Raises UsageError where both are on the command line; elsewhere one is for all runs, and this run is warned."""
    isolation = settings.isolation
    if isolation.value == NONE and isolation.source == ISOLATION.flag and settings.timeout.source == TIMEOUT.flag:
        raise pytest.UsageError(
            f"{TIMEOUT.flag} ends the process that runs native code, and with {ISOLATION.flag}={NONE} that is the "
            "test process.\nLeave one of them out; pytest-timeout limits whole tests."
        )


UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def size_in_bytes(option: Option, setting: Setting) -> int:
    """Raises UsageError for what is not a size."""
    size = size_of(setting.value)
    if size is None:
        raise pytest.UsageError(f"{where(option, setting)}: {setting.value!r} is not a size such as 500 MiB or 2 GiB.")
    return size


def size_of(text: str) -> int | None:
    """Of "500 MB", "2 GiB", "1048576": units are powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    return None if found is None else int(float(found[1]) * UNITS[found[2]])


def seconds(option: Option, setting: Setting) -> float:
    """Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*s?", setting.value.strip().lower())
    if found is None:
        raise pytest.UsageError(f"{where(option, setting)}: {setting.value!r} is not a number of seconds.")
    return float(found[1])


def days(option: Option, setting: Setting) -> float:
    """Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:d|days?)?", setting.value.strip().lower())
    if found is None:
        raise pytest.UsageError(f"{where(option, setting)}: {setting.value!r} is not a number of days.")
    return float(found[1])


def unknown(value: str, known: Sequence[str]) -> str:
    """ "'lvm' is unknown. Did you mean 'llvm'?" """
    from difflib import get_close_matches

    near = get_close_matches(value.lower(), known, 1, 0.5)
    return f"{value!r} is unknown.{f' Did you mean {near[0]!r}?' if near else ''}"


def words(value: str) -> list[str]:
    """Names with commas or blanks between them."""
    return [word for word in re.split(r"[,\s]+", value) if word]


# Set by GitHub, GitLab and most others; Jenkins and TeamCity; Azure.
CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILD_NUMBER", "JENKINS_URL", "TEAMCITY_VERSION", "TF_BUILD")


def refuse_update_on_ci(update: Setting) -> None:
    """What nobody looks at is not to become what is expected. Raises UsageError."""
    if update.value == "off":
        return
    for variable in CI_VARIABLES:
        said = os.environ.get(variable, "")
        if said.lower() not in ("", "0", "false", "no", "off"):
            raise pytest.UsageError(
                f"{where(UPDATE, update)}: goldens are not written on CI, and {variable}={said} says that this is CI.\n"
                f"Write them on a machine of yours, look at them, and commit them; or unset {variable}."
            )


def report_file(config: pytest.Config, setting: Setting) -> Path:
    """Where the report of the run goes: relative to the working directory, or to rootdir if an ini file says it.

    Raises UsageError where nothing can be written.
    """
    place = where(REPORT, setting)
    start = config.rootpath if setting.source not in (REPORT.flag, REPORT.variable) else config.invocation_params.dir
    path = start / Path(setting.value).expanduser()
    if path.suffix != ".json":
        raise pytest.UsageError(f"{place}: {setting.value} must end in .json: so far there are no other reports.")
    if not path.parent.is_dir():
        raise pytest.UsageError(f"{place}: there is no directory {path.parent}\nMake it: mkdir -p {path.parent}")
    if path.is_dir():
        raise pytest.UsageError(f"{place}: {setting.value} is a directory.")
    # A file is replaced, hence its directory must be writable, too.
    for written in (path.parent, *([path] if path.exists() else [])):
        if not os.access(written, os.W_OK):
            raise pytest.UsageError(f"{place}: {written} cannot be written.")
    return path
