"""Seconds of the session, and of what its groups cost where reports arrive."""

import json
import os
from pathlib import Path
from time import perf_counter

from pytest_wasmer.agreement.groups import Groups

JUDGING = [0.0]
BEGAN = perf_counter()


def _timed(method):
    def timed(*arguments, **keywords):
        began = perf_counter()
        try:
            return method(*arguments, **keywords)
        finally:
            JUDGING[0] += perf_counter() - began

    return timed


def pytest_configure():
    Groups.add, Groups.done = _timed(Groups.add), _timed(Groups.done)


def pytest_unconfigure():
    Path(os.environ["REPORT"]).write_text(json.dumps([JUDGING[0], perf_counter() - BEGAN]))
