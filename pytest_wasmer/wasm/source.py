"""Where a module comes from: a path, bytes, or WAT text."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.wasm import binary
from pytest_wasmer.wasm.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    #: What the fixtures take.
    SourceLike: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview


class Source(NamedTuple):
    """`name` is for messages. One of `wasm` and `wat` is there."""

    name: str
    wasm: bytes | None
    wat: str | None

    @property
    def identity(self) -> str:
        """Of a text, by which other versions of the converter know it, too; "" for a binary."""
        return "" if self.wat is None else f"wat:{hashlib.sha256(self.wat.encode(errors='surrogatepass')).hexdigest()}"


def read(source: SourceLike, asking: Path, rootdir: Path) -> Source:
    """The bytes or the WAT text of a source.

    Relative paths are looked up from `asking`, the directory of the file that calls the factory, then from each
    of its parents up to `rootdir`. Raises SourceError, TypeError.
    """
    __tracebackhide__ = True
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _binary("<bytes>", bytes(source))
    if isinstance(source, str) and source.lstrip().startswith(("(", ";;")):
        return Source("<WAT text>", None, source)
    if isinstance(source, (str, os.PathLike)):
        path = source if isinstance(source, Path) else Path(source)
        return _file(find("module", path, asking, rootdir), rootdir)
    raise TypeError(f"a source is a path, bytes, or WAT text, not {type(source).__name__}")


def find(kind: str, path: Path, asking: Path, rootdir: Path) -> Path:
    """The file that a path means, see `read`. `kind` is for the message. Raises SourceError."""
    __tracebackhide__ = True
    if path.is_absolute():
        candidates = [path]
    elif _is(asking / path, Path.is_file):
        return asking / path
    else:
        parents = [asking, *asking.parents]
        folders = parents[: parents.index(rootdir) + 1] if rootdir in parents else [asking]
        candidates = [folder / path for folder in folders]
    for candidate in candidates:
        if _is(candidate, Path.is_file):
            return candidate
    what = "is a directory" if any(_is(candidate, Path.is_dir) for candidate in candidates) else "not found"
    looked = "\n".join(f"    {candidate}" for candidate in candidates)
    raise SourceError(
        f"{kind} {str(path)!r} {what}; looked at\n{looked}\n"
        "Paths are relative to the file that asks, then to its parents up to pytest's rootdir."
    )


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except (OSError, ValueError):  # longer than a path can be, say
        return False


def _file(path: Path, rootdir: Path) -> Source:
    __tracebackhide__ = True
    name = str(path).removeprefix(f"{rootdir}{os.sep}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"module {name} cannot be read: {error.strerror}") from error
    if path.suffix.lower() == ".wat" and not content.startswith(binary.MAGIC):
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{name} is not UTF-8 text: byte {content[error.start]:#04x} at offset {error.start}"
            ) from None
        if not text.strip():
            raise SourceError(f"{name} is empty\nThe smallest module is: (module)")
        return Source(name, None, text)
    return _binary(name, content)


def _binary(name: str, wasm: bytes) -> Source:
    __tracebackhide__ = True
    binary.check(wasm, name)
    return Source(name, wasm, None)


def wat_error(name: str, wat: str, text: str) -> SourceError:
    """The error for a WAT text that the converter refuses: `text` is a message, then "--> <anon>:line:column"."""
    place = re.search(r"--> <anon>:(\d+):(\d+)", text)
    message = text.splitlines()[0] if text else "not WAT"
    if place is None:
        return SourceError(f"{name}: {message}")
    line, byte = int(place[1]), int(place[2]) - 1
    lines = wat.splitlines()
    shown = lines[line - 1] if line <= len(lines) else ""
    before = shown.encode()[:byte].decode(errors="replace")
    pointer = "".join("\t" if character == "\t" else " " for character in before).ljust(len(before))
    return SourceError(f"{name}:{line}:{len(before) + 1}: {message}\n    {shown}\n    {pointer}^")
