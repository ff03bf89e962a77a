"""A small soak; the large one is `python -m tests.faults.soak`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.engines.registry import COMPILERS
from tests.conftest import needs_wheels
from tests.fake_engine import NAMES
from tests.faults.soak import DESCRIPTORS, GROWTH, soak

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")


@needs_wheels
def test_sixty_tests_with_random_faults(tmp_path: Path) -> None:
    result = soak(tmp_path, 60, [*NAMES, *COMPILERS], 7)
    assert result.wrong == []
    assert result.failed > 5
    assert result.clean
    assert all(max(counts) <= DESCRIPTORS for counts in result.descriptors.values())
    assert all(sizes[-1] - sizes[0] < GROWTH for sizes in result.memory.values())
