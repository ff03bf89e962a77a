"""The store as a whole: real entries that are damaged, writers that are killed, many who ask at once."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.key import parts_of
from pytest_wasmer.artifacts.store import GRACE, Shelf, Store
from pytest_wasmer.engines.api import Refused
from pytest_wasmer.engines.registry import Registry
from pytest_wasmer.runtime.direct import DirectConnection
from pytest_wasmer.wasm.loading import Reloaded
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests.artifacts.workbench import HEAD, PARTS, SEAL, run_script, start_script
from tests.conftest import HERE, skip_without_wheels

if TYPE_CHECKING:
    from pytest_wasmer.artifacts.store import Place
    from pytest_wasmer.wasm.loading import Loading
    from pytest_wasmer.wasm.module import Module

FLIPS = 10_000
# How many of them are compiled anew and run; the compile costs most. All, in minutes: ALL_FLIPS=1 pytest -k flipped ...
RUNS = {"singlepass": 500, "cranelift": 500, "llvm": 25}
if os.environ.get("ALL_FLIPS"):
    RUNS = dict.fromkeys(RUNS, FLIPS)

WAT = """
(module $adder
  (memory (export "memory") 1)
  (data (i32.const 0) "hello")
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
"""


class Bench:
    """One compiler, in this process, and a store that it uses. `taken` are the bytes that reached `deserialize`."""

    def __init__(self, compiler: str, folder: Path, cache: Path) -> None:
        availability = Registry([], cache).availability(compiler)
        self.connection = DirectConnection(availability.spec, cache)
        self.shelf = Shelf(Store(folder / "artifacts", SEAL), parts_of(availability, {}))
        self.wasm = self.connection.convert(WAT, "m.wat")
        self.taken: list[bytes] = []
        self.told: list[str] = []
        self._spy()
        self.run()
        (found,) = self.shelf.store.entries()
        self.place: Place = self.shelf.place(found.parts.module if found.parts else "")
        self.content = found.path.read_bytes()

    def _spy(self) -> None:
        engine: Any = self.connection._executor._engine
        deserialize = engine.deserialize

        def spy(artifact: bytes, joint: bool) -> object:
            self.taken.append(artifact)
            return deserialize(artifact, joint)

        engine.deserialize = spy

    def module(self) -> Module:
        """In a session of its own, as it were."""
        strategy = Reloaded(lambda name: self.shelf, self._tell, pytest.fail)
        source = Source("m.wat", self.wasm, None)
        return Loader().load(self.connection.backend, lambda: self.connection, source, strategy)

    def _tell(self, backend: str, loading: Loading) -> None:
        self.told.append(loading.what)

    def run(self) -> list[str]:
        """What was told of a load; the module works."""
        instance = self.module().instantiate()
        assert instance.exports.add(20, 22) == 42
        assert instance.memory.read(0, 5) == b"hello"
        told, self.told = self.told, []
        return told

    def refuses(self) -> None:
        """The entry as it is now: nothing of it reaches the engine."""
        with pytest.raises(Refused) as refused:
            self.connection.load(self.place, "m.wat")
        assert refused.value.stage == "broken"
        assert self.taken == []

    def recovers(self) -> None:
        """The entry as it is now is refused, compiled anew, and good the next time."""
        assert self.run() == ["refused", "compiled"]
        assert self.taken == [entry.read(*self.place)[0]]
        self.taken.clear()


@pytest.fixture
def bench(compiler: str, tmp_path: Path, cache: Path) -> Bench:
    skip_without_wheels("none")
    made = Bench(compiler, tmp_path, cache)
    assert len(made.taken) == 1
    assert made.run() == ["loaded"]
    assert len(made.taken) == 2
    made.taken.clear()
    return made


def test_no_flipped_bit_of_a_real_entry_reaches_the_engine(bench: Bench, compiler: str) -> None:
    randomness = random.Random(compiler)
    load = partial(bench.connection.load, bench.place, "m.wat")
    with open(bench.place.path, "r+b", buffering=0) as file:
        for _ in range(FLIPS):
            offset = randomness.randrange(len(bench.content))
            os.pwrite(file.fileno(), bytes([bench.content[offset] ^ 1 << randomness.randrange(8)]), offset)
            with pytest.raises(Refused, match="broken"):
                load()
            os.pwrite(file.fileno(), bench.content[offset : offset + 1], offset)
    assert bench.taken == []
    assert bench.run() == ["loaded"]


def test_what_was_flipped_is_compiled_anew_and_works(bench: Bench, compiler: str) -> None:
    randomness = random.Random(compiler)
    for _ in range(RUNS[compiler]):
        content = bytearray(Path(bench.place.path).read_bytes())
        content[randomness.randrange(len(content))] ^= 1 << randomness.randrange(8)
        Path(bench.place.path).write_bytes(content)
        bench.recovers()
    assert bench.run() == ["loaded"]


def test_every_length_of_a_real_entry_is_refused(bench: Bench) -> None:
    for size in reversed(range(len(bench.content))):
        os.truncate(bench.place.path, size)
        with pytest.raises(Refused, match="broken"):
            bench.connection.load(bench.place, "m.wat")
    assert bench.taken == []
    bench.recovers()


def test_a_cut_off_entry_is_compiled_anew_and_works(bench: Bench) -> None:
    lines = len(bench.place.head) + entry.COMPILED_SIZE + entry.SEAL_SIZE
    ends = [0, 1, len(bench.place.head), lines - entry.SEAL_SIZE, lines - 1, lines, lines + 1]
    described = lines + len(entry.read(*bench.place)[3])
    ends += [described - 1, described, described + 1]
    for size in [*ends, (lines + len(bench.content)) // 2, len(bench.content) - 1]:
        os.truncate(bench.place.path, size)
        bench.refuses()
        bench.recovers()


def test_a_longer_entry_is_compiled_anew_and_works(bench: Bench) -> None:
    with open(bench.place.path, "ab") as file:
        file.write(b"\0")
    bench.refuses()
    bench.recovers()


def test_an_artifact_that_the_engine_refuses_is_compiled_anew_and_works(bench: Bench) -> None:
    """Sealed well, and yet no artifact: what an engine sealed that wrote nonsense."""
    entry.write(*bench.place, b"nonsense", 1.0)
    assert bench.run() == ["refused", "compiled"]
    # Read in both attempts, before and under the lock.
    assert bench.taken[:2] == [b"nonsense"] * 2
    assert bench.run() == ["loaded"]


# Writers that are killed

KILLS = """
import os, random, signal, sys, time
from tests.artifacts.workbench import HEAD, SEAL
from pytest_wasmer.artifacts import entry

path, rounds = sys.argv[1], int(sys.argv[2])
SIZE = 1 << 20
randomness = random.Random(7)

def write_for_ever(seed):
    numbers = random.Random(seed)
    while True:
        number = numbers.randrange(256)
        entry.write(path, HEAD, SEAL, bytes([number]) * SIZE, float(number))

def check():
    global found, seen
    try:
        artifact, seconds, *_ = entry.read(path, HEAD, SEAL)
    except entry.Absent:
        assert not found, "it was there before"
        return
    found = True
    assert len(artifact) == SIZE and artifact == artifact[:1] * SIZE and artifact[0] == seconds, "a bad entry"
    seen.add(artifact[0])

found, seen = False, set()
for number in range(rounds):
    writers = []
    for which in range(2):
        pid = os.fork()
        if not pid:
            write_for_ever(2 * number + which)
        writers.append(pid)
    deadline = time.monotonic() + randomness.uniform(0, 0.015)
    if number % 2:
        time.sleep(max(0.0, deadline - time.monotonic()))
    while time.monotonic() < deadline:
        check()
    for pid in writers:
        os.kill(pid, signal.SIGKILL)
        time.sleep(randomness.uniform(0, 0.002))
        check()
    for pid in writers:
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    check()
print(len(seen))
"""


def test_two_hundred_kills_of_two_writers(tmp_path: Path) -> None:
    """Each time both die somewhere in a store of the same key. What is there is always whole."""
    store = Store(tmp_path, SEAL)
    place = store.place(PARTS)
    (seen,) = run_script(KILLS, place.path, 200)
    assert int(seen) > 10
    folder = Path(place.path).parent
    left = [path for path in folder.iterdir() if path.name.endswith(entry.TEMPORARY)]
    assert len(left) > 20, "the kills came between the stores"
    assert len(list(folder.iterdir())) == len(left) + 1
    store.remove([])
    assert all(path.exists() for path in left)
    long_ago = time.time() - GRACE - 60
    for path in left:
        os.utime(path, (long_ago, long_ago))
    store.remove([])
    assert [path.name for path in folder.iterdir()] == [f"{PARTS.key()}.artifact"]
    entry.read(place.path, HEAD, SEAL)


# Many who ask at once

SLOW_ENGINE = """
import sys, time
from fake_engine import FakeEngine

class Slow(FakeEngine):
    '''Its compiles take so long that they would overlap.'''

    def compile(self, wasm):
        print("compiling", file=sys.stderr, flush=True)
        time.sleep({seconds})
        return super().compile(wasm)
"""

ASKING = """
import os, sys
from pathlib import Path
from pytest_wasmer.artifacts.store import Shelf, Store
from pytest_wasmer.engines.registry import BackendSpec
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.loading import Reloaded
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests.artifacts.workbench import PARTS, SEAL
from tests.fake_engine import function, module

folder, root, isolation, number = sys.argv[1:]
sys.path[:0] = [folder, os.path.dirname(sys.modules["tests.fake_engine"].__file__)]
WASM = module(exports={"add": function("i32 i32 -> i32", ["sum"])})
SPEC = BackendSpec("slow", "slow_engine:Slow", "slow", import_path=folder)

def ask():
    told = []
    pool = EnginePool(isolation, Path(folder) / "pycache")
    shelf = Shelf(Store(Path(root), SEAL), PARTS)
    strategy = Reloaded(lambda name: shelf, lambda name, loading: told.append(loading.what), print)
    load = Loader().load("slow", lambda: pool.connection(SPEC), Source("m.wasm", WASM, None), strategy)
    assert load.instantiate().exports.add(1, 2) == 3
    pool.close()
    return told

gate, starter = os.pipe()
for _ in range(int(number)):
    if os.fork() == 0:
        os.close(starter)
        os.read(gate, 1)
        os.write(1, (" ".join(ask()) + "\\n").encode())
        os._exit(0)
os.close(starter)
assert [os.wait()[1] for _ in range(int(number))] == [0] * int(number)
"""


def slow_engine(folder: Path, seconds: float) -> Path:
    (folder / "slow_engine.py").write_text(
        f"import sys\nsys.path.append({str(HERE)!r})\n{SLOW_ENGINE.format(seconds=seconds)}"
    )
    return folder


def test_six_processes_compile_once(tmp_path: Path, isolation: str) -> None:
    folder = slow_engine(tmp_path, 0.3)
    lines = run_script(ASKING, folder, tmp_path / "artifacts", isolation, 6)
    assert sorted(line for line in lines if line != "compiling") == ["compiled", *["loaded"] * 5]


def test_who_is_killed_while_compiling_blocks_nobody(tmp_path: Path) -> None:
    """And leaves nothing that is served."""
    hanging, quick = tmp_path / "hanging", tmp_path / "quick"
    for folder, seconds in ((hanging, 600), (quick, 0)):
        folder.mkdir()
        slow_engine(folder, seconds)
    with start_script(ASKING.replace("if os.fork() == 0:", "if True:"), hanging, tmp_path / "a", "none", 1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiling\n"
        assert len(list(tmp_path.rglob("*.lock"))) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_script(ASKING, quick, tmp_path / "a", "none", 1) == ["compiling", "compiled"]
