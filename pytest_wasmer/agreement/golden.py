"""What a test is expected to let be seen, as a file in the repository: one for all backends and machines.

    __golden__/<test file>/<test>.txt       beside the test file

A line per event (see `events`), its values as JSON; a float is followed by its bits, rows of `map` and pages of
memories have lines of their own::

    pytest-wasmer golden 1
    test "test_sqrt"
    level results
    instance 0 "wat:9e5c..."
    call 0 "sqrt" "f64" 2.0=0x4000000000000000
    result "f64" 1.4142135623730951=0x3ff6a09e667f3bcd
    state 0 "memory" "memory" 1 1
      page 0 5ab0... ~77f1...

Of what a report does not tell there is the number of events, and a digest of all (`more`). NaNs are canonical unless
the level is strict. A page of a memory, and long data, is known by its digest; what follows `~` is the digest of the
same with NaNs made canonical, where that is another one. Which module was used is said, but not compared.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement import FOLDER
from pytest_wasmer.agreement.events import TYPES_AT, canonical_digests, digests_in, pages_in, without_nan_bits
from pytest_wasmer.agreement.judge import HOST_CALLS, equal
from pytest_wasmer.agreement.verdict import Level
from pytest_wasmer.wasm.values import from_bits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.observe import Observation
    from pytest_wasmer.agreement.verdict import Find

FORMAT = 1
TITLE = "pytest-wasmer golden"
# Lines around the first difference, and from it on.
CONTEXT, SHOWN = 3, 20


class Broken(Exception):
    """A file that is no golden, or not one that can be read here. `newer`: of a later version."""

    newer = False


class Golden(NamedTuple):
    """`untold`: how many events follow on `events`; `digests`: of all, without NaN bits, and (strict) with them."""

    test: str
    strict: bool
    events: list[Event]
    untold: int
    digests: list[str]
    state: list[Event]


# From an observation


def golden_of(test: str, observed: Observation, level: Level, find: Find) -> Golden:
    """What an observation says to a golden of that level."""
    events = [event for event in observed.events if level.host_calls or event[0] not in HOST_CALLS]
    state = [event for event in observed.state if _counts(event, level)]
    canonical = canonical_digests(digests_in([*events, *state]), find)
    # Where host calls do not count there is nothing to be said of events that are known by digests only.
    digests = observed.checkpoints[-1][: 1 + level.strict] if observed.checkpoints and level.host_calls else ()
    return Golden(
        test,
        level.strict,
        [_stored(event, level, canonical) for event in events if event[0] != "made"],
        observed.total - len(observed.events) if digests else 0,
        list(digests),
        [_stored_state(event, level, canonical) for event in state],
    )


def _counts(state: Event, level: Level) -> bool:
    return (state[3] != "memory" or level.memory) and (state[3] != "global" or level.globals)


def _stored(event: Event, level: Level, canonical: Mapping[tuple[str, int], str]) -> Event:
    if event[0] in ("new", "use"):
        # What had been asked of an instance before depends on which tests ran.
        return ("instance", event[1], event[2])
    if event[0] in ("data", "write"):
        _, long, digest = event[-1].rpartition(" ")
        other = canonical.get((digest, event[-2] % 8)) if long else None
        return (*event, other) if other else event
    return event if level.strict else without_nan_bits(event)


def _stored_state(event: Event, level: Level, canonical: Mapping[tuple[str, int], str]) -> Event:
    if event[3] == "global":
        bits = ("value", event[4], int(event[5]))
        return (*event[:5], (bits if level.strict else without_nan_bits(bits))[2])
    if event[3] == "memory":
        pages = [[number, digest, canonical.get((digest, 0), "")] for number, digest in sorted(pages_in(event).items())]
        return (*event[:4], int(event[4]), int(event[5]), pages)
    return (*event[:4], int(event[4]))


def trap_kinds(events: Iterable[Event]) -> set[str]:
    """Of all traps in a sequence."""
    kinds = set()
    for event in events:
        if event[0] == "trap":
            kinds.add(event[1])
        elif event[0] == "results":
            kinds.update(row for row in event[2] if isinstance(row, str))
    return kinds


# Compared


def difference(expected: Golden, seen: Golden, level: Level, names: tuple[str, str]) -> list[str]:
    """Lines of both around the first difference; none where they say the same, as far as the level goes."""
    ours = _with_what_is_alike(expected.events, seen.events, level)
    state = _with_what_is_alike(expected.state, seen.state, level)
    place = int(level.strict)
    same = expected.untold == seen.untold and expected.digests[place:][:1] == seen.digests[place:][:1]
    adapted = seen._replace(
        events=ours,
        state=state,
        untold=expected.untold if same else seen.untold,
        digests=expected.digests if same else seen.digests,
    )
    from difflib import unified_diff

    left, right = (_body(golden) for golden in (expected, adapted))
    if left == right:
        return []
    first = next((place for place, lines in enumerate(zip(left, right, strict=False)) if lines[0] != lines[1]), None)
    start = max(0, (min(len(left), len(right)) if first is None else first) - CONTEXT)
    window = slice(start, start + CONTEXT + SHOWN)
    # The numbers of lines would be those of the windows.
    return [
        line for line in unified_diff(left[window], right[window], *names, lineterm="") if not line.startswith("@@")
    ]


def _with_what_is_alike(expected: Sequence[Event], seen: Sequence[Event], level: Level) -> list[Event]:
    """What was seen, in the words of what was expected wherever it says the same."""
    pairs = zip(expected, seen, strict=False)
    return [*[one if _alike(one, other, level) else other for one, other in pairs], *seen[len(expected) :]]


def _alike(one: Event, other: Event, level: Level) -> bool:
    if one[0] != other[0]:
        return False
    if one[0] == "instance":
        return bool(one[1] == other[1])
    if one[0] == "state" and one[1:4] == other[1:4]:
        if one[3] == "global":
            return equal([("value", *one[4:]), ("value", *other[4:])], level)
        if one[3] == "memory":
            return one[4:6] == other[4:6] and _pages_alike(one[6], other[6], level)
    if one[0] in ("data", "write") and not level.strict and _data_alike(one, other):
        return True
    return equal([one, other], level)


def _pages_alike(one: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]], level: Level) -> bool:
    if level.strict:
        return [page[:2] for page in one] == [page[:2] for page in other]
    return len(one) == len(other) and all(
        left[0] == right[0] and (left[1] == right[1] or (left[2] or left[1]) == (right[2] or right[1]))
        for left, right in zip(one, other, strict=True)
    )


def _data_alike(one: Event, other: Event) -> bool:
    """Whether long data is equal but for NaN bits."""
    last = 2 if one[0] == "data" else 4
    sizes, raw = zip(*[event[last].rpartition(" ")[::2] for event in (one, other)], strict=True)
    canonical = [
        event[last + 1] if len(event) > last + 1 else digest for event, digest in zip((one, other), raw, strict=True)
    ]
    same = raw[0] == raw[1] or canonical[0] == canonical[1]
    return one[:last] == other[:last] and bool(sizes[0]) and sizes[0] == sizes[1] and same


def other_module(expected: Golden, seen: Golden) -> bool:
    """Whether it was written with another build of the modules."""
    modules = [[event for event in golden.events if event[0] == "instance"] for golden in (expected, seen)]
    return modules[0] != modules[1]


# As text


def text_of(golden: Golden) -> str:
    level = "strict" if golden.strict else "results"
    head = [f"{TITLE} {FORMAT}", f"test {_json(golden.test)}", f"level {level}"]
    return "".join(f"{line}\n" for line in [*head, *_body(golden)])


def _body(golden: Golden) -> list[str]:
    more = [f"more {golden.untold} {' '.join(golden.digests)}"] if golden.untold else []
    told = [line for event in golden.events for line in _lines(event)]
    return [*told, *more, *[line for event in golden.state for line in _lines(event)]]


def _lines(event: Event) -> list[str]:
    kind, *values = event
    if kind in ("map", "results"):
        types = values[-2].split(",")
        return [" ".join([kind, *map(_json, values[:-1])]), *[_row(types, row) for row in values[-1]]]
    if kind == "state" and values[2] == "memory":
        pages = [f"  page {number} {raw}{' ~' if other else ''}{other}" for number, raw, other in values[5]]
        return [" ".join([kind, *map(_json, values[:5])]), *pages]
    place = 4 if kind == "state" and values[2] == "global" else TYPES_AT.get(kind, len(values))
    types = values[place - 1].split(",") if place < len(values) else []
    return [" ".join([kind, *map(_json, values[:place]), *map(_value, types, values[place:])])]


def _row(types: Sequence[str], row: Any) -> str:
    return f"  trap {_json(row)}" if isinstance(row, str) else " ".join(["  row", *map(_value, types, row)])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _value(name: str, bits: int) -> str:
    if name in ("f32", "f64"):
        return f"{from_bits(name, bits)!r}={bits:#0{10 if name == 'f32' else 18}x}"
    return f"{bits:#034x}" if name == "v128" else str(bits)


def parse(text: str) -> Golden:
    """The reverse of `text_of`. Raises `Broken`, which says which line."""
    title, *lines = text.split("\n")
    named, _, version = title.rpartition(" ")
    if named != TITLE or not version.isdecimal():
        raise Broken(f"it does not begin with {TITLE + ' ' + str(FORMAT)!r}")
    if int(version) != FORMAT:
        broken = Broken(f"it is of a newer version ({version}, this pytest-wasmer reads {FORMAT})")
        broken.newer = int(version) > FORMAT
        raise broken
    golden = Golden("", False, [], 0, [], [])
    for number, line in enumerate(lines, 2):
        try:
            golden = _with_line(golden, line)
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Broken(f"line {number} makes no sense: {line[:60]!r}") from None
    if not golden.test or not _is_as_written(golden, lines):
        raise Broken("it is not as it was written")
    return golden


def _is_as_written(golden: Golden, lines: Sequence[str]) -> bool:
    try:
        return text_of(golden).split("\n")[1:] == lines
    except (ValueError, LookupError, TypeError, AttributeError, struct.error):
        return False


def _with_line(golden: Golden, line: str) -> Golden:
    kind, _, rest = line.partition(" ")
    if kind == "test":
        return golden._replace(test=str(json.loads(rest)))
    if kind == "level":
        return golden._replace(strict={"strict": True, "results": False}[rest])
    if kind == "more":
        count, *digests = rest.split(" ")
        return golden._replace(untold=int(count), digests=digests)
    if line.startswith("  "):
        _add_detail((golden.state or golden.events)[-1][-1], line[2:])
    elif line:
        if not kind.isalpha():  # of a merge, say
            raise ValueError(kind)
        values = _values(rest)
        if kind in ("map", "results") or (kind == "state" and values[2] == "memory"):
            values.append([])
        (golden.state if kind == "state" else golden.events).append((kind, *values))
    return golden


def _add_detail(details: list[Any], line: str) -> None:
    kind, _, rest = line.partition(" ")
    if kind == "page":
        number, raw, *other = rest.split(" ")
        details.append([int(number), raw, other[0].removeprefix("~") if other else ""])
    else:
        details.append({"row": list, "trap": lambda values: values[0]}[kind](_values(rest)))


_BITS = re.compile(r"(?:[-+.\w]+=)?0x([0-9a-f]+)(?: |$)")
_DECODER = json.JSONDecoder()


def _values(text: str) -> list[Any]:
    values: list[Any] = []
    place = 0
    while place < len(text):
        bits = _BITS.match(text, place)
        if bits is not None:
            values.append(int(bits[1], 16))
            place = bits.end()
        else:
            value, place = _DECODER.raw_decode(text, place)
            values.append(value)
            place += 1
    return values


# As a file

_UNSAFE = re.compile(r"[^A-Za-z0-9_.,=+@\[\]() -]")
_DEVICES = {"con", "prn", "aux", "nul", *[f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10)]}
_LONGEST = 120


def file_name(test: str) -> str:
    """Of a test ("TestA::test_b[3]"): safe on every system; other tests have others, whatever the case of letters."""
    name = test.replace("::", ".")
    safe = _UNSAFE.sub("_", name)[:_LONGEST]
    if safe.partition(".")[0].lower() in _DEVICES:
        safe = f"_{safe}"
    # Names of classes have upper case, too, but seldom differ in it alone; a golden says of which test it is.
    _, _, parameters = name.partition("[")
    if safe != name or parameters != parameters.lower():
        safe += f"-{hashlib.sha256(test.encode(errors='surrogatepass')).hexdigest()[:8]}"
    return f"{safe}.txt"


def folder_of(test_file: Path) -> Path:
    """Where the goldens of a test file are."""
    return test_file.parent / FOLDER / (test_file.stem if test_file.suffix == ".py" else test_file.name)


def read(path: Path, test: str) -> Golden | Broken | None:
    """That of a test, or why it cannot be used; None if there is no file."""
    try:
        golden = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return Broken(f"it cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
    except Broken as broken:
        return broken
    return golden if golden.test == test else Broken(f"it is that of {golden.test}")


def write(path: Path, golden: Golden) -> None:
    """All of it or nothing. Raises OSError."""
    from pytest_wasmer.wasm.artifact import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text_of(golden).encode())
