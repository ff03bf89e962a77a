"""What exists on Linux only is not needed to import anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pytest_wasmer

PACKAGE = Path(pytest_wasmer.__file__).parent
MODULES = sorted(
    ".".join(("pytest_wasmer", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for file in PACKAGE.rglob("*.py")
)

# What the standard library and dependencies need of it is imported before it goes.
IMPORTS = """
import sys
import asyncio, concurrent.futures, ctypes, hashlib, secrets, shutil, subprocess, tempfile
import filelock, hypothesis.strategies, platformdirs, pytest
import os

REFUSED = {"fcntl", "grp", "pwd", "resource", "termios", "syslog", "tty", "pty"}
FUNCTIONS = [
    "fchmod", "fork", "geteuid", "getpgid", "getuid", "killpg", "memfd_create", "openpty", "pread", "pwrite",
    "register_at_fork", "sched_getaffinity", "setsid", "umount", "uname", "waitid",
]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in REFUSED:
            raise ImportError(f"{name} is not on this platform")

for name in REFUSED:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refuse())
for name in FUNCTIONS:
    if hasattr(os, name):
        delattr(os, name)
sys.platform = sys.argv[1]
for name in [name for name in sys.modules if name.startswith("pytest_wasmer")]:
    del sys.modules[name]

from importlib import import_module
for name in sys.argv[2:]:
    import_module(name)
print("imported", len(sys.argv) - 2)
"""


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_module_can_be_imported(platform: str) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS, platform, *MODULES], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == f"imported {len(MODULES)}\n"
    assert len(MODULES) > 60
