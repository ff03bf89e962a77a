"""Runs pytest and says how many modules were compiled, loaded from the store and refused there, by what test reports
carry: also those of xdist's workers.

    python counted_pytest.py REPORT [PYTEST_ARGUMENT...]
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest


class Loadings:
    def __init__(self) -> None:
        self.counted = Counter(compiled=0, loaded=0, refused=0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts = getattr(report, "wasm", None) or {"loadings": {}}
        self.counted.update(what for loadings in facts["loadings"].values() for what, *_ in loadings)


def main(report: str, arguments: list[str]) -> int:
    loadings = Loadings()
    status = pytest.main(arguments, plugins=[loadings])
    Path(report).write_text(json.dumps(loadings.counted))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
