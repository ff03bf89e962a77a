"""The types of imports and exports (WebAssembly core specification, section 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    from pytest_wasmer.engines import api

VALUE_TYPES = ("i32", "i64", "f32", "f64", "v128")
REFERENCE_TYPES = ("funcref", "externref")


class FunctionType(NamedTuple):
    """Value types by name, e.g. `("i32", "f64")`."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


class MemoryType(NamedTuple):
    """Limits in pages of 64 KiB."""

    minimum: int
    maximum: int | None

    def __str__(self) -> str:
        return f"memory of {limits_text(self.minimum, self.maximum)} pages"


class GlobalType(NamedTuple):
    value_type: str
    mutable: bool

    def __str__(self) -> str:
        return f"{'mutable' if self.mutable else 'immutable'} global of type {self.value_type}"


class TableType(NamedTuple):
    """Limits in elements."""

    element_type: str
    minimum: int
    maximum: int | None

    def __str__(self) -> str:
        return f"table of {limits_text(self.minimum, self.maximum)} elements of type {self.element_type}"


if TYPE_CHECKING:
    ExternType: TypeAlias = FunctionType | MemoryType | GlobalType | TableType

_BY_KIND = {"func": FunctionType, "memory": MemoryType, "global": GlobalType, "table": TableType}


def extern_type(primitive: api.ExternType) -> ExternType:
    """The type for an extern type of the engine contract."""
    kind, *fields = primitive
    found: ExternType = _BY_KIND[kind](*fields)
    return found


def kind_of(type_: ExternType) -> str:
    """ "function", "memory", "global" or "table"."""
    return type(type_).__name__.removesuffix("Type").lower()


def with_article(type_: ExternType) -> str:
    """ "a function (i32) -> ()", "an immutable global of type i32"."""
    said = described(type_)
    return f"{'an' if said[0] in 'aeiou' else 'a'} {said}"


def described(type_: ExternType) -> str:
    """ "function (i32) -> ()", "memory of 1 to 3 pages"."""
    return f"function {type_}" if isinstance(type_, FunctionType) else str(type_)


def limits_text(minimum: int, maximum: int | None) -> str:
    return f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"
