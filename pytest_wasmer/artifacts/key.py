"""What an artifact depends on, and the name that follows from it."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pytest_wasmer.artifacts.entry import TITLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_wasmer.engines.registry import Availability

SCHEMA = "2"
# As long as a digest.
BLANK = "?" * 64

# The features that Wasmer 2.1 knows, as Linux calls them (lib/compiler/src/target.rs: CpuFeature). An artifact for
# this machine uses all it has.
FEATURES = (
    *("sse2", "pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "avx", "bmi1", "bmi2", "avx2"),
    *("avx512dq", "avx512vl", "avx512f", "abm"),
)


class Parts(NamedTuple):
    """All that an artifact depends on. Two compiles with equal parts may stand for each other."""

    schema: str
    module: str  # SHA-256 of the Wasm binary
    engine: str
    version: str
    library: str  # SHA-256 of the engine's library files
    compiler: str
    kind: str  # "universal" or "dylib", of the wheels
    features: str
    target: str
    configuration: str
    extra: str  # what the hook pytest_wasmer_key_parts adds

    def key(self) -> str:
        """SHA-256 over the parts in this order, each after its length (8 bytes, little-endian), in hex."""
        return hashlib.sha256(self._packed()).hexdigest()

    def _packed(self) -> bytes:
        contents = [part.encode() for part in self]
        return b"".join([len(text).to_bytes(8, "little") + text for text in contents])

    def of_modules(self) -> Callable[[str], tuple[str, bytes]]:
        """What gives key and head with the digest of a module instead of this one's: all else is put together once."""
        blank = self._replace(module=BLANK)
        packed, _, packed_end = blank._packed().partition(BLANK.encode())
        head, _, head_end = blank.head().partition(BLANK.encode())

        def of_module(digest: str) -> tuple[str, bytes]:
            module = digest.encode()
            return hashlib.sha256(packed + module + packed_end).hexdigest(), head + module + head_end

        return of_module

    def head(self) -> bytes:
        """The first lines of an entry: readable, and unlike those of any other parts."""
        return "".join([f"{TITLE}\n", *map(_line, self._fields, self)]).encode()

    def differences(self, other: Parts) -> list[str]:
        """The names of the parts that differ."""
        return [name for name, mine, its in zip(self._fields, self, other, strict=True) if mine != its]


@lru_cache(maxsize=256)  # all but the module stay the same
def _line(name: str, value: str) -> str:
    return f"{name}: {json.dumps(value)}\n"


def parts_of(backend: Availability, extra: dict[str, str]) -> Parts:
    """The parts of a backend's artifacts on this machine, all but the module."""
    spec = backend.spec
    compiler, kind = spec.argument, ""
    if spec.engine.startswith("pytest_wasmer."):
        compiler, _, kind = spec.argument.partition("-")
        kind = kind or "universal"
    return Parts(
        schema=SCHEMA,
        module="",
        engine=spec.engine,
        version=backend.detail,
        library=backend.library,
        compiler=compiler,
        kind=kind,
        features=cpu_features(),
        target=target(),
        configuration="default",
        extra=json.dumps(extra, sort_keys=True),
    )


def parts_from(head: bytes) -> Parts | None:
    """The reverse of `Parts.head`, from the beginning of an entry; None if it is none, or of another schema."""
    try:
        title, *lines = head.decode("utf-8", "replace").split("\n")[: len(Parts._fields) + 1]
        named = [line.partition(": ") for line in lines]
        if title != TITLE or [name for name, _, _ in named] != list(Parts._fields):
            return None
        return Parts(*[str(json.loads(value)) for _, _, value in named])
    except (ValueError, RecursionError):  # brackets without end, in a damaged one
        return None


def target() -> str:
    """What this machine runs: "x86_64-linux"."""
    return f"{platform.machine().lower()}-{sys.platform}"


@lru_cache(maxsize=1)
def cpu_features() -> str:
    """What this machine's processor has of `FEATURES`; elsewhere than on Linux what the system calls the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("flags"):
                    flags = set(line.partition(":")[2].split())
                    return " ".join(name for name in FEATURES if name in flags)
    except OSError:
        pass
    return platform.processor()
