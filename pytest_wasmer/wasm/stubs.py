"""Stand-ins for imports that nobody gave: memories and globals as asked for, and functions that only answer."""

from __future__ import annotations

import random
from itertools import count
from typing import TYPE_CHECKING, Any

from pytest_wasmer.wasm.memory import Memory
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType, GlobalType, MemoryType, TableType, with_article
from pytest_wasmer.wasm.values import from_bits
from pytest_wasmer.wasm.variables import MADE_BY_THE_HOST, Global

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_wasmer.wasm.types import ExternType

    Edges = Mapping[str, Sequence[int]]
    #: What a host function, "env.log", was called with and what it answered.
    Note = Callable[[str, tuple[Any, ...], Any], object]


def unmakeable(imports: Mapping[tuple[str, str], ExternType]) -> str:
    """The first that Python cannot make: "imports env.t, a table of ..., which Python cannot make"; "" for none."""
    for (space, name), type_ in imports.items():
        if not _can_be_made(type_):
            return f"imports {space}.{name}, {with_article(type_)}, which Python cannot make"
    return ""


def _can_be_made(type_: ExternType) -> bool:
    if isinstance(type_, FunctionType):
        return not {*type_.params, *type_.results} & {*REFERENCE_TYPES}
    if isinstance(type_, GlobalType):
        return type_.value_type in MADE_BY_THE_HOST
    return not isinstance(type_, TableType)


def stand_ins(
    imports: Mapping[tuple[str, str], ExternType],
    answers: int = 0,
    edges: Edges | None = None,
    note: Note | None = None,
) -> dict[str, dict[str, Any]]:
    """For one instance. Functions answer zeros, or with `answers` other than 0 some of `edges`.

    What they answer depends on `answers`, their names and how often they were called: equal on all backends.
    """
    found: dict[str, dict[str, Any]] = {}
    for (space, name), type_ in imports.items():
        label = f"{space}.{name}"
        found.setdefault(space, {})[name] = _stand_in(label, type_, answers, edges or {}, note or _quietly)
    return found


def _stand_in(label: str, type_: ExternType, answers: int, edges: Edges, note: Note) -> Any:
    if isinstance(type_, MemoryType):
        return Memory(type_.minimum, maximum=type_.maximum)
    if isinstance(type_, GlobalType):
        return Global(type_.value_type, 0, mutable=type_.mutable)
    assert isinstance(type_, FunctionType)
    results, calls = type_.results, count()

    def function(*arguments: Any) -> Any:
        answer = _in_a_row([_answer(f"{answers}/{label}/{next(calls)}", name, answers, edges) for name in results])
        note(label, arguments, answer)
        return answer

    return function


def _answer(seed: str, value_type: str, answers: int, edges: Edges) -> Any:
    return from_bits(value_type, random.Random(seed).choice(edges[value_type]) if answers else 0)


def _in_a_row(values: Sequence[Any]) -> Any:
    """As a host function returns them."""
    return values[0] if len(values) == 1 else tuple(values) or None


def _quietly(label: str, arguments: tuple[Any, ...], answer: Any) -> None:
    pass
