"""One stored artifact: a file that says what it is made of, under a seal.

    pytest-wasmer artifact 2
    module: "5f3a..."                 the *head*: the key parts, a line each
    ...
    compiled in 0000012.345678 s, alone, described in 00000123 bytes
    seal 9c1e...                      HMAC-SHA-256 of all lines above and what follows
    <imports and exports, as `wire.pack_description` packs them>
    <the artifact>

Engines check nothing of what they deserialize: a cut-off artifact is a segfault, one of another compiler runs silently.
So these bytes reach an engine only if this user's key sealed them for exactly this head.

Engine processes read and write entries: standard library only.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Stored(NamedTuple):
        """What `read` returns; at run time an ordinary tuple.

        `seconds`: what the compile took; `joint`: see `engines.api.Engine.is_joint`; `described`: imports and exports.
        """

        artifact: bytes
        seconds: float
        joint: bool
        described: bytes


TITLE = "pytest-wasmer artifact 2"
COMPILED = "compiled in {:014.6f} s, {}, described in {:08d} bytes\n"
JOINT = "joint", "alone"
SEAL = "seal {}\n"
COMPILED_SIZE = len(COMPILED.format(0, JOINT[0], 0))
SEAL_SIZE = len(SEAL.format("0" * 64))
TEMPORARY = ".tmp"
_BINARY = getattr(os, "O_BINARY", 0)


class Absent(Exception):
    """There is no such entry."""


class Broken(Exception):
    """There is one, and it is not to be used: it is damaged, or nobody of this name sealed it."""


def read(path: str, head: bytes, key: bytes) -> Stored:
    """The artifact of a whole entry, sealed by `key` for this head. Raises `Absent`, `Broken`."""
    lines_size = len(head) + COMPILED_SIZE + SEAL_SIZE
    try:
        descriptor = os.open(path, os.O_RDONLY | _BINARY)
        try:
            size = os.fstat(descriptor).st_size
            lines = _read_all(descriptor, lines_size)
            digits = lines[-SEAL_SIZE - 15 : -SEAL_SIZE - 7]
            described = _read_all(descriptor, int(digits) if digits.isdigit() else 0)
            artifact = _read_all(descriptor, size - lines_size - len(described))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Absent from None
    except OSError as error:
        raise Broken(f"it cannot be read: {error.strerror}") from None
    if not lines.startswith(head):
        raise Broken("it is for something else than its name says")
    sealed, seal = lines[:-SEAL_SIZE], lines[-SEAL_SIZE:]
    if not _equal(seal, _seal(key, sealed, described, artifact)):
        raise Broken("its seal does not fit: damaged, or sealed with another key")
    words = sealed[len(head) :].decode().split()
    return (artifact, float(words[2]), words[4] == f"{JOINT[0]},", described)  # type: ignore[return-value]


def _read_all(descriptor: int, size: int) -> bytes:
    """One read where possible: artifacts have megabytes."""
    parts = []
    while size > 0:
        part = os.read(descriptor, size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write(
    path: str, head: bytes, key: bytes, artifact: bytes, seconds: float, joint: bool = False, described: bytes = b""
) -> bytes:
    """Store it: all of it or nothing, whoever else reads, writes or dies. What is before it. Raises OSError."""
    sealed = head + COMPILED.format(seconds, JOINT[0] if joint else JOINT[1], len(described)).encode()
    lines = sealed + _seal(key, sealed, described, artifact) + described
    folder, name = os.path.split(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = os.path.join(folder, f".{name[:20]}-{os.getpid()}-{time.monotonic_ns()}{TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        try:
            for part in (lines, artifact):
                view = memoryview(part)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        try:  # noqa: SIM105 (contextlib is not among what the engine process imports)
            os.unlink(temporary)
        except OSError:
            pass
        raise
    return lines


def reread(path: str, lines: bytes, artifact: bytes) -> bytes:
    """The artifact as it is in the file that was just written. Raises OSError; `Broken` if it is gone or changed."""
    try:
        with open(path, "rb", buffering=0) as file:
            found, again = file.read(len(lines)), _read_all(file.fileno(), len(artifact) + 1)
    except FileNotFoundError:
        raise Broken("it is gone") from None
    if (found, again) != (lines, artifact):
        raise Broken("it is not what was written")
    return again


def discard(path: str) -> None:
    """Delete it, if that is allowed."""
    try:  # noqa: SIM105 (as above)
        os.unlink(path)
    except OSError:
        pass


def note_use(path: str) -> None:
    """A byte more in the file beside the entry: its size counts the uses, its time is that of the last one."""
    try:
        with open(uses(path), "ab", buffering=0) as file:
            file.write(b".")
    except OSError:
        pass


def uses(path: str) -> str:
    return os.path.splitext(path)[0] + ".uses"


def _seal(key: bytes, sealed: bytes, described: bytes, artifact: bytes) -> bytes:
    import hmac

    mac = hmac.new(key, sealed + described, "sha256")
    mac.update(artifact)
    return SEAL.format(mac.hexdigest()).encode()


def _equal(first: bytes, second: bytes) -> bool:
    import hmac

    return hmac.compare_digest(first, second)
