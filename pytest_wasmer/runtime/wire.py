"""What crosses the pipe between the test process and an engine process: frames, and bodies per operation.

A frame is a header (body length, op, sequence number) and a body. Bodies are `struct`s with tails of
variable length. Never pickle or marshal: a miscompiled module may own the engine process, so the test process
checks everything it reads. Both sides import this module: standard library only.
"""

from __future__ import annotations

import os
import select
from itertools import accumulate, chain
from struct import Struct

from pytest_wasmer.engines.api import Trapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from pytest_wasmer.engines.api import Description, ExternType, Values

HEADER = Struct("<IBI")
BODY_LIMIT = 1 << 28
CHUNK = 1 << 16
# What POSIX promises to be the least.
PIPE_BUF = 512
# How often to look for what is about to come (0.7 us each): an answer or the next call; the first call of a test; the
# answer to what is no call.
LOOKS, LOOKS_AWAKE, LOOKS_ASKED = 100, 500, 1500
# How many times not to, where that was in vain.
PAUSE = 50
# A frame that has begun must go on within this time, in seconds.
STALL_LIMIT = 2.0

# Answers, host calls, and what has no answer: that a test is about to ask. The codes of requests follow from their
# place in OPERATIONS.
HELLO, DONE, TRAPPED, REFUSED, OUT_OF_BOUNDS, RAISED, FAULT, HOST, RETURN, WAKE = range(1, 11)
FIRST_REQUEST = 32

# An import of `instantiate`: a handle, or the number of a host function.
IS_HANDLE, IS_HOST = 0, 1

HANDLE = Struct("<I")
TOKEN = Struct("<Q")


class Nonsense(Exception):
    """What arrived is not what the protocol allows."""


class Closed(Exception):
    """The other side closed its end, or died."""


class Linger:
    """Looks a moment for what is about to come: to sleep and to be woken up takes longer than most calls.

    Only while it helps: not where the other side is at longer work, or has no core to itself (`look` is None).
    """

    def __init__(self, look: Callable[[float], object] | None, looks: int) -> None:
        self._look = look
        self._looks = looks
        # How many times not to.
        self._pause = 0

    def __call__(self) -> None:
        if self._pause:
            self._pause -= 1
        elif self._look is not None:
            look = self._look
            for _ in range(self._looks):
                if look(0):
                    return
            self._pause = PAUSE


class Frames:
    """Frames over two descriptors. `patient`: wait for ever for the rest of a frame that has begun."""

    def __init__(self, incoming: int, outgoing: int, *, patient: bool) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self._patient = patient
        #: What was received and not yet read.
        self.pending = b""
        self._poll = poll_of(incoming)
        # Of another thread: one object cannot be polled twice at a time.
        self._poll_aside = poll_of(incoming)
        look = self._poll if cores() > 1 else None
        #: While requests follow each other.
        self.linger = Linger(look, LOOKS)
        #: Once woken up.
        self.linger_awake = Linger(look, LOOKS_AWAKE)
        #: While what is no call is worked at.
        self.linger_asked = Linger(look, LOOKS_ASKED)

    def write(self, op: int, sequence: int, body: bytes, before: bytes = b"") -> None:
        """One frame, after the bytes of whole frames in `before`."""
        data = before + HEADER.pack(len(body), op, sequence) + body
        try:
            written = os.write(self.outgoing, data)
            if written < len(data):
                view = memoryview(data)[written:]
                while view:
                    view = view[os.write(self.outgoing, view) :]
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def read(self) -> tuple[int, int, bytes]:
        """Op, sequence number and body of the next frame. Raises `Closed` or `Nonsense`."""
        __tracebackhide__ = True
        data = self.pending or self._more(CHUNK)
        self.pending = b""
        while len(data) < HEADER.size:
            data += self._rest(HEADER.size)
        length, op, sequence = HEADER.unpack_from(data)
        if len(data) == HEADER.size + length:  # nearly always: one read, one frame
            return op, sequence, data[HEADER.size :]
        if length > BODY_LIMIT:
            raise Nonsense(f"a message of {length} bytes is announced; the limit is {BODY_LIMIT}")
        end = HEADER.size + length
        if len(data) < end:
            data = self._fill(data, end)
        self.pending = data[end:]
        return op, sequence, data[HEADER.size : end]

    def _fill(self, begun: bytes, end: int) -> bytes:
        """Reads what arrives, instead of allocating what is claimed."""
        parts = [begun]
        missing = end - len(begun)
        while missing > 0:
            part = self._rest(min(missing, 1 << 20))
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _rest(self, length: int) -> bytes:
        if not self._patient and not self._arrives(STALL_LIMIT):
            raise Nonsense(f"a message stopped in the middle for {STALL_LIMIT:g} s")
        return self._more(length)

    def _arrives(self, seconds: float) -> bool:
        """Whether there is something to read in time. `poll` takes descriptors of any number, `select` up to 1023."""
        if self._poll is None:
            return bool(select.select([self.incoming], [], [], seconds)[0])
        return bool(self._poll(seconds * 1000))

    def stirs(self) -> bool:
        """Whether something was sent, or the other side has closed its end; True where nobody can tell (Windows)."""
        return self._poll_aside is None or bool(self._poll_aside(0))

    def _more(self, length: int) -> bytes:
        __tracebackhide__ = True
        try:
            data = os.read(self.incoming, length)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed
        return data


def poll_of(incoming: int) -> Callable[[float], list[tuple[int, int]]] | None:
    """What tells within so many milliseconds whether there is something to read; None on Windows."""
    if not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(incoming, select.POLLIN)
    return poll.poll


def cores() -> int:
    """How many this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Strings, types, descriptions

TYPE_NAMES = {"i32", "i64", "f32", "f64", "v128", "funcref", "externref"}
FLAGS = {"True": True, "False": False}


def pack_blobs(blobs: Iterable[bytes]) -> bytes:
    return b"".join([HANDLE.pack(len(blob)) + blob for blob in blobs])


def unpack_blobs(body: bytes) -> list[bytes]:
    blobs, offset, unpack = [], 0, HANDLE.unpack_from
    while offset < len(body):
        start = offset + HANDLE.size
        offset = start + unpack(body, offset)[0]
        blobs.append(body[start:offset])
    if offset > len(body):
        raise Nonsense("a part is cut off")
    return blobs


def pack_texts(*texts: str) -> bytes:
    """How many there are, their lengths in characters, and all of them in one."""
    lengths = Struct(f"<{1 + len(texts)}I").pack(len(texts), *map(len, texts))
    return lengths + "".join(texts).encode("utf-8", "surrogatepass")


def unpack_texts(body: bytes) -> list[str]:
    if len(body) < HANDLE.size:
        raise Nonsense(f"the number of texts is cut off: {len(body)} bytes")
    (count,) = HANDLE.unpack_from(body)
    start = (1 + count) * HANDLE.size
    if start > len(body):
        raise Nonsense(f"{count} texts are announced in {len(body)} bytes")
    lengths = Struct(f"<{count}I").unpack_from(body, HANDLE.size)
    text = body[start:].decode("utf-8", "surrogatepass")
    if len(text) != sum(lengths):
        raise Nonsense("a text is cut off")
    places = zip(accumulate(lengths, initial=0), accumulate(lengths), strict=False)
    return [text[begin:end] for begin, end in places]


def unpack_pair(body: bytes) -> tuple[str, str]:
    first, second = unpack_texts(body)
    return first, second


def type_text(type_: ExternType) -> str:
    """("func", ("i32",), ()) as "func:i32:", ("memory", 1, None) as "memory:1:"."""
    kind, *rest = type_
    if kind == "func":
        return ":".join([kind, *[",".join(part) for part in rest]])
    return ":".join([kind, *["" if part is None else str(part) for part in rest]])


def type_from(text: str) -> ExternType:
    kind, *rest = text.split(":")
    if (kind, len(rest)) not in (("func", 2), ("memory", 2), ("global", 2), ("table", 3)):
        raise Nonsense(f"{text!r} is not a type")
    if kind == "func":
        return (kind, *[_value_types(part) for part in rest])
    if kind == "memory":
        return (kind, *_limits(*rest))
    (value_type,) = _value_types(rest[0])
    return (kind, value_type, FLAGS[rest[1]]) if kind == "global" else (kind, value_type, *_limits(*rest[1:]))


def _value_types(text: str) -> tuple[str, ...]:
    types = tuple(text.split(",")) if text else ()
    if not TYPE_NAMES.issuperset(types):
        raise Nonsense(f"{text!r} are not value types")
    return types


def _limits(minimum: str, maximum: str) -> tuple[int, int | None]:
    limits = int(minimum), int(maximum) if maximum else None
    if min(limits[0], limits[1] or 0) < 0:
        raise Nonsense(f"{limits} are not limits")
    return limits


def pack_description(description: Description) -> bytes:
    name, imports, exports = description
    # Many functions are of few types.
    types = {type_: type_text(type_) for type_ in {*[item[2] for item in imports], *[item[1] for item in exports]}}
    texts = [name, str(len(imports))]
    for module, field, type_ in imports:
        texts += [module, field, types[type_]]
    for field, type_ in exports:
        texts += [field, types[type_]]
    return pack_texts(*texts)


# Descriptions are the same on each backend, and after each loss of an engine process: the last ones that came.
_UNPACKED: dict[bytes, Description] = {}
UNPACKED_LIMIT = 64


def unpack_description(body: bytes) -> Description:
    """Not to be changed: it is given to whoever unpacks the same."""
    found = _UNPACKED.get(body)
    if found is None:
        if len(_UNPACKED) >= UNPACKED_LIMIT:
            _UNPACKED.clear()
        found = _UNPACKED[body] = _unpack_description(body)
    return found


def _unpack_description(body: bytes) -> Description:
    name, count, *rest = unpack_texts(body)
    end = 3 * int(count)
    imports, exports = in_groups(rest[:end], 3), in_groups(rest[end:], 2)
    types = {text: type_from(text) for text in {*[item[2] for item in imports], *[item[1] for item in exports]}}
    return (  # type: ignore[return-value]
        name,
        [(module, field, types[text]) for module, field, text in imports],
        [(field, types[text]) for field, text in exports],
    )


def in_groups(texts: Sequence[str], size: int) -> list[tuple[str, ...]]:
    if len(texts) % size:
        raise Nonsense("a description is cut off")
    return list(zip(*[iter(texts)] * size, strict=True))


# Values

FORMATS = {"i32": "i", "i64": "q", "f32": "I", "f64": "Q", "v128": "16s"}


class ValuesCodec:
    """Values of the given types as bytes, one row or many."""

    def __init__(self, types: Sequence[str]) -> None:
        formats = [FORMATS[name] for name in types]
        self._row = Struct("<" + "".join(formats))
        self._vectors = [index for index, name in enumerate(types) if name == "v128"]
        self._width = len(types)
        # Rows of one type pack as one long array, four times as fast as row by row.
        self._alike = formats[0] if len(set(formats)) == 1 and not self._vectors else ""
        self.size = self._row.size
        self.pack: Callable[[Values], bytes] = self._pack_vectors if self._vectors else self._pack
        self.unpack: Callable[[bytes], Values] = self._unpack_vectors if self._vectors else self._row.unpack

    def _pack(self, values: Values) -> bytes:
        return self._row.pack(*values)

    def _pack_vectors(self, values: Values) -> bytes:
        row: list[Any] = list(values)
        for index in self._vectors:
            row[index] = row[index].to_bytes(16, "little")
        return self._row.pack(*row)

    def _unpack_vectors(self, body: bytes) -> Values:
        return self._with_vectors(self._row.unpack(body))

    def _with_vectors(self, row: Sequence[Any]) -> Values:
        values = list(row)
        for index in self._vectors:
            values[index] = int.from_bytes(values[index], "little")
        return tuple(values)

    def pack_rows(self, rows: Sequence[Values]) -> bytes:
        if self._alike:
            return Struct(f"<{len(rows) * self._width}{self._alike}").pack(*chain.from_iterable(rows))
        return b"".join(map(self.pack, rows))

    def unpack_rows(self, body: bytes, count: int) -> list[Values]:
        if len(body) != count * self.size:
            raise Nonsense(f"{len(body)} bytes for {count} rows of {self.size}")
        if not self.size:
            return [()] * count
        rows: Iterable[Any] = self._row.iter_unpack(body)
        return [self._with_vectors(row) for row in rows] if self._vectors else list(rows)


def codec_of(types: tuple[str, ...], codecs: dict[tuple[str, ...], ValuesCodec]) -> ValuesCodec:
    """One codec per tuple of types, kept in `codecs`."""
    codec = codecs.get(types)
    if codec is None:
        codec = codecs[types] = ValuesCodec(types)
    return codec


class CallFrames:
    """The frames of a call of one function and of its results, each as one struct: header, handle, values."""

    def __init__(self, params: Sequence[str], results: Sequence[str]) -> None:
        self.request = Struct(HEADER.format + "I" + "".join([FORMATS[name] for name in params]))
        self.answer = Struct(HEADER.format + "".join([FORMATS[name] for name in results]))
        #: The lengths that the headers announce.
        self.asked = self.request.size - HEADER.size
        self.answered = self.answer.size - HEADER.size


def call_frames(params: Sequence[str], results: Sequence[str]) -> CallFrames | None:
    """None for what is not one struct (v128), or more than a pipe takes and gives in one piece."""
    frames = CallFrames(params, results)
    small = max(frames.request.size, frames.answer.size) <= PIPE_BUF
    return frames if small and "v128" not in (*params, *results) else None


def pack_outcomes(outcomes: Sequence[Values | Trapped], codec: ValuesCodec) -> bytes:
    """The results in order without the traps, then the traps with their places."""
    traps = [(index, outcome) for index, outcome in enumerate(outcomes) if isinstance(outcome, Trapped)]
    rows: Any = [outcome for outcome in outcomes if not isinstance(outcome, Trapped)] if traps else outcomes
    texts = [text for index, trap in traps for text in (str(index), trap.kind, trap.text)]
    return HANDLE.pack(len(rows)) + codec.pack_rows(rows) + pack_texts(*texts)


def unpack_outcomes(body: bytes, codec: ValuesCodec, expected: int) -> list[Values | Trapped]:
    """The reverse of `pack_outcomes`, for that many calls."""
    (count,) = HANDLE.unpack_from(body)
    end = HANDLE.size + count * codec.size
    traps = in_groups(unpack_texts(body[end:]), 3)
    if count + len(traps) != expected:
        raise Nonsense(f"{count + len(traps)} outcomes of {expected} calls")
    outcomes: list[Any] = codec.unpack_rows(body[HANDLE.size : end], count)
    for place, kind, text in traps:
        index = int(place)
        if not 0 <= index <= len(outcomes):
            raise Nonsense(f"a trap in place {index} of {expected}")
        outcomes.insert(index, Trapped(kind, text))
    return outcomes


# Operations: how the arguments and the result of each of the executor's methods are packed


def _pack_pairs(pairs: Iterable[tuple[int, int]]) -> bytes:
    return b"".join([PAIR.pack(*pair) for pair in pairs])


# Holds a signed i64 as well as an unsigned v128.
INT_SIZE = 17


def _pack_int(value: int) -> bytes:
    return value.to_bytes(INT_SIZE, "little", signed=True)


def _unpack_int(body: bytes) -> int:
    if len(body) != INT_SIZE:
        raise Nonsense(f"an integer of {len(body)} bytes")
    return int.from_bytes(body, "little", signed=True)


PAIR = Struct("<BI")
TAILS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "bytes": (bytes, bytes),
    "text": (
        lambda text: text.encode("utf-8", "surrogatepass"),
        lambda body: body.decode("utf-8", "surrogatepass"),
    ),
    "int": (_pack_int, _unpack_int),
    "pairs": (_pack_pairs, lambda body: list(PAIR.iter_unpack(body))),
    "handles": (
        lambda handles: b"".join(map(HANDLE.pack, handles)),
        lambda body: [handle for (handle,) in HANDLE.iter_unpack(body)],
    ),
    "description": (pack_description, unpack_description),
    "packed description": (bytes, unpack_description),
    "blobs": (pack_blobs, unpack_blobs),
    "texts": (lambda texts: pack_texts(*texts), unpack_texts),
    "limit": (lambda limit: pack_texts(*([] if limit is None else [str(limit)])), lambda body: _limit(body)),
}


def _limit(body: bytes) -> int | None:
    texts = unpack_texts(body)
    return int(texts[0]) if texts else None


class Layout:
    """A struct (in which `s` stands for short ASCII strings), then tails: all but the last after their lengths."""

    def __init__(self, head: str, *tails: str) -> None:
        self._head = Struct("<" + head)
        self._fields = len(self._head.unpack(bytes(self._head.size)))
        self._tails = [TAILS[tail] for tail in tails]

    def pack(self, *values: Any) -> bytes:
        head = [value.encode() if isinstance(value, str) else value for value in values[: self._fields]]
        parts = [pack(value) for (pack, _), value in zip(self._tails, values[self._fields :], strict=True)]
        return b"".join([self._head.pack(*head), *[HANDLE.pack(len(part)) + part for part in parts[:-1]], *parts[-1:]])

    def unpack(self, body: bytes) -> tuple[Any, ...]:
        fields = self._head.unpack_from(body) if self._tails else self._head.unpack(body)
        head = [field.rstrip(b"\0").decode() if isinstance(field, bytes) else field for field in fields]
        return (*head, *self._unpack_tails(body)) if self._tails else tuple(head)

    def _unpack_tails(self, body: bytes) -> Iterator[Any]:
        offset = self._head.size
        for _, unpack in self._tails[:-1]:
            (length,) = HANDLE.unpack_from(body, offset)
            offset += HANDLE.size + length
            if offset > len(body):
                raise Nonsense("a part is cut off")
            yield unpack(body[offset - length : offset])
        yield self._tails[-1][1](body[offset:])


class Operation:
    """One method of the executor: its name, its code on the wire, its arguments and its result."""

    def __init__(self, name: str, code: int, arguments: Layout, result: Layout) -> None:
        self.name = name
        self.code = code
        self.arguments = arguments
        self._result = result

    def pack_result(self, result: Any) -> bytes:
        if result is None:
            return self._result.pack()
        return self._result.pack(*result) if isinstance(result, tuple) else self._result.pack(result)

    def unpack_result(self, body: bytes) -> Any:
        values = self._result.unpack(body)
        if len(values) == 1:
            return values[0]
        return values or None


def _operations(*rows: tuple[str, Layout, Layout]) -> dict[str, Operation]:
    return {name: Operation(name, FIRST_REQUEST + index, *layouts) for index, (name, *layouts) in enumerate(rows)}


def exactly(length: int) -> Callable[[bytes], bytes]:
    """Unpacks the answer to "read", whose length follows from the request alone."""

    def unpack(body: bytes) -> bytes:
        if len(body) != length:
            raise Nonsense(f"{len(body)} bytes of a memory instead of {length}")
        return body

    return unpack


_NOTHING, _A_HANDLE, _BYTES = Layout(""), Layout("I"), Layout("", "bytes")

OPERATIONS = _operations(
    ("convert", Layout("", "text"), _BYTES),
    ("compile", _BYTES, Layout("I", "description")),
    ("load", Layout("", "text", "bytes", "bytes"), Layout("Id", "packed description")),
    ("store", Layout("", "text", "bytes", "bytes", "bytes"), Layout("Id", "text", "description")),
    ("reload", _BYTES, Layout("Id", "text", "description")),
    ("serialize", _A_HANDLE, _BYTES),
    ("deserialize", _BYTES, Layout("I", "description")),
    ("custom_sections", Layout("I", "text"), Layout("", "blobs")),
    ("instantiate", Layout("I", "pairs"), _A_HANDLE),
    ("make_memory", Layout("I", "limit"), _A_HANDLE),
    ("read", Layout("IQQ"), _BYTES),
    ("write", Layout("IQ", "bytes"), _NOTHING),
    ("digest", _A_HANDLE, _BYTES),
    ("memory_pages", _A_HANDLE, Layout("Q")),
    ("grow", Layout("IQ"), Layout("Q")),
    ("make_global", Layout("4s?", "int"), _A_HANDLE),
    ("get_global", _A_HANDLE, Layout("", "int")),
    ("set_global", Layout("I", "int"), _NOTHING),
    ("table_size", _A_HANDLE, Layout("Q")),
    ("watch", Layout("", "text"), _NOTHING),
    ("states", Layout("", "handles"), Layout("", "texts")),
    ("release", Layout("", "handles"), _NOTHING),
)
# These two carry values, packed by the function's signature.
CALL, MAP = FIRST_REQUEST - 2, FIRST_REQUEST - 1
MAP_HEAD = Struct("<II")
BY_CODE = {operation.code: operation for operation in OPERATIONS.values()}
RELEASE = OPERATIONS["release"].code
