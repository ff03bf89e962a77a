"""Makes a sequence small that shows something: fewer steps, then simpler values. Deterministic."""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement.steps import Call, Write
from pytest_wasmer.wasm.types import FunctionType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_wasmer.agreement.steps import Step
    from pytest_wasmer.wasm.types import ExternType

# So many attempts, or seconds, are worth it.
ATTEMPTS = 2000
SECONDS = 30.0
# From plain to strange.
FLOATS = (0.0, 1.0, 2.0, 0.5, -1.0, -0.0, math.inf, -math.inf, math.nan)
FEW_BYTES = 32


class Sequence(NamedTuple):
    """Steps for a new instance. `answers`: those of its host functions, 0 for zeros."""

    steps: list[Step]
    answers: int


def shrunk(sequence: Sequence, types: Mapping[str, ExternType], shows: Callable[[Sequence], bool]) -> Sequence:
    """The smallest sequence met that `shows` what the given one shows."""
    return _Shrinker(sequence, types, shows).shrink()


class _Shrinker:
    def __init__(self, sequence: Sequence, types: Mapping[str, ExternType], shows: Callable[[Sequence], bool]) -> None:
        self._best = sequence
        self._types = types
        self._shows = shows
        self._left = ATTEMPTS
        self._deadline = monotonic() + SECONDS
        self._known: dict[str, bool] = {repr(sequence): True}

    def shrink(self) -> Sequence:
        self._attempt(self._best._replace(steps=self._best.steps[-1:]))
        before = None
        while before != repr(self._best) and self._left > 0:
            before = repr(self._best)
            self._drop_steps()
            self._attempt(self._best._replace(answers=0))
            for place in range(len(self._best.steps)):
                self._simplify(place)
        return self._best

    def _attempt(self, sequence: Sequence) -> bool:
        """Whether it shows the same; then it is the best so far."""
        key = repr(sequence)
        if key not in self._known:
            if self._left <= 0 or monotonic() > self._deadline:
                self._left = 0
                return False
            self._left -= 1
            self._known[key] = self._shows(sequence)
        if self._known[key]:
            self._best = sequence
        return self._known[key]

    def _drop_steps(self) -> None:
        size = len(self._best.steps) // 2
        while size:
            start = 0
            while start < len(self._best.steps):
                steps = self._best.steps
                if not self._attempt(self._best._replace(steps=[*steps[:start], *steps[start + size :]])):
                    start += size
            size //= 2

    def _replace(self, place: int, step: Step) -> bool:
        steps = list(self._best.steps)
        steps[place] = step
        return self._attempt(self._best._replace(steps=steps))

    def _simplify(self, place: int) -> None:
        step = self._best.steps[place]
        if isinstance(step, Write):
            self._simplify_write(place, step)
            return
        type_ = self._types[step.name]
        assert isinstance(type_, FunctionType)
        for position, value_type in enumerate(type_.params):
            self._simplify_argument(place, position, value_type)

    def _simplify_argument(self, place: int, position: int, value_type: str) -> None:
        step = self._best.steps[place]
        assert isinstance(step, Call)

        def put(value: Any) -> bool:
            return self._replace(place, Call(step.name, _with(step.arguments, position, value)))

        value = step.arguments[position]
        if value_type in ("f32", "f64"):
            any(put(simpler) for simpler in _simpler_floats(value))
        elif value_type == "v128" and value.bit_length() > 64:
            any(put(simpler) for simpler in (0, 1, value >> 64, value & (1 << 64) - 1, value & (1 << 32) - 1))
        elif value and not put(0):
            self._halve(value, put)

    def _halve(self, value: int, put: Callable[[int], bool]) -> None:
        """Between 0, which does not show it, and what does, the last one that does not."""
        sign = -1 if value < 0 else 1
        if sign < 0 and put(-value):
            sign, value = 1, -value
        below, above = 0, abs(value)
        while above - below > 1:
            middle = (below + above) // 2
            if put(sign * middle):
                above = middle
            else:
                below = middle

    def _simplify_write(self, place: int, step: Write) -> None:
        while len(step.data) > 1:
            half = len(step.data) // 2
            first, second = (
                step._replace(data=step.data[:half]),
                Write(step.memory, step.offset + half, step.data[half:]),
            )
            smaller = next((part for part in (first, second) if self._replace(place, part)), None)
            if smaller is None:
                break
            step = smaller
        for index in range(len(step.data) if len(step.data) <= FEW_BYTES else 0):
            plain = step._replace(data=step.data[:index] + b"\0" + step.data[index + 1 :])
            if self._replace(place, plain):
                step = plain


def _with(values: tuple[Any, ...], position: int, value: Any) -> tuple[Any, ...]:
    return (*values[:position], value, *values[position + 1 :])


def _simpler_floats(value: float) -> Iterator[float]:
    for plain in FLOATS:
        if repr(plain) == repr(value) and not math.isnan(value):
            return
        yield plain
    if math.isfinite(value) and value != int(value):
        yield float(int(value))
