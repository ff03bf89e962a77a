"""The markers: each is a function whose signature is its documentation and its validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_wasmer.checking import size_of, unknown
from pytest_wasmer.settings import AGREE, MARKER_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")


class Restriction(NamedTuple):
    """What `wasm_backends` says: run on `names` (all, if there are none) but not on `exclude`."""

    names: tuple[str, ...]
    exclude: tuple[str, ...]
    reason: str

    def excludes(self, backend: str) -> bool:
        return backend in self.exclude or (bool(self.names) and backend not in self.names)

    def __str__(self) -> str:
        listed = [repr(name) for name in self.names]
        if self.exclude:
            listed.append(f"exclude={self.exclude[0] if len(self.exclude) == 1 else list(self.exclude)!r}")
        return f"wasm_backends({', '.join(listed)})" + (f": {self.reason}" if self.reason else "")


def wasm_backends(*names: str, exclude: str | Sequence[str] = (), reason: str = "") -> Restriction:
    """Run the test on the named backends only, or on all but the excluded; the others are visible skips."""
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    for name in (*names, *excluded):
        if not isinstance(name, str):
            raise TypeError(f"a backend is named by a str, not {name!r}")
    if not names and not excluded:
        raise TypeError("name a backend: wasm_backends('llvm'), or wasm_backends(exclude='singlepass', reason='...')")
    if not isinstance(reason, str):
        raise TypeError(f"reason is a str, not {reason!r}")
    return Restriction(names, excluded, reason)


def wasm_xfail(**reasons: str) -> dict[str, str]:
    """The test is known to fail on these backends, and must: wasm_xfail(llvm="wasmer#2922: loses the trap")."""
    if not reasons:
        raise TypeError("name a backend and the reason: wasm_xfail(llvm='...')")
    for backend, reason in reasons.items():
        if not isinstance(reason, str) or not reason:
            raise TypeError(f"the reason for {backend} is a str that says why, not {reason!r}")
    return reasons


class Agreement(NamedTuple):
    """What `wasm_agree` says; `level` is None where the option decides."""

    level: str | None
    memory: bool
    globals: bool
    host_calls: bool
    reason: str

    @property
    def exempts(self) -> bool:
        """Whether it leaves something out."""
        return self.level == "off" or not (self.memory and self.globals and self.host_calls)

    def __str__(self) -> str:
        said = [repr(self.level)] if self.level else []
        said += [f"{name}=False" for name in ("memory", "globals", "host_calls") if not getattr(self, name)]
        return f"wasm_agree({', '.join(said)})"


def wasm_agree(
    level: str | None = None,
    *,
    memory: bool = True,
    globals: bool = True,
    host_calls: bool = True,
    reason: str = "",
) -> Agreement:
    """What backends must agree on in this test: level "results", "strict" or "off"; without its memories, say."""
    if level not in (None, *AGREE.choices):
        raise TypeError(f"level {unknown(str(level), AGREE.choices)} Known: {', '.join(AGREE.choices)}")
    for name, value in (("memory", memory), ("globals", globals), ("host_calls", host_calls)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} is True or False, not {value!r}")
    if not isinstance(reason, str):
        raise TypeError(f"reason is a str, not {reason!r}")
    if level is None and memory and globals and host_calls:
        raise TypeError('say what it changes: wasm_agree("strict"), or wasm_agree(memory=False, reason="...")')
    return Agreement(level, memory, globals, host_calls, reason)


class Timeout(NamedTuple):
    """What `wasm_timeout` says; None where the setting, or the default, decides."""

    seconds: float | None
    compile: float | None


def wasm_timeout(seconds: float | None = None, *, compile: float | None = None) -> Timeout:
    """How long one call may take in this test, and one compile, in seconds; 0: any time."""
    for name, value in (("seconds", seconds), ("compile", compile)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
            raise TypeError(f"{name} is a number of seconds, not {value!r}")
    if seconds is None and compile is None:
        raise TypeError("say what it limits: wasm_timeout(2), or wasm_timeout(compile=60)")
    return Timeout(seconds, compile)


def wasm_memory_limit(size: int | str) -> int:
    """What the test may take in each engine process, in bytes or as "64 MiB"; 0: anything."""
    found = size_of(size) if isinstance(size, str) else size
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise TypeError(f"size is a number of bytes, or a str such as '64 MiB', not {size!r}")
    return found


MARKERS: tuple[Callable[..., Any], ...] = (wasm_backends, wasm_xfail, wasm_agree, wasm_timeout, wasm_memory_limit)


class Said(NamedTuple):
    """What all markers of a test say; for `memory_limit` see `wasm_memory_limit`, None where a setting decides."""

    restrictions: tuple[Restriction, ...] = ()
    #: Reasons by backend.
    xfails: Mapping[str, str] = {}
    agreement: Agreement = Agreement(None, True, True, True, "")
    timeout: Timeout = Timeout(None, None)
    memory_limit: int | None = None


NOTHING = Said()


def said(node: pytest.Item | pytest.Function, known: Sequence[str]) -> Said:
    """All restrictions hold; of the others, the marker nearest to the test counts. Raises CollectError for wrong ones.

    `known`: the names of all backends.
    """
    marks = [mark for mark in node.iter_markers() if mark.name in MARKER_NAMES]
    if not marks:  # of most tests
        return NOTHING
    found: dict[str, list[Any]] = {name: [] for name in MARKER_NAMES}
    for mark in marks:
        found[mark.name].append(_validated(node, mark, known))
    return Said(
        tuple(found["wasm_backends"]),
        {backend: reason for reasons in reversed(found["wasm_xfail"]) for backend, reason in reasons.items()},
        _first(found["wasm_agree"]) or NOTHING.agreement,
        Timeout(*map(_first, zip(Timeout(None, None), *found["wasm_timeout"], strict=True))),
        _first(found["wasm_memory_limit"]),
    )


def _validated(node: pytest.Item, mark: pytest.Mark, known: Sequence[str]) -> Any:
    function = next(marker for marker in MARKERS if marker.__name__ == mark.name)
    try:
        found = function(*mark.args, **mark.kwargs)
    except TypeError as error:
        raise pytest.Collector.CollectError(f"marker of {node.nodeid}: {error}") from None
    if function in (wasm_backends, wasm_xfail):
        for name in (*found.names, *found.exclude) if isinstance(found, Restriction) else found:
            if name not in known:
                raise pytest.Collector.CollectError(
                    f"marker {mark.name} of {node.nodeid}: backend {unknown(name, known)} Known: {', '.join(known)}."
                )
    return found


def _first(found: Iterable[_T | None]) -> _T | None:
    """The nearest that says something."""
    return next((value for value in found if value is not None), None)
