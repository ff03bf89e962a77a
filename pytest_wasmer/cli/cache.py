"""`pytest-wasmer cache`: the store of artifacts, seen from outside."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_wasmer import checking, settings
from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.seal import seal_file
from pytest_wasmer.cli.engines import Engines, add_backends, opened_store
from pytest_wasmer.report.table import aligned, counted, size_text
from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from pytest_wasmer.artifacts.key import Parts
    from pytest_wasmer.artifacts.store import Entry, Store
    from pytest_wasmer.cli.engines import Commands

DAY = 86400
SHOWN = 20


def add(commands: Commands) -> None:
    parser = commands.add_parser("cache", help="look at stored artifacts, and delete them")
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help=(
            f"default: {settings.CACHE_DIR.variable}, else in the user's cache directory, as pytest --wasm-cache-dir; "
            f"what an ini file says ({settings.CACHE_DIR.ini}) is not read here"
        ),
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    actions.add_parser("info", help="where it is, and how much is in it").set_defaults(command=info)
    actions.add_parser("ls", help="a line per artifact, last used first").set_defaults(command=ls)
    explaining = actions.add_parser("explain", help="say for a module what is stored, and what misses and why")
    explaining.add_argument("file", metavar="FILE", help=".wasm or .wat")
    add_backends(explaining)
    explaining.set_defaults(command=explain)
    pruning = actions.add_parser("prune", help="delete what is too old or too much, least recently used first")
    pruning.add_argument(
        "--older-than",
        default=settings.CACHE_MAX_AGE.default,
        metavar="DAYS",
        help=f"days without use (default: {settings.CACHE_MAX_AGE.default})",
    )
    pruning.add_argument(
        "--max-size",
        default=settings.CACHE_MAX_SIZE.default,
        metavar="SIZE",
        help=f"e.g. '500 MiB' (default: {settings.CACHE_MAX_SIZE.default})",
    )
    pruning.set_defaults(command=prune)
    clearing = actions.add_parser("clear", help="delete all of it")
    clearing.set_defaults(command=clear)
    for deleting in (pruning, clearing):
        deleting.add_argument("--yes", action="store_true", help="do not ask")


def info(options: Namespace) -> int:
    store = opened_store(options.dir)
    entries = store.entries()
    rows = [
        ("directory", str(store.root)),
        ("seal key", str(seal_file())),
        ("artifacts", str(len(entries))),
        ("size", size_text(sum(item.size for item in entries))),
        ("hits", str(sum(item.hits for item in entries))),
    ]
    if entries:
        rows += [("last used", _age(entries[-1].used)), ("longest unused", _age(entries[0].used))]
    print("\n".join(aligned(rows, texts=2)))
    return 0


def ls(options: Namespace) -> int:
    store = opened_store(options.dir)
    entries = store.entries()
    print("\n".join(_listed(list(reversed(entries))) if entries else [f"nothing is stored in {store.root}"]))
    return 0


def _listed(entries: Sequence[Entry]) -> list[str]:
    rows = [("module", "backend", "size", "made", "used", "hits")]
    for item in entries:
        parts = item.parts
        rows.append(
            (
                parts.module[:16] if parts else item.path.parent.name,
                _backend(parts) if parts else "unreadable",
                size_text(item.size),
                _age(item.made),
                _age(item.used),
                str(item.hits),
            )
        )
    return aligned(rows, texts=2)


def explain(options: Namespace) -> int:
    """Exit status 0 if every backend has a good artifact, 1 if not."""
    store = opened_store(options.dir)
    missing = False
    with Engines() as engines:
        for backend in engines.select(options.backends):
            parts = engines.parts(backend)._replace(module=engines.digest(backend, options.file))
            said = _said(store, parts)
            missing = missing or not said.startswith("stored")
            print(f"{backend}: {said}")
    return int(missing)


def _said(store: Store, parts: Parts) -> str:
    """What is stored for these parts, or why nothing is."""
    entries = store.of_module(parts.module)
    stored = [item.parts for item in entries if item.parts is not None]
    extended = [
        f"{_of_entry(store, other, entries)}\n    for runs in which plugins add {other.extra} (pytest_wasmer_key_parts)"
        for other in stored
        if parts.differences(other) == ["extra"]
    ]
    # Which plugins there are is not known here.
    return _of_entry(store, parts, entries) or "\n".join(extended) or _absent(parts, stored)


def _of_entry(store: Store, parts: Parts, entries: Sequence[Entry]) -> str:
    """What there is for exactly these parts; "" if nothing."""
    place = store.place(parts)
    try:
        seconds = entry.read(*place)[1]
    except entry.Broken as broken:
        return f"refused: {broken}; the next run compiles it again ({place.path})"
    except entry.Absent:
        return ""
    (found,) = [item for item in entries if str(item.path) == place.path]
    return (
        f"stored {_age(found.made)} ago, {size_text(found.size)}, last used {_age(found.used)} ago, {found.hits} hits, "
        f"saves {seconds:.3f} s\n    {place.path}"
    )


def _absent(parts: Parts, stored: Sequence[Parts]) -> str:
    """Why there is none, by what there is of the same module."""
    alike = [
        other
        for other in stored
        if (other.engine, other.compiler, other.kind) == (parts.engine, parts.compiler, parts.kind)
    ]
    if not alike:
        return f"not stored: this module (SHA-256 {parts.module[:16]}...) was never compiled for it"
    nearest = min(alike, key=lambda other: len(parts.differences(other)))
    return f"not stored: same module, other {_differences(parts, nearest)}"


def _differences(wanted: Parts, stored: Parts) -> str:
    names = wanted.differences(stored)
    return "; ".join(f"{name} (stored: {getattr(stored, name)}, here: {getattr(wanted, name)})" for name in names)


def prune(options: Namespace) -> int:
    store = opened_store(options.dir)
    size = checking.size_in_bytes(settings.CACHE_MAX_SIZE, settings.Setting(options.max_size, "--max-size"))
    age = checking.days(settings.CACHE_MAX_AGE, settings.Setting(options.older_than, "--older-than"))
    entries = store.prunable(size, age * DAY)
    if not entries:
        print("nothing to delete (what was used within the last hour may be in use)")
        return 0
    return _delete(store, entries, options, lambda: store.remove(entries))


def clear(options: Namespace) -> int:
    store = opened_store(options.dir)
    entries = store.entries()

    def empty() -> Sequence[Entry]:
        store.clear()
        return entries

    return _delete(store, entries, options, empty)


def _delete(store: Store, entries: Sequence[Entry], options: Namespace, work: Callable[[], Sequence[Entry]]) -> int:
    """Say what goes, ask, and do it: `work` returns what is gone."""
    size = size_text(sum(item.size for item in entries))
    print(f"{counted(len(entries), 'artifact')} ({size}) in {store.root} will be deleted")
    if entries:
        print("\n".join(_listed(entries[:SHOWN])))
    if len(entries) > SHOWN:
        print(f"and {len(entries) - SHOWN} more")
    if not options.yes:
        if not sys.stdin.isatty():
            raise WasmError("nobody can be asked here, nothing was deleted: add --yes")
        if _answer("Delete? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was deleted")
            return 1
    left = len(entries) - len(work())
    if left:
        raise WasmError(f"{counted(left, 'artifact')} in {store.root} could not be deleted: may you write there?")
    print("deleted")
    return 0


def _answer(question: str) -> str:
    """What is typed; nothing where input ends."""
    try:
        return input(question)
    except EOFError:
        print()
        return ""


def _backend(parts: Parts) -> str:
    return parts.compiler if parts.kind in ("universal", "") else f"{parts.compiler}-{parts.kind}"


def _age(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", DAY), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
