"""`pytest-wasmer doctor`: which compilers work here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_wasmer.cli.engines import cache_folder
from pytest_wasmer.engines.registry import COMPILERS, Registry

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_wasmer.cli.engines import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("doctor", help="say which Wasmer compilers work here, and why others do not")
    parser.set_defaults(command=doctor)


def doctor(_: Namespace) -> int:
    """A line per compiler. Exit status 0 if all work, 1 if some do, 2 if none does."""
    registry = Registry([], cache_folder())
    found = [registry.availability(name) for name in COMPILERS]
    for item in found:
        if item.works:
            print(f"{item.spec.name:<10}  works  {item.detail}")
        else:
            print(f"{item.spec.name:<10}  does not work: {item.reason}\n{'':<10}  {item.remedy}")
    return (0 if all(item.works for item in found) else 1) if any(item.works for item in found) else 2
