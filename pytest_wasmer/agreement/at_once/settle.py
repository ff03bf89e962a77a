"""What several backends were asked at once, and what they said as one: the agreed value, or `Divergence`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pytest_wasmer.agreement.events import data_text
from pytest_wasmer.agreement.judge import UNKNOWN, equal, is_exhausted
from pytest_wasmer.agreement.verdict import DIVERGED, Level, Verdict
from pytest_wasmer.agreement.verdicts import disagreement
from pytest_wasmer.engines.api import OutOfBounds, Refused, Trapped
from pytest_wasmer.runtime.errors import EngineLost, WasmError
from pytest_wasmer.wasm.values import from_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.engines.api import Values


class Divergence(AssertionError, WasmError):
    """Backends that were asked the same at once did not do the same.

    `outcomes`: by backend an event (see `pytest_wasmer.agreement.events`).
    """

    __module__ = "pytest_wasmer"  # a short summary line has room for who, then

    def __init__(self, text: str, outcomes: Mapping[str, Event]) -> None:
        super().__init__(text, outcomes)
        self.outcomes = outcomes

    def __str__(self) -> str:
        return str(self.args[0])


class NotComparable(WasmError):
    """A stack was exhausted on some of the backends that were asked at once: how deep one goes differs."""

    __module__ = "pytest_wasmer"


class Ended(Protocol):
    """How a request ended on one backend: with a value, unless there is a failure."""

    value: Any
    failure: BaseException | None


class Question(NamedTuple):
    """What all backends are asked.

    `seen`: the event that a value is. `params`: types of a call's arguments. `makes`: what is answered is the handle of
    something new, another on each backend.
    """

    about: str
    seen: Callable[[Any], Event]
    params: tuple[str, ...] = ()
    makes: bool = False

    def text(self, values: Values | None) -> str:
        """With the arguments of a call."""
        if not values:
            return self.about
        shown = [str(from_bits(name, value)) for name, value in zip(self.params, values, strict=True)]
        return f"{self.about} with ({', '.join(shown)})"


def settled(
    names: Sequence[str], ended: Sequence[Ended], question: Question, level: str, values: Values | None = None
) -> Any:
    """The agreed value, or of what was made all handles.

    The first backend's where values are equal but for the bits of NaNs, and where `level` is "off". Raises what all
    backends raised alike, `Divergence`, `NotComparable`, and `EngineLost`.
    """
    __tracebackhide__ = True
    first = ended[0]
    for one in ended:
        if one.failure is not None or (one.value != first.value and not question.makes):
            break
    else:
        return [one.value for one in ended] if question.makes else first.value
    lost = next((one.failure for one in ended if isinstance(one.failure, EngineLost)), None)
    if lost is not None:
        raise lost
    if first.failure is None or any(one.failure is not first.failure for one in ended):
        first = _chosen(names, ended, question, level, values)
    if first.failure is not None:
        raise first.failure
    return first.value


def _chosen(
    names: Sequence[str], ended: Sequence[Ended], question: Question, level: str, values: Values | None
) -> Ended:
    """Who speaks for all. Raises `Divergence` and `NotComparable`."""
    __tracebackhide__ = True
    if level == "off" and not question.makes:  # there is no going on with a half of an instance
        return ended[0]
    events = {name: event_of(one, question) for name, one in zip(names, ended, strict=True)}
    compare(events, question, level, values, [one.value for one in ended if isinstance(one.value, bytes)])
    # An engine that cannot tell traps apart does not speak for one that can.
    return next((one for one, event in zip(ended, events.values(), strict=True) if not _is_vague(event)), ended[0])


def event_of(ended: Ended, question: Question) -> Event:
    failure = ended.failure
    if failure is None:
        return question.seen(ended.value)
    if isinstance(failure, Trapped):
        return ("trap", failure.kind)
    if isinstance(failure, Refused):
        return ("refused", failure.stage)
    if isinstance(failure, OutOfBounds):
        return ("out of bounds of", failure.size, "bytes")
    return ("raised", type(failure).__name__)


def compare(
    events: Mapping[str, Event],
    question: Question,
    level: str,
    values: Values | None,
    contents: Iterable[bytes] = (),
) -> None:
    """Nothing where they say the same. `contents`: of memories, where events may have but their digests."""
    __tracebackhide__ = True
    known = {data_text(content).rpartition(" ")[2]: content for content in contents}

    def find(digests: Iterable[str]) -> Mapping[str, bytes]:
        return known

    if equal(sorted(events.values(), key=_is_vague), Level(level == "strict"), find):
        return
    exhausted = [name for name, event in events.items() if is_exhausted(event)]
    others = [event for name, event in events.items() if name not in exhausted]
    if exhausted and (not others or equal(others, Level(level == "strict"), find)):
        raise NotComparable(
            f"{question.text(values)}: the stack was exhausted on {', '.join(exhausted)}, at a depth that differs "
            "between compilers: nothing can be said\nLet it recurse less deep."
        )
    who, *table = disagreement(Verdict(DIVERGED, "", (), events), find)
    raise Divergence("\n".join([who, f"{question.text(values)}:", *table]), events)


def _is_vague(event: Event | None) -> bool:
    return event == ("trap", UNKNOWN)
