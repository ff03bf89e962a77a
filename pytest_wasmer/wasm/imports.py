"""From what the user passes as `imports` to what an instance is linked with."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.runtime.wire import IS_HANDLE, IS_HOST
from pytest_wasmer.wasm.errors import LinkError
from pytest_wasmer.wasm.externs import Extern, Owner
from pytest_wasmer.wasm.instance import Exports, Instance
from pytest_wasmer.wasm.types import (
    REFERENCE_TYPES,
    FunctionType,
    GlobalType,
    MemoryType,
    TableType,
    described,
    kind_of,
    with_article,
)
from pytest_wasmer.wasm.values import describe

if TYPE_CHECKING:
    from typing import TypeAlias

    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.host import HostFunction
    from pytest_wasmer.wasm.types import ExternType

    #: Per module name a mapping (or another instance's exports) from field names to functions, memories, ...
    Imports: TypeAlias = "Mapping[str, Mapping[str, Any] | Exports | Instance]"


class Linked(NamedTuple):
    """`pairs` for the executor; `hosts` and `externs` for the instance to hold; `leaks`, who may keep its functions."""

    pairs: list[tuple[int, int]]
    hosts: list[HostFunction]
    externs: list[Extern[Any]]
    leaks: list[Owner]


def link(wanted: list[tuple[str, str, ExternType]], given: Imports, connection: Connection, name: str) -> Linked:
    """Find, check and bind every import of module `name`. Raises `LinkError` naming the import."""
    __tracebackhide__ = True
    namespaces = _namespaces(given, {module for module, _, _ in wanted}, name)
    found = [(module, field, type_, _lookup(namespaces, module, field)) for module, field, type_ in wanted]
    missing = [(module, field, type_) for module, field, type_, value in found if value is _MISSING]
    if missing:
        raise LinkError(_missing_text(missing, given, name))
    linked = Linked([], [], [], [])
    for module, field, type_, value in found:
        _link_one(f"{module}.{field}", type_, value, connection, name, linked)
    return linked


_MISSING = object()


def _namespaces(given: Imports, wanted: set[str], name: str) -> dict[str, Any]:
    """What is given for the wanted module names: mappings and exports. Raises TypeError for anything else."""
    __tracebackhide__ = True
    if not isinstance(given, Mapping):
        raise TypeError(f"{name}: imports is {describe(given)}\nGive a mapping: imports={{'env': {{'log': print}}}}")
    found = {module: _exports_of(given[module]) for module in given if module in wanted}
    for module, namespace in found.items():
        if not isinstance(namespace, (Mapping, Exports)):
            raise TypeError(
                f"{name}: imports[{module!r}] is {describe(namespace)}\n"
                f"Give a mapping or an instance: imports={{{module!r}: {{'name': ...}}}}"
            )
    return found


def _exports_of(namespace: Any) -> Any:
    return namespace.exports if isinstance(namespace, Instance) else namespace


def _lookup(given: dict[str, Any], module: str, field: str) -> Any:
    namespace = given.get(module, {})
    # Exports have no .get: it could be the name of an export.
    return namespace[field] if field in namespace else _MISSING  # noqa: SIM401


def _missing_text(missing: list[tuple[str, str, ExternType]], given: Imports, name: str) -> str:
    lines = [f"{name} imports what it is not given:"]
    for module, field, type_ in missing:
        lines.append(f"    {module}.{field}: {described(type_)}{_suggestion(given, module, field)}")
    module, field, type_ = missing[0]
    lines.append(f"Give it by imports={{{module!r}: {{{field!r}: {_example(type_, field)}}}}}")
    return "\n".join(lines)


def _example(type_: ExternType, field: str) -> str:
    if isinstance(type_, FunctionType):
        return "lambda *arguments: ..."
    if isinstance(type_, TableType):
        return f"another_instance.exports.{field}"
    return _made(type_, "0")


def _made(type_: MemoryType | GlobalType, value: str) -> str:
    """How the host makes it."""
    if isinstance(type_, GlobalType):
        return f'Global("{type_.value_type}", {value}{", mutable=True" if type_.mutable else ""})'
    return f"Memory({type_.minimum}{'' if type_.maximum is None else f', maximum={type_.maximum}'})"


def _suggestion(given: Imports, module: str, field: str) -> str:
    if module not in given:
        near = get_close_matches(module, list(given), 1)
        return f"  (did you mean {module!r} by {near[0]!r}?)" if near else ""
    near = get_close_matches(field, list(_exports_of(given[module])), 1)
    return f"  (did you mean {field!r} by {near[0]!r}?)" if near else ""


def _link_one(label: str, type_: ExternType, value: Any, connection: Connection, name: str, linked: Linked) -> None:
    __tracebackhide__ = True
    if isinstance(value, Extern):
        owner, handle = _link_extern(label, type_, value, connection, name)
        linked.pairs.append((IS_HANDLE, handle))
        linked.externs.append(value)
        if _may_keep_references(type_):
            linked.leaks.append(owner)
    elif isinstance(type_, FunctionType) and callable(value):
        from pytest_wasmer.wasm.host import HostFunction

        host = HostFunction(label, type_, value, name, connection)
        linked.pairs.append((IS_HOST, connection.hosts.register(host)))
        linked.hosts.append(host)
    else:
        raise LinkError(f"{name}: import {label} is {with_article(type_)}, given {describe(value)}\n{_remedy(type_)}")


def _link_extern(
    label: str, type_: ExternType, value: Extern[Any], connection: Connection, name: str
) -> tuple[Owner, int]:
    __tracebackhide__ = True
    agrees = value.type == type_ if isinstance(type_, (FunctionType, GlobalType)) else type(value.type) is type(type_)
    if not agrees:
        raise LinkError(
            f"{name}: import {label} is {with_article(type_)}, given {with_article(value.type)}\n{_remedy(type_)}"
        )
    owner, handle = value._link(connection)
    if owner.unsafe:
        value._use()  # raises
    if owner.connection is not connection:
        if owner.connection.backend != connection.backend:
            raise LinkError(
                f"{name}: import {label} is linked on {connection.backend}, but {value._about} "
                f"belongs to {owner.connection.backend}\nMake both in the same test, on the same backend."
            )
        value._use()  # raises where its engine process is gone
        raise LinkError(
            f"{name}: import {label} is linked in another engine process than that of {value._about}\n"
            "Make what it imports there too: checks take a function that makes the imports of each instance, of "
            "Python functions, Memory and Global."
        )
    return owner, handle


def _remedy(type_: ExternType) -> str:
    if isinstance(type_, FunctionType):
        return "Give a Python function, or a function that another instance exports."
    if isinstance(type_, TableType):
        return "Give a table that another instance exports: the wasmer wheels cannot make tables."
    return f"Give {_made(type_, 'value')}, or a {kind_of(type_)} that another instance exports."


def refused_import(wanted: list[tuple[str, str, ExternType]], linked: Linked) -> str:
    """Of what an engine refused to link, what is wrong with the imports; "" where nothing is seen from here."""
    handles = [item for item, (kind, _) in zip(wanted, linked.pairs, strict=True) if kind == IS_HANDLE]
    for (module, field, type_), extern in zip(handles, linked.externs, strict=True):
        if isinstance(type_, (MemoryType, TableType)) and not _fits(type_, extern):
            said = f"import {module}.{field} is {with_article(type_)}, given {with_article(extern.type)}"
            return f"{said}\n{_remedy(type_)}"
    first: dict[tuple[str, str], ExternType] = {}
    for module, field, type_ in wanted:
        other = first.setdefault((module, field), type_)
        if other != type_:
            return (
                f"it imports {module}.{field} as {with_article(other)} and as {with_article(type_)}, and the wasmer "
                "wheels link one value per name\nBuild the module with another name for one of them."
            )
    return ""


def _fits(wanted: MemoryType | TableType, extern: Extern[Any]) -> bool:
    """Whether a memory or table may be that import (WebAssembly core specification, section 4.5.3): its size counts."""
    given, ask = extern.type, extern._owner.connection
    if wanted.maximum is not None and (given.maximum is None or given.maximum > wanted.maximum):
        return False
    if isinstance(wanted, MemoryType):
        return ask.memory_pages(extern._handle, f"size of {extern._about}") >= wanted.minimum
    size = ask.table_size(extern._handle, f"size of {extern._about}")
    return size >= wanted.minimum and given.element_type == wanted.element_type


def _may_keep_references(type_: ExternType) -> bool:
    """Whether the importer's functions may come to sit in what it imports, and be called after it is dropped."""
    if isinstance(type_, FunctionType):
        return bool({*type_.params, *type_.results} & {*REFERENCE_TYPES})
    if isinstance(type_, GlobalType):
        return type_.mutable and type_.value_type in REFERENCE_TYPES
    return isinstance(type_, TableType)
