"""Writes the resident memory of this process and of its children, in KiB, after two numbers of tests."""

import gc
import json
import os
from pathlib import Path

SAMPLED_AFTER = (50, 1000)
SAMPLES = []
DONE = []


def pytest_runtest_logfinish():
    DONE.append(None)
    if len(DONE) + 1 in SAMPLED_AFTER:
        gc.collect()  # what is garbage then, engines let go of in the next test: else the collector's phase decides
    if len(DONE) in SAMPLED_AFTER:
        SAMPLES.append([resident(os.getpid()), sum(map(resident, children()))])


def pytest_sessionfinish():
    Path(os.environ["REPORT"]).write_text(json.dumps(SAMPLES))


def children():
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(child) for child in text.split()]


def resident(process):
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise LookupError(f"no resident memory of process {process}")
