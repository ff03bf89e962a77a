"""Hypothesis strategies from the types of exports, with many of the values at which compilers go wrong.

@given(data=st.data())
def test_lexer(wasm_all, data):
    lexer = wasm_all("lexer.wasm")
    run(data.draw(calls(lexer)), lexer)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_wasmer.agreement.steps import Call, Write
from pytest_wasmer.edges import PAGE, is_callable, many_edges
from pytest_wasmer.wasm.types import REFERENCE_TYPES, FunctionType, MemoryType
from pytest_wasmer.wasm.values import BITS, from_bits

try:
    from hypothesis import strategies as st
except ImportError:
    raise ModuleNotFoundError(
        "pytest_wasmer.agreement.strategies needs Hypothesis: pip install 'pytest-wasmer[hypothesis]'",
        name="hypothesis",
    ) from None

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from pytest_wasmer.agreement.steps import Step
    from pytest_wasmer.wasm.types import ExternType

# Small numbers first: Hypothesis shrinks towards what comes first, and most parameters are sizes and addresses.
SMALL = 100
LONGEST_WRITE = 64


def arguments(function: Any, pages: int = 1) -> SearchStrategy[tuple[Any, ...]]:
    """Tuples of Python values that a function accepts: `f(*arguments)`, or rows of `f.map`.

    `function`: what an instance exports, or a `FunctionType`. `pages`: the size of its memory, whose edges are among
    the integers. Raises TypeError for functions that take references.
    """
    type_ = getattr(function, "type", function)
    references = {*type_.params} & {*REFERENCE_TYPES}
    if references:
        raise TypeError(f"{getattr(function, 'name', 'a function')}{type_}: Python makes no {' and '.join(references)}")
    return st.tuples(*[values(name, pages) for name in type_.params])


def values(value_type: str, pages: int = 1) -> SearchStrategy[Any]:
    """Python values of one type: half of them edges."""
    edges = [from_bits(value_type, bits) for bits in many_edges(value_type, pages)]
    if value_type in ("f32", "f64"):
        return st.one_of(st.sampled_from(edges), st.floats(width=32 if value_type == "f32" else 64))
    if value_type == "v128":
        return st.one_of(st.sampled_from(edges), _lanes("i32"), _lanes("f64"), st.integers(0, 2**128 - 1))
    # In an order in which what comes before is smaller, too.
    upwards = sorted(edge for edge in edges if edge >= 0)
    downwards = sorted((edge for edge in edges if edge < 0), reverse=True)
    width = BITS[value_type]
    anything = st.integers(-(1 << width - 1), (1 << width - 1) - 1)
    return st.one_of(st.integers(0, SMALL), st.sampled_from(upwards), st.sampled_from(downwards), anything)


def _lanes(value_type: str) -> SearchStrategy[int]:
    """Vectors of edges."""
    width = BITS[value_type]
    count = 128 // width
    lanes = st.lists(st.sampled_from(many_edges(value_type)), min_size=count, max_size=count)
    return lanes.map(lambda row: sum((lane % (1 << width)) << place * width for place, lane in enumerate(row)))


def calls(exports: Any, *, max_size: int = 20) -> SearchStrategy[list[Step]]:
    """Sequences of calls and memory writes for one instance: `run(steps, instance)`.

    `exports`: a module, an instance, what `wasm_all` made, or a mapping of names to types. Functions that take or
    give references are left out. Raises ValueError where no function is left.
    """
    types = types_of(exports)
    functions = {name: type_ for name, type_ in types.items() if is_callable(type_)}
    memories = {name: type_ for name, type_ in types.items() if isinstance(type_, MemoryType) and type_.minimum}
    if not functions:
        raise ValueError(f"there is no function to call among the exports: {', '.join(types) or 'none'}")
    pages = max([type_.minimum for type_ in memories.values()], default=1)
    choices: list[SearchStrategy[Step]] = [_calls_of(name, type_, pages) for name, type_ in functions.items()]
    choices += [_writes(name, type_) for name, type_ in memories.items()]
    # Hypothesis does not delete elements of many choices from the middle of a list; it does turn off a switch.
    switched = st.tuples(st.booleans(), st.one_of(choices))
    return st.lists(switched, max_size=max_size).map(lambda rows: [step for is_on, step in rows if is_on])


def types_of(exports: Any) -> Mapping[str, ExternType]:
    """The types of exports by name, of whatever has some."""
    if isinstance(exports, Mapping):
        return exports
    module = getattr(exports, "module", exports)
    types = module.exports
    assert isinstance(types, Mapping)
    return types


def _calls_of(name: str, type_: ExternType, pages: int) -> SearchStrategy[Step]:
    assert isinstance(type_, FunctionType)
    return arguments(type_, pages).map(lambda row: Call(name, row))


def _writes(name: str, type_: MemoryType) -> SearchStrategy[Step]:
    """Within the memory that there is at least, at low addresses and at the ends of pages above all."""
    size = type_.minimum * PAGE
    ends = [PAGE * page - before for page in range(1, min(type_.minimum, 8) + 1) for before in (1, 2, 4, 8, 16)]
    offsets = st.one_of(st.integers(0, 1024), st.sampled_from(ends), st.integers(0, size - 1))
    data = st.binary(min_size=1, max_size=LONGEST_WRITE)
    return st.tuples(offsets, data).map(lambda row: Write(name, row[0], row[1][: size - row[0]]))
