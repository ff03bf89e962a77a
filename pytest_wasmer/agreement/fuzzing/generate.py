"""What fuzzing does next: sequences of calls and writes, equal for equal seeds on every machine."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pytest_wasmer.agreement.fuzzing.lanes import Batch, Plan
from pytest_wasmer.agreement.steps import Write
from pytest_wasmer.edges import PAGE, is_callable, many_edges
from pytest_wasmer.wasm.types import VALUE_TYPES, FunctionType, MemoryType
from pytest_wasmer.wasm.values import BITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.wasm.types import ExternType

# Rows of a batch: few at first, since nobody knows yet how long a call takes.
FIRST_ROWS, MOST_ROWS, GROWTH = 2, 2048, 8
MIXED_ROWS = 64
WITHOUT_PARAMETERS = 4
FRESH = 32
# Small numbers are sizes and addresses that lead far into a function; edges are where compilers go wrong.
SMALL = tuple(range(65))
WRITE_SIZES = (8, 64, 256, 1024, 1024)


class Generator:
    """Plans for one module by number. `limits`: the most rows of a batch by function, where it is slow."""

    def __init__(self, types: Mapping[str, ExternType], seed: int) -> None:
        self._functions: dict[str, tuple[str, ...]] = {}
        self._memories: dict[str, int] = {}
        for name, type_ in types.items():
            if isinstance(type_, FunctionType) and is_callable(type_):
                self._functions[name] = type_.params
            elif isinstance(type_, MemoryType) and type_.minimum:
                self._memories[name] = type_.minimum
        pages = max(self._memories.values(), default=1)
        self._edges = {name: many_edges(name, pages) for name in VALUE_TYPES}
        self._seed = seed
        self._used = dict.fromkeys(self._functions, 0)
        self.limits: dict[str, int] = {}

    @property
    def functions(self) -> list[str]:
        """Those that are called."""
        return list(self._functions)

    def drop(self, function: str) -> None:
        """Not to be called any more."""
        self._functions.pop(function, None)

    def plan(self, number: int) -> Plan:
        choose = random.Random(f"{self._seed}/{number}")
        names = self.functions
        answers = choose.choice((0, 1 + choose.getrandbits(16)))
        steps: list[Batch | Write] = list(self._writes(choose))
        if number < len(names) or choose.random() < 0.6:
            # Alone on its instance: what is found then has no past.
            name = names[number % len(names)]
            return Plan(answers, [*steps, self._batch(choose, name, MOST_ROWS)])
        for _ in range(choose.randint(2, 6)):
            steps.append(self._batch(choose, choose.choice(names), MIXED_ROWS))
            if choose.random() < 0.3:
                steps += self._writes(choose)
        return Plan(answers, steps)

    def _batch(self, choose: random.Random, name: str, most: int) -> Batch:
        used = self._used[name]
        self._used[name] += 1
        params = self._functions[name]
        size = min(FIRST_ROWS * GROWTH ** min(used, 8), most, self.limits.get(name, most))
        if not params:
            return Batch(name, [()] * min(size, WITHOUT_PARAMETERS))
        columns: list[Sequence[int]] = []
        for place, value_type in enumerate(params):
            same = [columns[before] for before in range(place) if params[before] == value_type]
            if same and choose.random() < 0.1:
                columns.append(choose.choice(same))
            else:
                columns.append(choose.choices(self._pool(choose, value_type), k=size))
        rows: list[Values] = list(zip(*columns, strict=True))
        return Batch(name, rows)

    def _pool(self, choose: random.Random, value_type: str) -> Sequence[int]:
        """What one parameter of one batch is taken from."""
        kind = choose.random()
        if kind < 0.25 and value_type in ("i32", "i64"):
            return SMALL
        if kind < 0.6:
            return self._edges[value_type]
        return [*self._edges[value_type], *[_any_value(choose, value_type) for _ in range(FRESH)], *SMALL[:16]]

    def _writes(self, choose: random.Random) -> list[Write]:
        return [
            self._write(choose, name, size * PAGE) for name, size in self._memories.items() if choose.random() < 0.5
        ]

    def _write(self, choose: random.Random, memory: str, size: int) -> Write:
        ends = [PAGE * page - 8 for page in range(1, min(size // PAGE, 8) + 1)]
        offset = choose.choice((0, 0, 0, choose.randrange(1024), choose.choice(ends), choose.randrange(size)))
        length = choose.choice(WRITE_SIZES)
        data = choose.randbytes(length) if choose.random() < 0.7 else bytes([choose.randrange(256)]) * length
        return Write(memory, offset, data[: size - offset])


def _any_value(choose: random.Random, value_type: str) -> int:
    """Of any size: as many small ones as large ones."""
    width = BITS[value_type]
    if value_type in ("i32", "i64"):
        value = choose.getrandbits(choose.randint(1, width))
        return value - (1 << width) if value >> width - 1 else value
    value = choose.getrandbits(width)
    if value_type == "f32" and value & 0x7FFFFFFF > 0x7F800000:
        return value | 0x400000  # see `many_edges`
    return value
