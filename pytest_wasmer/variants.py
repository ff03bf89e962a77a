"""What `--wasm-artifacts=both` runs each test on: a *variant* is a backend and a kind of code, "llvm-fresh"."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FRESH, RELOADED = "fresh", "reloaded"
# In the summary, tests that do not run on each but ask all.
ALL_AT_ONCE = "all at once"


def variant(backend: str, code: str) -> str:
    # One object per name: pytest 8.0 to 8.3 compare the parameters of fixtures by identity.
    return sys.intern(f"{backend}-{code}") if code else backend


def backend_in(variant: str) -> str:
    return variant.removesuffix(f"-{FRESH}").removesuffix(f"-{RELOADED}")


def variants_of(backends: Sequence[str]) -> list[str]:
    """All that these may be run as, in order."""
    return [variant(name, code) for name in backends for code in ("", FRESH, RELOADED)]
