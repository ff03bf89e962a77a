"""Runs pytest and says what its plugin `wasmer` cost: seconds of its import and of each of its hooks, and the modules
that were loaded in the end.

    python timed_pytest.py REPORT [PYTEST_ARGUMENT...]
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import json
import sys
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import ModuleType

IMPORT = "import"


def main(report: str, arguments: list[str]) -> int:
    spent: dict[str, float] = defaultdict(float)
    load = importlib.metadata.EntryPoint.load

    def timed_load(entry: importlib.metadata.EntryPoint) -> Any:
        if (entry.group, entry.name) != ("pytest11", "wasmer"):
            return load(entry)
        # As pytest does for an installed plugin; it does not see the files of an editable installation.
        pytest.register_assert_rewrite("pytest_wasmer")
        began = perf_counter()
        plugin = load(entry)
        spent[IMPORT] += perf_counter() - began
        time_hooks(plugin, spent)
        return plugin

    importlib.metadata.EntryPoint.load = timed_load  # type: ignore[assignment, method-assign]
    status = pytest.main(arguments)
    Path(report).write_text(json.dumps({"spent": spent, "modules": sorted(sys.modules)}))
    return int(status)


def time_hooks(plugin: ModuleType, spent: dict[str, float]) -> None:
    """Replace the hooks of a plugin, and of the classes that it registers, by ones that count their time."""
    owners: list[Any] = [plugin, *[kind for _, kind in inspect.getmembers(plugin, inspect.isclass)]]
    for owner in owners:
        if getattr(owner, "__module__", owner.__name__) != plugin.__name__:
            continue
        for name, function in inspect.getmembers(owner, inspect.isfunction):
            if name.startswith("pytest_"):
                setattr(owner, name, timed(function, name, spent))


def timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def plain(*arguments: Any) -> Any:
        began = perf_counter()
        try:
            return function(*arguments)
        finally:
            spent[name] += perf_counter() - began

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Generator[None, Any, Any]:
        """The hooks of others, between the two parts, do not count."""
        began = perf_counter()
        generator = function(*arguments)
        next(generator)
        spent[name] += perf_counter() - began
        result = yield
        began = perf_counter()
        try:
            generator.send(result)
        except StopIteration as done:
            return done.value
        finally:
            spent[name] += perf_counter() - began

    return wrapper if inspect.isgeneratorfunction(function) else plain


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
