"""Makes the LLVM wheel loadable on today's glibc, in the process that loads it.

Its library needs symbol versions "from libtinfo.so.5", but the wheel ships that library under another
SONAME, so glibc (2.26 and later) finds no loaded object of that name and aborts the interpreter. A copy of the shipped
library under the name that is asked for, loaded before, satisfies it. No installed file is touched, and where the
system has a libtinfo.so.5 that one is used.
"""

from __future__ import annotations

import ctypes
import os
import sys

NEEDED = b"libtinfo.so.5"


def provide() -> None:
    """Load something that answers to libtinfo.so.5. Does nothing where none is needed or none can be had."""
    if not sys.platform.startswith("linux") or _load(NEEDED.decode()):
        return
    shipped = _shipped_library()
    if shipped is None:
        return
    with open(shipped, "rb") as file:
        content = renamed(file.read(), os.path.basename(shipped).encode())
    if content is None:
        return
    descriptor = os.memfd_create("libtinfo")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        # The second load is by name: only then does glibc record the name for the copy.
        if _load(f"/proc/self/fd/{descriptor}"):
            _load(NEEDED.decode())
    finally:
        os.close(descriptor)


def renamed(library: bytes, name: bytes) -> bytes | None:
    """`library` with its SONAME (the only place that spells `name`) replaced; None if it is not like that."""
    if library.count(name + b"\0") != 1 or len(name) < len(NEEDED):
        return None
    return library.replace(name + b"\0", NEEDED.ljust(len(name) + 1, b"\0"))


def _shipped_library() -> str | None:
    for folder in sys.path:
        libraries = os.path.join(folder, "wasmer_compiler_llvm.libs")
        try:
            names = os.listdir(libraries)
        except OSError:
            continue
        for name in names:
            if name.startswith("libtinfo-"):
                return os.path.join(libraries, name)
    return None


def _load(path: str) -> bool:
    try:
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
