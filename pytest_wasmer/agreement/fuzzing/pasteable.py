"""A finding as a test to paste: red as test_...[backends-agree]."""

from __future__ import annotations

import math
import re
from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pytest_wasmer.agreement.steps import Call
from pytest_wasmer.wasm.types import FunctionType, GlobalType, MemoryType
from pytest_wasmer.wasm.values import f32_bits, f64_bits, from_bits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.steps import Step
    from pytest_wasmer.wasm.types import ExternType


def pasteable_test(
    path: str,
    steps: Sequence[Step],
    exports: Mapping[str, ExternType],
    imports: Mapping[tuple[str, str], ExternType],
    recorded: Iterable[Sequence[Event]],
) -> str:
    """`recorded`: the events of each backend, which say what host functions answered."""
    answers = _answers(recorded)
    given = [_import_line(label, type_, answers.get(".".join(label), [])) for label, type_ in imports.items()]
    lines = [
        f"def test_{_identifier(path)}(wasm_instance):",
        *[f"    {line}" for line in _instance_lines(path, _by_space(given))],
        *[f"    {line}" for line in _step_lines(steps, exports)],
    ]
    body = "\n".join(lines)
    names = [name for name in ("Global", "Memory", "f32_from_bits", "f64_from_bits") if f"{name}(" in body]
    header = f"from pytest_wasmer import {', '.join(names)}\n\n\n" if names else ""
    return f"{header}{body}\n"


def _identifier(path: str) -> str:
    return re.sub(r"\W+", "_", PurePath(path).stem).strip("_").lower() or "module"


def _instance_lines(path: str, imports: Mapping[str, list[str]]) -> list[str]:
    name = PurePath(path).name
    if not imports:
        return [f"instance = wasm_instance({name!r})"]
    lines = ["imports = {"]
    for space, items in imports.items():
        lines += [f"    {space!r}: {{", *[f"        {item}," for item in items], "    },"]
    return [*lines, "}", f"instance = wasm_instance({name!r}, imports=imports)"]


def _by_space(given: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for space, line in given:
        found.setdefault(space, []).append(line)
    return found


def _import_line(label: tuple[str, str], type_: ExternType, answers: Sequence[str]) -> tuple[str, str]:
    space, name = label
    return space, f"{name!r}: {_stand_in(type_, answers)}"


def _stand_in(type_: ExternType, answers: Sequence[str]) -> str:
    if isinstance(type_, MemoryType):
        return f"Memory({type_.minimum}{'' if type_.maximum is None else f', maximum={type_.maximum}'})"
    if isinstance(type_, GlobalType):
        return f'Global("{type_.value_type}", 0{", mutable=True" if type_.mutable else ""})'
    assert isinstance(type_, FunctionType)
    zeros = _in_a_row(type_.results, [0] * len(type_.results))
    if len(set(answers)) < 2:
        return f"lambda *_: {answers[0] if answers else zeros}"
    return f"lambda *_, answers=iter([{', '.join(answers)}]): next(answers, {zeros})"


def _answers(recorded: Iterable[Sequence[Event]]) -> dict[str, list[str]]:
    """What each host function answered, of the backend that called it most often."""
    found: dict[str, list[str]] = {}
    for events in recorded:
        mine: dict[str, list[str]] = {}
        label = ""
        for kind, *rest in events:
            if kind == "host":
                label = rest[0]
            elif kind == "return":
                types = [name for name in rest[0].split(",") if name]
                mine.setdefault(label, []).append(_in_a_row(types, rest[1:]))
        found.update({name: answers for name, answers in mine.items() if len(answers) > len(found.get(name, ()))})
    return found


def _in_a_row(types: Sequence[str], bits: Sequence[int]) -> str:
    values = [literal(name, from_bits(name, value)) for name, value in zip(types, bits, strict=True)]
    return values[0] if len(values) == 1 else f"({', '.join(values)})" if values else "None"


def _step_lines(steps: Sequence[Step], exports: Mapping[str, ExternType]) -> list[str]:
    """Calls in a row of one function by `map`, which does not raise where they trap."""
    lines = []
    for name, group in groupby(steps, key=lambda step: step.name if isinstance(step, Call) else None):
        if name is None:
            for step in group:
                assert not isinstance(step, Call)
                lines.append(f"instance.{_export(step.memory)}.write({step.offset}, {_bytes(step.data)})")
            continue
        type_ = exports[name]
        assert isinstance(type_, FunctionType)
        rows = [_row(type_, step) for step in group if isinstance(step, Call)]
        lines.append(f"instance.{_export(name)}.map([{', '.join(rows)}])")
    return lines


def _export(name: str) -> str:
    plain = name.isidentifier() and not name.startswith("__")
    return f"exports.{name}" if plain else f"exports[{name!r}]"


def _row(type_: FunctionType, call: Call) -> str:
    values = [literal(name, value) for name, value in zip(type_.params, call.arguments, strict=True)]
    return f"({values[0]},)" if len(values) == 1 else f"({', '.join(values)})"


def _bytes(data: bytes) -> str:
    if len(data) > 8 and len(set(data)) == 1:
        return f"{data[:1]!r} * {len(data)}"
    return f"bytes.fromhex({data.hex()!r})" if len(data) > 8 else repr(data)


def literal(value_type: str, value: Any) -> str:
    """A value as Python source."""
    if value_type not in ("f32", "f64"):
        return hex(value) if value_type == "v128" and value > 9 else str(value)
    if math.isnan(value):
        bits, width = (f32_bits(value), 8) if value_type == "f32" else (f64_bits(value), 16)
        return f"{value_type}_from_bits({bits:#0{width + 2}x})"
    return f'float("{value}")' if math.isinf(value) else repr(float(value))
