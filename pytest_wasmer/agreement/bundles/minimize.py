"""Makes a recording smaller for as long as something about it still holds, step by step and always the same way."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pytest_wasmer.agreement.bundles.recording import Recording, events_of, settled, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_wasmer.agreement.bundles.recording import Step

ItemT = TypeVar("ItemT")


def minimized(recording: Recording, holds: Callable[[Recording], bool]) -> Recording:
    """A recording of which no step, no step within a host call, and no row of a `map` can be left out.

    What is about instances whose making is left out goes with it. `holds` is asked of recordings only that can be
    replayed; it must hold of the given one.
    """
    known: dict[str, bool] = {}

    def still(steps: Sequence[Step]) -> bool:
        found = settled(recording._replace(events=[*events_of(steps)]))
        key = repr(found.events)
        if key not in known:
            known[key] = holds(found)
        return known[key]

    steps = fewer(steps_of(recording.events), still)
    for place, step in enumerate(steps):
        steps[place] = _smaller(step, partial(_still_among, still, steps, place))
    return settled(recording._replace(events=[*events_of(fewer(steps, still))]))


def _still_among(still: Callable[[list[Step]], bool], steps: Sequence[Step], place: int, changed: Step) -> bool:
    return still([*steps[:place], changed, *steps[place + 1 :]])


def _smaller(step: Step, still: Callable[[Step], bool]) -> Step:
    """With as little as possible of what happens within it."""

    def still_within(inner: Sequence[Step]) -> bool:
        return still(step._replace(inner=tuple(inner)))

    if step.event[0] == "map" and not step.inner:
        return _with_fewer_rows(step, still)
    # Host calls are the module's to make.
    inner = fewer(step.inner, still_within) if step.event[0] == "host" else [*step.inner]
    for place, child in enumerate(inner):
        inner[place] = _smaller(child, partial(_still_among, still_within, inner, place))
    return step._replace(inner=tuple(inner))


def _with_fewer_rows(step: Step, still: Callable[[Step], bool]) -> Step:
    def of(rows: Sequence[object]) -> Step:
        return step._replace(event=(*step.event[:-1], [*rows]))

    return of(fewer(step.event[-1], lambda rows: still(of(rows))))


def fewer(items: Sequence[ItemT], still: Callable[[list[ItemT]], bool]) -> list[ItemT]:
    """Of items, of all of which something holds, as few as it holds of: without any one more it does not.

    ddmin of Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002), by complements.
    """
    kept = [*items]
    size = len(kept)
    while kept:
        before = len(kept)
        start = 0
        while start < len(kept):
            without = [*kept[:start], *kept[start + size :]]
            if still(without):
                kept = without
            else:
                start += size
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    return kept
