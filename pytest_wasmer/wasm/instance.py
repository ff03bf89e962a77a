"""An instance of a module, and its exports."""

from __future__ import annotations

import weakref
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pytest_wasmer.wasm.errors import MissingExport
from pytest_wasmer.wasm.externs import Extern, Owner
from pytest_wasmer.wasm.function import function
from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType, kind_of
from pytest_wasmer.wasm.variables import Global, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_wasmer.wasm.module import Module
    from pytest_wasmer.wasm.types import ExternType


class Instance:
    """A module with its own memories, globals and tables, on one backend.

    Released when the last reference to it, its exports or what imports them is gone. Belongs to the thread that
    made it.
    """

    def __init__(self, module: Module, owner: Owner, first: int) -> None:
        self._module = module
        self._owner = owner
        self._first = first
        self._exports = Exports(owner, first, module.exports)
        self._memory: Memory | None = None

    @property
    def module(self) -> Module:
        return self._module

    @property
    def exports(self) -> Exports:
        """By attribute, `exports.add(1, 2)`, or by any name, `exports["add"](1, 2)`."""
        __tracebackhide__ = True
        connection = self._owner.connection
        if connection.test_runs_on:
            connection.refuse_other_test(f"exports of {self._owner.name}")
        return self._exports

    @property
    def memory(self) -> Memory:
        """The exported memory, else the imported one. Raises AttributeError where there is none, or a choice."""
        __tracebackhide__ = True
        if self._memory is None:
            self._memory = self._find_memory()
        return self._memory

    def _find_memory(self) -> Memory:
        __tracebackhide__ = True
        names = [name for name, type_ in self._module.exports.items() if isinstance(type_, MemoryType)]
        if "memory" in names or len(names) == 1:
            name = "memory" if "memory" in names else names[0]
            memory: Memory = self._exports[name]
            return memory
        imported = [item for item in self._owner.keeps if isinstance(item, Memory)]
        if len(imported) == 1 and not names:
            return imported[0]
        said = f"exports {len(names)} memories: {', '.join(names)}" if names else "neither exports nor imports a memory"
        raise AttributeError(f"{self._owner.name} {said}; name the one that is meant: instance.exports['...']")

    def weak_view(self) -> Callable[[], Instance | None]:
        """What gives an equal instance for as long as anything of this one is in use."""
        module, first, owner = self._module, self._first, weakref.ref(self._owner)

        def view() -> Instance | None:
            alive = owner()
            return None if alive is None else Instance(module, alive, first)

        return view

    def __repr__(self) -> str:
        return f"<Instance of {self._owner.name} on {self._owner.connection.backend}>"


class Exports:
    """An instance's exports, by attribute or by name; iterates over the names in the module's order."""

    # Mangled, so that they cannot hide an export of that name.
    __slots__ = ("__found", "__handles", "__owner", "__types")

    def __init__(self, owner: Owner, first: int, types: Mapping[str, ExternType]) -> None:
        self.__owner = owner
        self.__types = types
        self.__handles = {name: first + 1 + index for index, name in enumerate(types)}
        self.__found: dict[str, Extern[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        if name.startswith("_Exports__"):  # copy looks before there is anything
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        __tracebackhide__ = True
        found = self.__found.get(name)
        if found is None:
            if name not in self.__types:
                raise MissingExport(missing_text(name, self.__types, self.__owner.name))
            found = self.__found[name] = _extern(self.__owner, self.__handles[name], self.__types[name], name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.__types)

    def __len__(self) -> int:
        return len(self.__types)

    def __contains__(self, name: object) -> bool:
        return name in self.__types

    def __dir__(self) -> list[str]:
        return [name for name in self.__types if name.isidentifier()]

    def __repr__(self) -> str:
        return f"<Exports of {self.__owner.name}: {', '.join(self.__types)}>"


def _extern(owner: Owner, handle: int, type_: ExternType, name: str) -> Extern[Any]:
    """The object for an export of that type."""
    if isinstance(type_, FunctionType):
        return function(owner, handle, type_, name)
    if isinstance(type_, MemoryType):
        return Memory._of(owner, handle, type_, name)
    if isinstance(type_, GlobalType):
        return Global._of(owner, handle, type_, name)
    return Table._of(owner, handle, type_, name)


def missing_text(name: str, types: Mapping[str, ExternType], module: str) -> str:
    """What there is instead, at most 20 of them."""
    if not types:
        return f"{module} has no export {name!r}: it exports nothing"
    near = get_close_matches(str(name), list(types), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    mangled = str(name).partition("__")[2]
    if f"__{mangled}" in types and name.startswith("_"):
        hint = f"; within a class Python changes such names: say exports['__{mangled}']"
    shown = [f"{export} ({kind_of(type_)})" for export, type_ in list(types.items())[:20]]
    more = f" and {len(types) - 20} more" if len(types) > 20 else ""
    return f"{module} has no export {name!r}{hint}\nIt exports {', '.join(shown)}{more}"
