"""Tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def aligned(rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """A line per row: the first `texts` columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cells(row, widths, texts)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int], texts: int) -> list[str]:
    return [
        cell.ljust(width) if index < texts else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def counted(count: int, noun: str) -> str:
    """ "1 artifact", "2 artifacts"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def size_text(size: float) -> str:
    """ "12 B", "3.6 KiB", "2.0 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def in_words(names: Iterable[str]) -> str:
    """ "singlepass, cranelift and llvm"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
