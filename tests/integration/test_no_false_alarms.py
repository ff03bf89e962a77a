"""Real modules with shared instances, in whatever order and on however many workers: nothing diverges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needs_wheels

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT = Path(__file__).parent.parent.parent / "example_project"
# Hashes and codecs with module-scoped instances, host functions, one excluded and one expected failure.
FILES = ("test_ledger.py", "test_lz4.py", "test_proposals.py", "test_float_callback.py")
HINT = "--dist loadfile keeps them together"


@needs_wheels
@pytest.mark.parametrize(
    ("plugins", "shared"),
    [
        (("-p", "randomly"), None),
        (("-p", "xdist", "-n", "2"), None),
        (("-p", "xdist", "-n", "2", "--dist", "loadscope"), None),
        (("-p", "xdist", "-n", "2", "--dist", "loadfile"), 0),
    ],
    ids=["random", "xdist", "loadscope", "loadfile"],
)
def test_nothing_diverges(pytester: pytest.Pytester, plugins: Sequence[str], shared: int | None) -> None:
    paths = [str(PROJECT / "tests" / name) for name in FILES]
    result = pytester.runpytest_subprocess(
        f"--rootdir={PROJECT}",
        f"--confcutdir={PROJECT}",
        "--wasm-backends=all",
        "-p",
        "no:cacheprovider",
        *plugins,
        *paths,
    )
    assert result.ret == 0
    agreed, diverged, rest = counted(result)
    assert diverged == 0
    assert agreed > 0
    told = re.findall(r"^    (\d+): (.*)$", result.stdout.str(), re.MULTILINE)
    assert sum(int(count) for count, _ in told) == rest
    others = sum(int(count) for count, reason in told if HINT in reason)
    # Whoever failed as expected, or was excluded, is not compared in any order.
    usual = [reason for _, reason in told if HINT not in reason]
    assert all(reason.startswith(("did not pass on", "one backend only")) for reason in usual)
    if shared is not None:
        assert others == shared


def counted(result: pytest.RunResult) -> tuple[int, ...]:
    """Tests that agreed, diverged, were not compared."""
    found = re.search(r"wasm: (\d+) tests agreed, (\d+) diverged, (\d+) not compared", result.stdout.str())
    assert found is not None
    return tuple(map(int, found.groups()))
