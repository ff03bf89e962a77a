"""Run the tests of a WebAssembly module under every Wasmer compiler.

What tests use is in `public`, and imported when it is first asked for: suites without Wasm pay nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

    from pytest_wasmer.public import *  # noqa: F403

__version__ = "0.1.0"


class Plain:
    """Loads this package as Python does, without pytest's rewriting of asserts, which triples the time of an import.

    And `platformdirs`, which has no asserts, but a plugin for pytest: hence pytest would rewrite all of it.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        plain = name.startswith(("pytest_wasmer.", "platformdirs.")) or name == "platformdirs"
        return PathFinder.find_spec(name, path) if plain else None


sys.meta_path.insert(0, Plain)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return getattr(import_module("pytest_wasmer.public"), name)

    def __dir__() -> list[str]:
        return [*globals(), *__getattr__("__all__")]
