"""The table in the docs is that of the matrix, and each of its rows is checked."""

from __future__ import annotations

import re

import pytest

from tests.faults.matrix import DOCUMENT, document, rows

ROOT = DOCUMENT.parents[1]


def test_the_table_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "write it: python -m tests.faults.matrix"


@pytest.mark.parametrize("check", sorted({check for row in rows() for check in row.checks}))
def test_who_checks_exists(check: str) -> None:
    file, _, name = check.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
