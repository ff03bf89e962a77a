"""The conftest of both suites: seconds from the begin of the first test to the end of the session."""

import os
from pathlib import Path
from time import perf_counter

BEGAN = []


def pytest_runtest_logstart():
    if not BEGAN:
        BEGAN.append(perf_counter())


def pytest_sessionfinish():
    Path(os.environ["REPORT"]).write_text(str(perf_counter() - BEGAN[0]))
