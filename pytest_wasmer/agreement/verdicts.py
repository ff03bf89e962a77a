"""A divergence in words: what was called, who said what, who is alone against whom."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pytest_wasmer.agreement.events import PAGE, REST, content_of, differing, pages_in
from pytest_wasmer.agreement.judge import UNTOLD
from pytest_wasmer.agreement.verdict import nothing_at_hand
from pytest_wasmer.report.table import aligned, in_words
from pytest_wasmer.wasm.values import from_bits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.verdict import Find, Verdict

PAGES_SHOWN = 8
BYTES_SHOWN = 16
TOO_MANY = "(more events than are kept in full; a shorter test, or fewer calls, shows which)"


def message(verdict: Verdict, members: Mapping[str, str], find: Find = nothing_at_hand) -> str:
    """For a person who never read a compiler. `members`: node ids by variant."""
    again = f"Again: pytest {' '.join(shlex.quote(nodeid) for nodeid in members.values())}"
    return "\n".join([*disagreement(verdict, find), again])


def disagreement(verdict: Verdict, find: Find = nothing_at_hand) -> list[str]:
    """Who against whom, what was being done, and a line per variant with what came out; the odd one first."""
    outcomes = verdict.outcomes
    camps = camps_of(outcomes)
    asked = _asked(verdict.before, next(iter(outcomes.values())))
    rows = [(name, *_shown(event, outcomes)) for camp in camps for name, event in camp.items()]
    width = max(len(row) for row in rows)
    table = [f"    {line}" for line in aligned([(*row, *[""] * (width - len(row))) for row in rows], texts=width)]
    return [_who(camps), *asked, *table, *_bytes(camps, find)]


def difference(verdict: Verdict) -> str:
    """What went in, where that differs: "call add(1, 2) on llvm, call add(1, 3) on singlepass"."""
    said = [f"{_plain(event)} on {name}" for name, event in verdict.outcomes.items()]
    return ", ".join(dict.fromkeys(said))


def camps_of(outcomes: Mapping[str, Event | None]) -> list[dict[str, Event | None]]:
    """Who says the same; the smallest camp first."""
    camps: dict[str, dict[str, Event | None]] = {}
    for name, event in outcomes.items():
        camps.setdefault(repr(event), {})[name] = event
    return sorted(camps.values(), key=len)


def _who(camps: Sequence[Mapping[str, object]]) -> str:
    if len(camps) == 2 and len(camps[0]) < len(camps[1]):
        return f"{in_words(camps[0])} against {in_words(camps[1])}:"
    return f"{' against '.join(in_words(camp) for camp in camps)}: they disagree"


def _asked(before: Sequence[Event], outcome: Event | None) -> list[str]:
    """What was being done."""
    if outcome is not None and outcome[0] == UNTOLD:
        return [f"All that went in is equal; what came out differs somewhere in {outcome[1]}:", TOO_MANY]
    if outcome is not None and outcome[0] == "state":
        return [f"After the test, {outcome[3]} {outcome[2]!r} of instance {outcome[1]} differs:"]
    depth = 0
    for event in reversed(before):
        if event[0] in ("result", "results", "trap", "raised", "made", "refused"):
            depth += 1
        elif event[0] in ("call", "map", "new"):
            if not depth:
                return [f"{_plain(event)} (event {len(before)}):"]
            depth -= 1
        elif event[0] in ("read", "get", "size", "grow") and not depth:
            return [f"{_plain(event)} (event {len(before)}):"]
    return []


def _plain(event: Event | None) -> str:
    """An event in words."""
    if event is None:
        return "nothing more"
    if event[0] == UNTOLD:
        return "another digest"
    kind, *rest = event
    if kind in ("call", "map"):
        _, name, types, *bits = rest
        return f"{kind} {name}({_values(types, bits)})" if kind == "call" else f"map of {name} over {len(bits[0])} rows"
    if kind in ("result", "return"):
        return _values(rest[0], rest[1:]) or "no result"
    if kind == "value":
        return _values(rest[0], rest[1:])
    if kind == "host":
        return f"host call {rest[0]}({_values(rest[1], rest[2:])})"
    if kind == "trap":
        return f"trap {rest[0]}"
    if kind == "new":
        return "instantiation"
    return " ".join(map(str, event))


def _values(types: str, bits: Sequence[int]) -> str:
    return ", ".join(str(from_bits(name, value)) for name, value in zip(types.split(","), bits, strict=bool(types)))


def _shown(event: Event | None, outcomes: Mapping[str, Event | None]) -> tuple[str, ...]:
    """A row: in words, and where single values differ in hex and bits."""
    if event is None or event[0] not in ("result", "value", "number"):
        return (_state(event, outcomes) if event is not None and event[0] == "state" else _map(event, outcomes),)
    if event[0] == "number":
        return (str(event[1]),)
    types, bits = event[1].split(","), event[2:]
    shown = [_plain(event)]
    for name, value in zip(types, bits, strict=bool(event[1])):
        width = {"i32": 32, "f32": 32, "v128": 128}.get(name, 64)
        number = value & (1 << width) - 1
        shown.append(f"{number:#0{width // 4 + 2}x}")
        if width <= 64:
            shown.append(f"{number:#0{width + 2}b}")
    return tuple(shown)


def _map(event: Event | None, outcomes: Mapping[str, Event | None]) -> str:
    """Of the results of `map` the first that differ."""
    results = [other[2] for other in outcomes.values() if other is not None and other[0] == "results"]
    if event is None or event[0] != "results" or len(results) < len(outcomes):
        return _plain(event)
    place = next(index for index, row in enumerate(zip(*results, strict=True)) if any(item != row[0] for item in row))
    row = event[2][place]
    return f"row {place}: {row if isinstance(row, str) else _values(event[1], row)}"


def _state(event: Event, outcomes: Mapping[str, Event | None]) -> str:
    _, _, _, kind, *rest = event
    if kind == "global":
        return _values(rest[0], [int(rest[1])])
    if kind == "table":
        return f"{rest[0]} elements"
    if kind == REST:
        return "another digest"
    mine, others = pages_in(event), [pages_in(other) for other in outcomes.values() if other]
    numbers = sorted({number for other in others for number in other})
    various = [number for number in numbers if len({other.get(number) for other in others}) > 1]
    said = [f"page {number} {mine.get(number, 'zeros')}" for number in various[:PAGES_SHOWN]]
    more = f" and {len(various) - PAGES_SHOWN} more" if len(various) > PAGES_SHOWN else ""
    return f"{rest[0]} pages{'; ' if said else ''}{', '.join(said)}{more}"


def _bytes(camps: Sequence[Mapping[str, Event | None]], find: Find) -> list[str]:
    """Where contents of a memory first differ between the first two camps, if they are at hand."""
    names = [next(iter(camp)) for camp in camps[:2]]
    offset, contents = _contents([next(iter(camp.values())) for camp in camps[:2]], find)
    left, right = contents or (None, None)
    if left is None or right is None or len(left) != len(right):
        return []
    place = next(differing(left, right), None)
    if place is None:
        return []
    start = max(0, place - (offset + place) % BYTES_SHOWN)
    rows = [(name, part[start : start + BYTES_SHOWN].hex(" ")) for name, part in zip(names, (left, right), strict=True)]
    lines = [f"    {line}" for line in aligned(rows, texts=2)]
    return [f"The first byte that differs is at {offset + place:#x}; from {offset + start:#x}:", *lines]


def _contents(events: Sequence[Event | None], find: Find) -> tuple[int, list[bytes | None]]:
    """An offset, and what two events say is there: data that was read, or the first page that differs."""
    one, other = events
    if one is None or other is None or one[0] != other[0]:
        return 0, []
    if one[0] == "data":
        return one[1], [content_of(event[2], find) for event in (one, other)]
    if one[0] != "state" or one[3] != "memory" or one[5] != "1":
        return 0, []
    left, right = pages_in(one), pages_in(other)
    page = min((number for number in {*left, *right} if left.get(number) != right.get(number)), default=0)
    digests = [pages.get(page) for pages in (left, right)]
    found = find([digest for digest in digests if digest])
    return page * PAGE, [found.get(digest) if digest else bytes(PAGE) for digest in digests]
