"""What the members of a group must agree on, and what can be said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from pytest_wasmer.agreement.events import Event

    #: Contents by digest, of those that are at hand.
    Find: TypeAlias = Callable[[Iterable[str]], Mapping[str, bytes]]

AGREED, DIVERGED, INCOMPARABLE = "agreed", "diverged", "not compared"
NOT_DETERMINISTIC = "the test itself is not deterministic"


class Level(NamedTuple):
    """What members must agree on: `strict` means NaN bits, too."""

    strict: bool = False
    memory: bool = True
    globals: bool = True
    host_calls: bool = True


class Verdict(NamedTuple):
    """`kind` is one of the three words above; `reason`: why not compared.

    Of a divergence: the events before it, and for each member what came out then (None: nothing more). Of an
    agreement: `notes`, on what was let pass.
    """

    kind: str
    reason: str = ""
    before: Sequence[Event] = ()
    outcomes: Mapping[str, Event | None] = {}
    notes: tuple[str, ...] = ()


def of_losses(lost: Mapping[str, str]) -> Verdict:
    """Where some have lost their engine processes, and others not (""), that is what came out of it."""
    return Verdict(DIVERGED, "", (), {name: ("end", cause or "it ended") for name, cause in lost.items()})


def nothing_at_hand(digests: Iterable[str]) -> Mapping[str, bytes]:
    return {}
