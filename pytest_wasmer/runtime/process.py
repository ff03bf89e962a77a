"""The life of one engine process, as the test process sees it: start, capture of its output, end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

from pytest_wasmer.engines.interpreter import ending
from pytest_wasmer.engines.registry import PACKAGE, command_of
from pytest_wasmer.runtime import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_wasmer.engines.registry import BackendSpec

# Imports one package directory by path: nothing else of this Python's environment is visible to the engine
# process, and the package's __init__ does not run.
BOOT = (
    "import sys; package = type(sys)('pytest_wasmer'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['pytest_wasmer'] = package; from pytest_wasmer.runtime.child import main; main()"
)
# What this Python's environment would change in the engine process: its own settings, and coverage measurement.
UNWANTED = ("PYTHON", "COV_", "COVERAGE_")

NO_MORE: Mapping[str, str] = MappingProxyType({})

SCRATCH = "pytest-wasmer-scratch-"
REMOVALS = 5

EXIT_WAIT = 0.2
TAIL_LINES = 30
OUTPUT_LIMIT = 1 << 16


def can_bound_memory() -> bool:
    """Linux can: elsewhere there is no limit on what another process takes that leaves out reserved address space."""
    return sys.platform == "linux"


def _oom_kills() -> int | None:
    """How many processes Linux has killed on this machine for want of memory, also of a container; None: who knows."""
    try:
        with open("/proc/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), None)
    except OSError:
        return None


class EngineProcess:
    """One engine process. Ends when it is closed, when it is dropped, and when this process ends, however it ends.

    `cwd`: its working directory, if not this process's. `environment` is added to that of this process.
    """

    def __init__(
        self, spec: BackendSpec, pycache: Path, cwd: str | None = None, environment: Mapping[str, str] = NO_MORE
    ) -> None:
        self._capture = _Capture()
        scratch = _new_scratch() if spec.scratch else None
        if scratch is not None:
            environment = {**environment, "TMPDIR": scratch}
        lifeline, ours = os.pipe() if sys.platform != "win32" else (-1, -1)
        command = [*command_of(spec), "-X", f"pycache_prefix={pycache}", "-c", BOOT, str(PACKAGE)]
        command += [spec.engine, spec.argument, str(lifeline), *spec.folders]
        command += [spec.import_path] if spec.import_path else []
        try:
            with _interrupts_blocked():
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._capture.descriptor,
                    bufsize=0,
                    cwd=cwd,
                    env={**_wanted(os.environ), **environment},
                    pass_fds=[lifeline] if lifeline >= 0 else [],
                )
        except BaseException:
            if hasattr(self, "process"):  # a Ctrl-C that came meanwhile
                self.kill()
                _close_all(self.process)
            self._capture.close()
            _close(ours)
            _remove(scratch)
            raise
        finally:
            _close(lifeline)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._ends: list[IO[bytes]] = [self.process.stdin, self.process.stdout]
        self.frames = wire.Frames(self.process.stdout.fileno(), self.process.stdin.fileno(), patient=False)
        self._lifeline = ours
        self._oom_kills = _oom_kills()
        # What it could take when nothing was bounded yet.
        self._unbound: int | None = None
        self._close = weakref.finalize(self, _end, self.process, self._ends, ours, self._capture, scratch)

    @property
    def pid(self) -> int:
        return self.process.pid

    def take_output(self) -> str:
        """What was printed since the last time, the last 64 KiB of it; nothing in a fork."""
        return self._capture.take() if self._close.alive else ""

    def tail(self) -> str:
        return self._capture.tail()

    def how_it_ended(self) -> str:
        """Signal or exit status of a process that closed its pipe; one that lives on is killed."""
        try:
            status = self.process.wait(EXIT_WAIT)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed its pipe and had to be killed"
        return ending(status) + (self._want_of_memory() if status == -9 else "")

    def _want_of_memory(self) -> str:
        """Whether that was the kernel's reason to kill it, as far as anybody can tell."""
        now = _oom_kills()
        if now is None or self._oom_kills is None:
            return " (perhaps by the system, for want of memory)"
        meanwhile = now - self._oom_kills
        return f", by the kernel for want of memory (which it did {meanwhile} times meanwhile)" if meanwhile else ""

    def bound(self, size: int) -> None:
        """Let it take that many bytes more than it has now, as Linux counts data (0: as many as at its start).

        Memories of guests count as they grow, not the address space that they reserve; `memory.grow` fails where
        there is no more. It may be another limit each time: what there is already stays.
        """
        import resource

        try:
            soft, hard = resource.prlimit(self.pid, resource.RLIMIT_DATA)
            self._unbound = soft if self._unbound is None else self._unbound
            limit = self._unbound if not size else self._data() + size
            if resource.RLIM_INFINITY not in (hard, limit):
                limit = min(limit, hard)
            resource.prlimit(self.pid, resource.RLIMIT_DATA, (limit, hard))
        except ProcessLookupError:
            pass  # which the next request will say

    def _data(self) -> int:
        """Bytes of it that count."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmData:\s*(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0  # a zombie has none

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self, patience: float = 0.0) -> None:
        """End it: after so many seconds, if it has not finished what it is at."""
        if patience and self._close.alive:
            for end in self._ends:
                end.close()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self._close()

    def forget(self) -> None:
        """In a fork: let go of the pipes, so that the engine process still ends with its parent."""
        if self._close.detach():
            for end in self._ends:
                end.close()
            _close(self._lifeline)
            self.process.returncode = 0  # not ours to wait for


def _wanted(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(UNWANTED)}


def _end(
    process: subprocess.Popen[bytes], ends: list[IO[bytes]], lifeline: int, capture: _Capture, scratch: str | None
) -> None:
    for end in ends:
        with suppress(OSError):
            end.close()
    _close(lifeline)
    process.kill()
    process.wait()
    capture.close()
    _remove(scratch)


def _new_scratch() -> str:
    """A directory for the temporary files of one engine process, and none left of test processes that were killed."""
    for old in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        pid = old.name[len(SCRATCH) :].partition("-")[0]
        if pid.isdecimal() and _is_gone(int(pid)):
            _remove(str(old))
    return tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-")


def _is_gone(pid: int) -> bool:
    """Whether there is no such process; False where that cannot be told."""
    if sys.platform == "win32":  # os.kill would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's; no number of a process
        pass
    return False


def _remove(scratch: str | None) -> None:
    """Again if need be: a linker outlives its engine process by a moment, and may write there meanwhile."""
    for _ in range(REMOVALS):
        if scratch is not None and os.path.isdir(scratch):
            shutil.rmtree(scratch, ignore_errors=True)


def _close_all(process: subprocess.Popen[bytes]) -> None:
    for end in (process.stdin, process.stdout):
        if end is not None:
            end.close()


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C reaches the whole process group. A child inherits this mask, and keeps it: it ends by its pipe.

    Without it, one that is still starting dies of the KeyboardInterrupt that is meant for the test process.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Capture:
    """A file without a name that takes what an engine process prints."""

    def __init__(self) -> None:
        handle, self._path = tempfile.mkstemp(prefix="pytest-wasmer-")
        os.close(handle)
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND)
        with suppress(OSError):  # Windows removes it on close only
            os.unlink(self._path)
        self._taken = 0

    def take(self) -> str:
        size = self._size()
        if size == self._taken:
            return ""
        text = self._read(max(self._taken, size - OUTPUT_LIMIT), size)
        self._taken = size
        if size > OUTPUT_LIMIT:  # writers append, so that they go on at the new end
            os.ftruncate(self.descriptor, 0)
            self._taken = 0
        return text

    def tail(self) -> str:
        size = self._size()
        return "\n".join(self._read(max(0, size - OUTPUT_LIMIT), size).splitlines()[-TAIL_LINES:])

    def _size(self) -> int:
        return os.lseek(self.descriptor, 0, os.SEEK_END)  # quicker than fstat, once a phase of each test

    def _read(self, start: int, end: int) -> str:
        if end <= start:
            return ""
        return self._bytes(start, end - start).decode(errors="replace")

    def _bytes(self, start: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, count, start)
        with open(self._path, "rb") as file:  # Windows; a position of its own, since that of the descriptor is shared
            file.seek(start)
            return file.read(count)

    def close(self) -> None:
        os.close(self.descriptor)
        with suppress(OSError):
            os.unlink(self._path)
