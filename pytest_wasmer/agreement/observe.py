"""Records what a test and its instances say to each other, where Python meets Wasm.

One recorder per session. The objects of `wasm/` report to it through their connection, which has it only while a test
of its backend is set up and called: what fixtures of other backends do meanwhile does not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
import zlib
from collections import deque
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_wasmer.agreement.events import (
    BEGINNINGS_IN,
    LONG,
    REST,
    data_text,
    decoded,
    encoded,
    json_text,
    template,
    without_nan_bits,
)
from pytest_wasmer.agreement.local import EVENTS, journal_end
from pytest_wasmer.engines.api import Refused, Trapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    from pytest_wasmer.agreement.events import Event
    from pytest_wasmer.agreement.local import Journal, Local
    from pytest_wasmer.engines.api import Values
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.externs import Owner
    from pytest_wasmer.wasm.module import Module

    #: Events as text, and from where to where they are calls and their results by turns.
    Lines: TypeAlias = tuple[Sequence[str], tuple[int, int]]
    #: Templates of a call, of its result and of both.
    Templates: TypeAlias = tuple[str, str, str]
    #: With the arguments in bits.
    Begun: TypeAlias = tuple[Templates, Values]

# Events of one test that are told in full, in bytes of their text; the rest is a digest with a checkpoint per CHUNK.
TOLD = 150_000
CHUNK = 1024
CHECKPOINTS = 500
# The same of what is left at the end.
STATE = 100_000
FORMAT = 4
# Bytes that are not compressed, as that would take longer than all else.
SMALL = 1024
# The pasts of instances that are gone stay for so many beginnings more (two a test): when the last test of a module is
# judged, its instances are gone.
LINGER = 16


class Observation(NamedTuple):
    """What one test on one backend let be seen. Travels on its report, as bytes.

    `events` are the first ones; `total` is how many there were. `checkpoints` are digests of all events up to the end
    of each `stride` chunks (of `CHUNK` events) that are not told in full: without NaN bits, as they were, and of what
    went in. `state`, too, may end with a digest of the rest. `journal` names the local file that holds it all, "" where
    there is none (see `local`).
    """

    variant: str
    events: list[Event]
    total: int
    checkpoints: list[tuple[str, str, str]]
    state: list[Event]
    #: Why it cannot be compared; "" if it can.
    trouble: str
    journal: str = ""
    stride: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether all is told."""
        return not self.checkpoints and not (self.state and self.state[-1][3] == REST)

    def packed(self) -> bytes:
        """A line that says whose it is, then what was seen: the same bytes for all who saw the same."""
        return _packed(json_text(self.events), self)

    @classmethod
    def unpacked(cls, content: bytes, known: dict[bytes, Observation] | None = None) -> Observation:
        """The reverse of `packed`. Raises ValueError for what is not one.

        `known`: what was unpacked before, whose parts it then shares, and where it is added.
        """
        variant, trouble, journal, seen = heading(content)
        try:
            found = None if known is None else known.get(seen)
            if found is None:
                found = cls._seen(*json.loads(seen if seen.startswith(b"[") else zlib.decompress(seen)))
        except (zlib.error, TypeError) as error:
            raise ValueError(f"no observation: {error}") from None
        if known is not None:
            known[seen] = found
        return found._replace(variant=variant, trouble=trouble, journal=journal)

    @classmethod
    def _seen(cls, events: list[Any], total: int, checkpoints: list[Any], state: list[Any], stride: int) -> Observation:
        return cls(
            "",
            [tuple(event) for event in events],
            total,
            [(plain, raw, inputs) for plain, raw, inputs in checkpoints],
            [tuple(event) for event in state],
            "",
            stride=stride,
        )


def heading(content: bytes) -> tuple[str, str, str, bytes]:
    """Of what is packed the variant, the trouble, the journal, and the rest. Raises ValueError."""
    head, _, seen = content.partition(b"\n")
    try:
        version, *rest = json.loads(head)
        if version != FORMAT:
            raise ValueError(f"an observation of format {version}, not {FORMAT}")
        variant, trouble, journal = rest
    except TypeError as error:
        raise ValueError(f"no observation: {error}") from None
    return variant, trouble, journal, seen


def _packed(events: str, observed: Observation) -> bytes:
    """With the events as text."""
    variant, _, *seen, trouble, journal, stride = observed
    head, rest = json_text([FORMAT, variant, trouble, journal]), json_text([*seen, stride])[1:]
    body = f"[{events},{rest}".encode()
    return f"{head}\n".encode() + (body if len(body) < SMALL else zlib.compress(body, 1))


class Recorder:
    """The events of the running test. `local` is for what is too long for the report, if there is a place for it."""

    def __init__(self, local: Local | None = None) -> None:
        self._local = local
        self._numbers = count(1)
        #: Of the running test; `owner.seen` has it with the owner's number there.
        self.serial = 0
        self._seen: list[_Seen] = []
        # Journals that are the past of instances, by name.
        self._held: dict[str, list[weakref.ref[Owner]]] = {}
        # Those of which all are gone, and when that was noticed.
        self._leaving: deque[tuple[int, str]] = deque()
        self.begin("")

    def begin(self, variant: str) -> None:
        """A test begins, or begins again."""
        if self._seen:  # its set-up failed
            self._pass_on()
        self._let_go()
        self.serial += 1
        self._variant = variant
        # Events since the last chunk, as text: nearly always nobody wants anything else. And calls that came after
        # these, which become text many at a time: between two requests each step costs three times as much.
        self._lines: list[str] = []
        self.calls: list[tuple[Templates, Values, Values]] = []
        #: A call that is under way, and within which nothing was noted yet.
        self.begun: Begun | None = None
        # From where to where these lines are calls and their results by turns.
        self._turns = 0, 0
        self._spelling = False
        # What is told in full: a text per chunk; and event by event without NaN bits.
        self._told: list[str] = []
        self._told_plain: list[Lines] = []
        self._told_size = 0
        self._full = False
        self._count = 0
        self._checkpoints: list[tuple[str, str, str]] = []
        self._stride = 1
        self._chunks = 0
        self._plain, self._raw = hashlib.blake2b(digest_size=8), hashlib.blake2b(digest_size=8)
        self._inputs = hashlib.blake2b(digest_size=8)
        self._thread = 0
        self._journal: Journal | None = None
        self.trouble = ""

    # What the objects report

    def index(self, owner: Owner) -> int:
        """The number of an instance, or of what the host made, in this test."""
        serial, index = owner.seen
        if serial != self.serial:
            index = self._enter(owner)
            self.note(("use", index, owner.identity, owner.history))
        return index

    def new(self, owner: Owner, imports: Sequence[tuple[str, Owner, str]], module: Module) -> None:
        """An instance is to be made. `imports`: what it imports of others: its own name for it, whose, and theirs."""
        linked = [(label, self.index(lender), name) for label, lender, name in imports]
        if self._local is not None and module.has_wasm:
            self._local.keep_module(module.identity, module.wasm)
        self.note(("new", self._enter(owner), owner.identity, linked))

    def made(self, owner: Owner) -> None:
        """An instance came to be."""
        self._seen[owner.seen[1]].handle = owner.handle
        self.note(("made",))

    def host_made(self, owner: Owner, *details: Any) -> None:
        """The host made a memory or a global: ("memory", minimum, maximum), ("global", type, mutable, bits)."""
        self.note(("make", self._enter(owner), *details))

    def _enter(self, owner: Owner) -> int:
        if self._thread not in (0, owner.thread_id):
            self.trouble = "several threads called Wasm, in an order that may vary"
        self._thread = owner.thread_id
        owner.connection.watch("" if self._local is None else self._local.blobs)
        owner.number = owner.number or next(self._numbers)
        index = len(self._seen)
        owner.seen = self.serial, index
        self._seen.append(_Seen(owner))
        return index

    def note(self, event: Event) -> None:
        self.line(json_text(event))

    def line(self, text: str) -> None:
        """An event, as text: of a `template` with numbers in it."""
        if self.calls or self.begun is not None:
            self.spell_out()
        lines = self._lines
        lines.append(text)
        if len(lines) >= CHUNK:
            self._flush()

    def returned(self, begun: Begun, values: Values) -> None:
        """The call that was begun so has returned, and other events came before that."""
        (_, result, _), _ = begun
        self.line(result % tuple(values))

    def spell_out(self) -> None:
        """Calls as text."""
        if self._spelling:
            self.trouble = "calls were made while others were taken down, by a signal handler, say"
            return
        self._spelling = True
        try:
            self._spell_out()
        finally:
            self._spelling = False

    def _spell_out(self) -> None:
        # What is called meanwhile is for the next time.
        calls, self.calls = self.calls, []
        begun, self.begun = self.begun, None
        texts: list[str] = []
        numbers: list[int] = []
        for (_, _, both), bits, values in calls:
            texts.append(both)
            numbers += bits
            numbers += values
        if begun is not None:
            (call, _, _), bits = begun
            texts.append(call)
            numbers += bits
        if texts:
            lines = self._lines
            start = len(lines)
            lines += ("\n".join(texts) % (*numbers,)).split("\n")
            self._turns = start, len(lines) - (begun is not None)
        while len(self._lines) >= CHUNK:
            lines, (start, end) = self._lines, self._turns
            self._lines = lines[:CHUNK]
            self._turns = min(start, CHUNK), min(end, CHUNK)
            self._flush()
            self._lines = lines[CHUNK:]
            # What comes next may be a result.
            self._turns = max(start - CHUNK, (CHUNK - start) % 2), max(end - CHUNK, 0)

    # For objects whose events differ in numbers only: to put them together takes a fifth of the time.
    template = staticmethod(template)

    def accessed(self, kind: str, owner: Owner, name: str, offset: int, data: bytes) -> None:
        """Python read or wrote a memory."""
        index = self.index(owner)
        text = data_text(data)
        if len(data) > LONG and self._local is not None:
            self._local.keep_data(text.rpartition(" ")[2], data)
        if kind == "read":
            self.note(("read", index, name, offset, len(data)))
            self.note(("data", offset, text))
        else:
            self.note(("write", index, name, offset, text))

    def failed(self, failure: BaseException) -> None:
        """What was asked for last ended with an exception."""
        if isinstance(failure, Trapped):
            self.note(("trap", failure.kind))
        elif isinstance(failure, Refused):
            self.note(("refused", failure.stage))
        else:
            self.note(("raised", type(failure).__name__))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        turns, self._turns = self._turns, (0, 0)
        if not lines:
            return
        self._count += len(lines)
        text = ",".join(lines)
        # Members must part with what is told at the same event, whatever the bits of their NaNs.
        plain, plain_text = lines, text
        if "f32" in text or "f64" in text:  # or something is called so
            events = decoded(f"[{text}]")
            canonical = [without_nan_bits(event) for event in events]
            if canonical != events:
                plain = [*map(json_text, canonical)]
                plain_text = ",".join(plain)
        size = len(plain_text) + len("[]")
        if not self._full and self._told_size + size <= TOLD:
            self._told.append(text)
            self._told_plain.append((plain, turns))
            self._told_size += size
            return
        if not self._full:
            self._full = True
            self._sum(self._told, self._told_plain)
            self._write_down()
        self._sum([text], [(plain, turns)])
        if self._journal is not None:
            self._journal.add(f"[{text}]")
        self._chunks += 1
        if self._chunks % self._stride == 0 or len(lines) < CHUNK:
            self._checkpoints.append((self._plain.hexdigest(), self._raw.hexdigest(), self._inputs.hexdigest()))
        if len(self._checkpoints) > CHECKPOINTS:
            self._checkpoints = self._checkpoints[1::2]
            self._stride *= 2

    def _sum(self, texts: Sequence[str], plain: Sequence[Lines]) -> None:
        """Into the digests that go over all events: as they are, and without the bits of NaNs."""
        self._raw.update(_list(texts))
        self._plain.update(_list(chain.from_iterable(lines for lines, _ in plain)))
        self._sum_inputs(plain)

    def _sum_inputs(self, plain: Sequence[Lines]) -> None:
        found: list[str] = []
        for lines, (start, end) in plain:  # to look at each line takes as long as to put it together
            found += [line for line in lines[:start] if line.startswith(BEGINNINGS_IN)]
            found += lines[start:end:2]
            found += [line for line in lines[max(start, end) :] if line.startswith(BEGINNINGS_IN)]
        self._inputs.update(_list(found))

    def _write_down(self) -> None:
        """Begin the journal with what is told."""
        if self._local is not None:
            self._journal = self._local.journal(f"{self._name}.{EVENTS}")
            for text in self._told:
                self._journal.add(f"[{text}]")

    @property
    def _name(self) -> str:
        """What the name of the running test's journal begins with."""
        return f"{os.getpid()}-{self.serial}"

    # The end

    def end(self) -> bytes | None:
        """The `Observation` of what was seen since `begin`, packed; None if nothing was."""
        if not self._seen and not self._lines and not self._count:
            return None
        state = [] if self.trouble else self._state()
        shortened = _shortened(state)
        journal = self._pass_on(state, whole=shortened is state)
        events = f"[{','.join(self._told)}]"
        seen = self._count, self._checkpoints, shortened
        observed = Observation(self._variant, [], *seen, self.trouble, journal, self._stride)
        self.begin("")
        return _packed(events, observed)

    def _pass_on(self, state: Sequence[Event] = (), *, whole: bool = True) -> str:
        """What was done in this test becomes the past of its instances. The name of its journal.

        "" where there is none, as nobody needs it: all is told, and these instances have no past and no future.
        """
        self.spell_out()
        self._flush()
        living = [owner for owner in (seen.owner() for seen in self._seen) if owner is not None]
        name = past = ""
        if self._journal is not None or not whole:
            name = self._close_journal(state)
            past = self._held_by(living, name)
        elif self._local is not None and (living or any(seen.past for seen in self._seen)):
            end = journal_end(self._variant, whole=True, owners=self._owners, state=state)
            name = past = self._local.short_journal(self._name, [f"[{text}]" for text in self._told], end)
        for owner in living if past else []:
            owner.past = [past]
        if living and not self._full:
            self._sum_inputs(self._told_plain)
        for owner in living:
            before = owner.history.encode()
            owner.history = hashlib.blake2b(before + self._inputs.digest(), digest_size=8).hexdigest()
        self._seen = []
        return name

    @property
    def _owners(self) -> list[tuple[int, list[str]]]:
        return [(seen.number, seen.past) for seen in self._seen]

    def _close_journal(self, state: Sequence[Event]) -> str:
        """The name of the file."""
        if self._journal is None:
            self._write_down()
        if self._journal is None:
            return ""
        self._journal.close(self._variant, self._owners, state)
        self._journal = None
        return f"{self._name}.{EVENTS}"

    def _held_by(self, owners: Sequence[Owner], name: str) -> str:
        """What a file that is the past of these is called, so that it outlives the first name.

        Also where there is none, or it cannot have two names: then a part of their past is missing.
        """
        held = f"past-{self._name}.{EVENTS}"
        if owners and name and self._local is not None and self._local.hold(name, held):
            self._held[held] = [weakref.ref(owner) for owner in owners]
        return held

    def _let_go(self) -> None:
        """Of the pasts of instances that are gone."""
        if self._local is None:
            return
        for name, owners in [*self._held.items()]:
            if all(owner() is None for owner in owners):
                del self._held[name]
                self._leaving.append((self.serial + LINGER, name))
        while self._leaving and self._leaving[0][0] < self.serial:
            self._local.discard(self._leaving.popleft()[1])

    def _state(self) -> list[Event]:
        """What is left of each instance, also of those that are gone."""
        found: list[Event] = []
        connections: dict[int, tuple[Connection, list[int]]] = {}
        for index, seen in enumerate(self._seen):
            if seen.handle:
                connections.setdefault(id(seen.connection), (seen.connection, []))[1].append(index)
        for connection, indices in connections.values():
            if connection.lost is not None:
                self.trouble = f"the {connection.backend} engine process was lost"
                continue
            states = connection.states([self._seen[index].handle for index in indices], "the state after the test")
            for index, state in zip(indices, states, strict=True):
                found += self._state_of(index, state)
        return sorted(found, key=lambda event: event[1:3])

    def _state_of(self, index: int, state: str) -> list[Event]:
        names = self._seen[index].names
        lines = [line.split(":") for line in state.split(";")] if state else []
        return [("state", index, names[int(place)] if names else "", *rest) for place, *rest in lines]


def _list(texts: Iterable[str]) -> bytes:
    """As `encoded` would have it."""
    return f"[{','.join(texts)}]".encode()


def _shortened(state: list[Event]) -> list[Event]:
    """What is left, as far as it may travel, and a digest of the rest."""
    size = 0
    for place, event in enumerate(state):
        size += len(encoded([event]))
        if size > STATE:
            digest = hashlib.blake2b(encoded(state[place:]).encode(), digest_size=8).hexdigest()
            return [*state[:place], ("state", event[1], "", REST, digest)]
    return state


class _Seen:
    """An instance, or what the host made: not kept alive by being watched."""

    def __init__(self, owner: Owner) -> None:
        self.owner = weakref.ref(owner)
        self.connection = owner.connection
        self.names = owner.names
        self.number = owner.number
        self.past = [*owner.past]
        #: 0 for what never came to be.
        self.handle = owner.handle
