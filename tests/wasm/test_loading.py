"""How code comes to be: fresh or reloaded, from the store or not, and what happens where that fails."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_wasmer.artifacts import entry
from pytest_wasmer.artifacts.store import Shelf, Store, open_store
from pytest_wasmer.engines.registry import BackendSpec
from pytest_wasmer.runtime.errors import EngineLost
from pytest_wasmer.runtime.pool import EnginePool
from pytest_wasmer.wasm.errors import CompileError
from pytest_wasmer.wasm.loading import Code, Fresh, Loaded, Loading, Reloaded
from pytest_wasmer.wasm.module import Loader
from pytest_wasmer.wasm.source import Source
from tests.artifacts.workbench import PARTS, SEAL
from tests.conftest import HERE
from tests.fake_engine import function, module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_wasmer.artifacts.store import Place
    from pytest_wasmer.runtime.connection import Connection
    from pytest_wasmer.wasm.instance import Instance
    from pytest_wasmer.wasm.module import Module

WASM = module(exports={"add": function("i32 i32 -> i32", ["sum"])})
OTHER = module(exports={"answer": function("-> i32", [["return", 42]])})

# Engines that serialize and deserialize otherwise than they should. What they do is noted in a file.
ENGINES = '''
import os, signal, sys
sys.path.append({here!r})
from fake_engine import FakeEngine, FakeModule, function, module
from pytest_wasmer.engines.api import Refused

class Noting(FakeEngine):
    """The argument is the file."""

    def __init__(self, argument):
        super().__init__("fake-a")
        self.notes = argument

    def note(self, what):
        with open(self.notes, "a") as file:
            file.write(what + "\\n")

    def compile(self, wasm):
        self.note("compile")
        return super().compile(wasm)

    def serialize(self, module):
        self.note("serialize")
        return super().serialize(module)

    def deserialize(self, artifact, joint=None):
        self.note("deserialize")
        return super().deserialize(artifact)

class Lying(Noting):
    """What it loads is another program: it multiplies by -1."""

    def deserialize(self, artifact, joint=None):
        super().deserialize(artifact)
        return FakeModule(module(exports={{"add": function("i32 i32 -> i32", [["return", -3]])}}))

class Renaming(Noting):
    """What it loads has other exports."""

    def deserialize(self, artifact, joint=None):
        super().deserialize(artifact)
        return FakeModule(module(exports={{"sum": function("i32 i32 -> i32", ["sum"])}}))

class Forgetful(Noting):
    """What it loads has another name."""

    def deserialize(self, artifact, joint=None):
        super().deserialize(artifact)
        return FakeModule(module(exports={{"add": function("i32 i32 -> i32", ["sum"])}}, name="forgotten"))

class Describing(Noting):
    def describe(self, module):
        self.note("describe")
        return super().describe(module)

class Mute(Noting):
    def serialize(self, module):
        raise NotImplementedError

class Picky(Noting):
    """It loads nothing that it stored."""

    def deserialize(self, artifact, joint=None):
        super().deserialize(artifact)
        raise Refused("validate", "not today")

class Mortal(Noting):
    """It dies of the entries that the file `poisoned` says."""

    def deserialize(self, artifact, joint=None):
        super().deserialize(artifact)
        if os.path.exists(self.notes + ".poisoned"):
            os.kill(os.getpid(), signal.SIGKILL)
        return FakeEngine.deserialize(self, artifact)
'''


class Bench:
    """A backend and a store, over one transport; `take` says what was told and what the engine did."""

    def __init__(self, folder: Path, engines: EnginePool, engine: str) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        (folder / "loading_engines.py").write_text(ENGINES.format(here=str(HERE)))
        self.store = Store(folder / "artifacts", SEAL)
        self.shelf: Shelf | None = Shelf(self.store, PARTS)
        self.warnings: list[str] = []
        self.loadings: list[Loading] = []
        self.pool = engines
        self.use(engine)

    def use(self, engine: str) -> None:
        reference = f"loading_engines:{engine}"
        self.spec = BackendSpec(engine, reference, str(self.notes), import_path=str(self.folder))

    def tell(self, backend: str, loading: Loading) -> None:
        assert backend == self.spec.name
        self.loadings.append(loading)

    def reloaded(self, wasm: bytes = WASM) -> Module:
        return self.load(Reloaded(lambda name: self.shelf, self.tell, self.warn), wasm)

    def warn(self, backend: str, reason: str) -> None:
        self.warnings.append(f"artifacts of {backend} are not stored: {reason}")

    def load(self, strategy: Any, wasm: bytes = WASM) -> Module:
        source = Source("m.wasm", wasm, None)
        return Loader().load(self.spec.name, lambda: self.pool.connection(self.spec), source, strategy)

    def take(self) -> tuple[list[str], list[str]]:
        """What was told, and the engine's calls, since the last time."""
        told = [loading.what for loading in self.loadings]
        calls = self.notes.read_text().split() if self.notes.exists() else []
        self.loadings.clear()
        self.notes.unlink(missing_ok=True)
        return told, calls

    @property
    def place(self) -> Place:
        """Of the only entry."""
        (found,) = self.store.entries()
        assert found.parts is not None
        return self.store.place(found.parts)


@pytest.fixture
def engines(isolation: str, cache: Path) -> Iterator[EnginePool]:
    pool = EnginePool(isolation, cache)
    before = [*sys.path]
    yield pool
    pool.close()
    sys.path[:] = before
    sys.modules.pop("loading_engines", None)


@pytest.fixture
def bench(tmp_path: Path, engines: EnginePool) -> Bench:
    return Bench(tmp_path, engines, "Noting")


def add(loaded: Module) -> object:
    return loaded.instantiate().exports.add(1, 2)


COMPILED = (["compiled"], ["compile", "serialize", "deserialize"])
LOADED = (["loaded"], ["deserialize"])


# Fresh


def test_fresh_code_was_never_deserialized(bench: Bench) -> None:
    assert add(bench.load(Fresh(bench.tell))) == 3
    assert bench.take() == (["compiled"], ["compile"])
    assert bench.store.entries() == []


def test_a_lie_does_not_concern_fresh_code(bench: Bench) -> None:
    bench.use("Lying")
    assert add(bench.load(Fresh(bench.tell))) == 3


# Reloaded


def test_the_first_run_compiles_and_the_next_ones_load(bench: Bench) -> None:
    assert add(bench.reloaded()) == 3
    assert bench.take() == COMPILED
    for _ in range(2):
        assert add(bench.reloaded()) == 3
        assert bench.take() == LOADED
    (found,) = bench.store.entries()
    assert found.hits == 2
    assert bench.warnings == []


def test_what_was_used_is_known(bench: Bench) -> None:
    """So that it is not evicted."""
    for expected in (COMPILED, LOADED):
        bench.shelf = Shelf(bench.store, PARTS)
        add(bench.reloaded())
        assert bench.take() == expected
        assert bench.shelf.used == {bench.place.path}


def test_each_module_has_its_entry(bench: Bench) -> None:
    add(bench.reloaded())
    assert bench.reloaded(OTHER).instantiate().exports.answer() == 42
    assert bench.take() == (["compiled"] * 2, COMPILED[1] * 2)
    assert bench.reloaded(OTHER).instantiate().exports.answer() == 42
    assert add(bench.reloaded()) == 3
    assert bench.take() == (["loaded"] * 2, LOADED[1] * 2)
    assert len(bench.store.entries()) == 2


def test_each_backend_has_its_entries(bench: Bench) -> None:
    add(bench.reloaded())
    bench.shelf = Shelf(bench.store, PARTS._replace(compiler="other"))
    bench.take()
    add(bench.reloaded())
    assert bench.take() == COMPILED


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "in-memory"])
def test_what_runs_is_what_was_reloaded(bench: Bench, stored: bool) -> None:
    """Also in the first run."""
    bench.use("Lying")
    if not stored:
        bench.shelf = None
    assert add(bench.reloaded()) == -3
    assert add(bench.reloaded()) == -3


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "in-memory"])
def test_what_is_reloaded_must_be_described_as_what_was_compiled(bench: Bench, stored: bool) -> None:
    """Later runs are told what the entry says."""
    bench.use("Renaming")
    if not stored:
        bench.shelf = None
    said = "Renaming cannot load its own artifact of m.wasm: its imports and exports are others\n"
    with pytest.raises(CompileError, match=re.escape(said)):
        bench.reloaded()
    assert bench.store.entries() == []


def test_the_name_is_that_of_what_was_reloaded_in_each_run(bench: Bench) -> None:
    bench.use("Forgetful")
    assert [bench.reloaded().name for _ in range(2)] == ["forgotten"] * 2
    assert bench.take() == (["compiled", "loaded"], [*COMPILED[1], *LOADED[1]])


def test_what_a_stored_module_exports_is_read_from_its_entry(bench: Bench) -> None:
    """An engine takes its time to say it; one instance asks it, since it has to know types."""
    bench.use("Describing")
    exports = bench.reloaded().exports
    bench.take()
    module = bench.reloaded()
    assert module.exports == exports
    assert (module.name, module.imports) == ("", {})
    assert bench.take() == LOADED
    assert [add(module), add(module)] == [3, 3]
    assert bench.take() == ([], ["describe"])


def test_without_a_store_the_round_trip_is_in_memory(bench: Bench) -> None:
    bench.shelf = None
    for _ in range(2):
        assert add(bench.reloaded()) == 3
        assert bench.take() == COMPILED
    assert bench.warnings == []
    assert not bench.store.root.exists()


def test_what_it_took_is_told(bench: Bench) -> None:
    add(bench.reloaded())
    (compiled,) = bench.loadings
    assert compiled.saved == 0.0
    assert 0.0 < compiled.seconds < 10.0
    bench.loadings.clear()
    artifact, _, joint, described = entry.read(*bench.place)
    entry.write(*bench.place, artifact, 100.0, joint, described)
    add(bench.reloaded())
    (loaded,) = bench.loadings
    assert loaded.saved == pytest.approx(100.0 - loaded.seconds)
    bench.loadings.clear()
    entry.write(*bench.place, artifact, 0.0, joint, described)
    add(bench.reloaded())
    assert bench.loadings[0].saved == 0.0


# Entries that are not to be used


def damage(place: Place) -> None:
    with open(place.path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")


def replace(place: Place) -> None:
    """By a directory's worth of nothing."""
    os.truncate(place.path, 0)


def plant(place: Place) -> None:
    entry.write(place.path, place.head, bytes(32), b"fake artifact of fake-a" + OTHER, 1.0)


@pytest.mark.parametrize("harm", [damage, replace, plant])
def test_a_refused_entry_is_counted_once_and_replaced(bench: Bench, harm: Callable[[Place], None]) -> None:
    add(bench.reloaded())
    bench.take()
    harm(bench.place)
    assert add(bench.reloaded()) == 3
    assert bench.take() == (["refused", "compiled"], COMPILED[1])
    assert add(bench.reloaded()) == 3
    assert bench.take() == LOADED
    assert bench.warnings == []


@pytest.mark.parametrize("change", ["deleted", "other"])
def test_without_its_seal_key_all_of_a_store_is_a_miss(bench: Bench, tmp_path: Path, change: str) -> None:
    """Nothing of it is an error, and the next run is warm again."""
    key = tmp_path / "data" / "seal.key"
    for what, expected in [
        ("", COMPILED),
        ("", LOADED),
        (change, (["refused", "compiled"], COMPILED[1])),
        ("", LOADED),
    ]:
        if what == "deleted":
            key.unlink()
        elif what == "other":
            key.write_bytes(bytes(32))
        bench.shelf = Shelf(open_store(tmp_path / "artifacts", key), PARTS)
        assert add(bench.reloaded()) == 3
        assert bench.take() == expected
    assert bench.warnings == []


def test_what_the_engine_refuses_to_load_is_refused(bench: Bench) -> None:
    """Told as a reload that failed where it was just compiled: a compile of the same would fail the same way."""
    bench.use("Picky")
    with pytest.raises(CompileError, match=r"^Picky cannot load its own artifact of m\.wasm: not today\n"):
        bench.reloaded()
    bench.use("Noting")
    bench.take()
    bench.reloaded()
    assert bench.take() == LOADED
    bench.use("Picky")
    with pytest.raises(CompileError, match="cannot load its own artifact"):
        bench.reloaded()
    assert bench.take()[0] == ["refused"]


def test_somebody_else_replaces_it_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was broken before the lock was had, and is good then, is not counted."""
    add(bench.reloaded())
    bench.take()
    good = Path(bench.place.path).read_bytes()
    place = bench.place
    damage(place)
    lock = Store.lock

    def locked(store: Store, where: Place) -> object:
        Path(place.path).write_bytes(good)
        return lock(store, where)

    monkeypatch.setattr(Store, "lock", locked)
    assert add(bench.reloaded()) == 3
    assert bench.take() == LOADED


# Refresh


def test_refresh_compiles_once_although_stored(bench: Bench) -> None:
    add(bench.reloaded())
    path = bench.place.path
    bench.take()
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    # In the same second as the new entry, whatever the resolution of this file system's clock.
    bench.shelf = Shelf(bench.store, PARTS, time.time() - 60)
    assert add(bench.reloaded()) == 3
    assert bench.take() == COMPILED
    assert add(bench.reloaded()) == 3
    assert bench.take() == LOADED
    assert os.stat(path).st_mtime > time.time() - 60


# Stores that fail


def block(store: Store) -> None:
    """A file where the folder of the module would be: nothing can be written there, by root neither."""
    folder = Path(store.place(PARTS).path).parents[1]
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("")


def test_what_cannot_be_stored_runs_all_the_same(bench: Bench) -> None:
    """After the round trip in memory, and the reason is told."""
    block(bench.store)
    for _ in range(2):
        assert add(bench.reloaded()) == 3
        assert bench.take()[1] == COMPILED[1]
    assert set(bench.warnings) == {f"artifacts of Noting are not stored: Not a directory ({bench.store.root})"}


def test_what_cannot_be_stored_runs_reloaded(bench: Bench) -> None:
    bench.use("Lying")
    block(bench.store)
    assert add(bench.reloaded()) == -3


@pytest.mark.parametrize("isolation", ["none"])
@pytest.mark.parametrize("harm", ["full", "unreadable"])
def test_a_full_disk_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    def vanish(descriptor: int) -> None:
        shutil.rmtree(bench.store.root)

    monkeypatch.setattr(os, "fsync", fail if harm == "full" else vanish)
    assert add(bench.reloaded()) == 3
    reason = {"full": "No space left on device", "unreadable": "No such file or directory"}[harm]
    assert bench.warnings == [f"artifacts of Noting are not stored: {reason} ({bench.store.root})"]
    assert [path for path in bench.store.root.rglob("*") if path.suffix != ".lock" and path.is_file()] == []


@pytest.mark.parametrize("isolation", ["none"])
def test_an_entry_that_vanishes_right_after_it_was_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", lambda source, target: os.unlink(source))
    assert add(bench.reloaded()) == 3
    assert bench.warnings == [
        f"artifacts of Noting are not stored: it was gone or changed right after it was written ({bench.store.root})"
    ]


def test_a_directory_that_is_deleted_during_the_run(bench: Bench) -> None:
    add(bench.reloaded())
    bench.take()
    shutil.rmtree(bench.store.root)
    assert add(bench.reloaded()) == 3
    assert bench.take() == COMPILED
    assert add(bench.reloaded()) == 3
    assert bench.take() == LOADED
    assert bench.warnings == []


def test_a_directory_in_the_place_of_an_entry(bench: Bench) -> None:
    add(bench.reloaded())
    path = bench.place.path
    os.unlink(path)
    os.mkdir(path)
    bench.take()
    assert add(bench.reloaded()) == 3
    assert bench.take() == (["refused", "compiled"], COMPILED[1])
    assert bench.warnings == [f"artifacts of Noting are not stored: Is a directory ({bench.store.root})"]


# Engines that fail


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "in-memory"])
def test_an_engine_that_cannot_serialize_works(bench: Bench, stored: bool) -> None:
    bench.use("Mute")
    if not stored:
        bench.shelf = None
    assert add(bench.reloaded()) == 3
    assert bench.take() == (["compiled"], ["compile"])
    where = f" ({bench.store.root})" if stored else ""
    assert bench.warnings == [
        "artifacts of Mute are not stored: this engine cannot serialize; tests ran on code that was never "
        f"stored{where}"
    ]
    assert bench.store.entries() == []


@pytest.mark.parametrize("isolation", ["process"])
def test_an_entry_of_which_the_engine_dies_is_not_loaded_twice(bench: Bench) -> None:
    bench.use("Mortal")
    poison = Path(f"{bench.notes}.poisoned")
    add(bench.reloaded())
    bench.take()
    poison.touch()
    with pytest.raises(EngineLost, match=r"load of the stored artifact of m\.wasm"):
        bench.reloaded()
    assert bench.store.entries() == []
    assert bench.take() == ([], ["deserialize"])
    poison.unlink()
    assert add(bench.reloaded()) == 3
    assert bench.take() == COMPILED


def test_a_module_that_does_not_compile_is_not_stored(bench: Bench) -> None:
    bad = module(refuse={"*": ("compile", "too hard")})
    for _ in range(2):
        with pytest.raises(CompileError, match=r"^Noting cannot compile m\.wasm: too hard\n"):
            bench.reloaded(bad)
    assert bench.take() == ([], ["compile"] * 2)
    assert bench.store.entries() == []
    # Its lock was let go.
    assert add(bench.reloaded()) == 3


@pytest.mark.parametrize("isolation", ["process"])
def test_code_comes_back_from_the_store_where_its_engine_was_lost(bench: Bench) -> None:
    loaded = bench.reloaded()
    bench.take()
    connection: Any = bench.pool.connection(bench.spec)
    connection.kill()
    with pytest.raises(EngineLost):
        loaded.instantiate()
    assert add(loaded) == 3
    assert bench.take() == LOADED


def test_code_that_is_not_lost_is_loaded_once(bench: Bench) -> None:
    calls: list[str] = []

    def load(connection: Connection, name: str) -> Loaded:
        calls.append(name)
        return Loaded(connection, *connection.compile(WASM, name))

    code = Code(lambda: bench.pool.connection(bench.spec), load, "first")
    assert code.loaded("second") is code.loaded("third")
    assert calls == ["first"]
    assert code.backend == "Noting"


# The compilers

TABLES = {
    "lender": """(module
      (type $t (func (result i32)))
      (table (export "table") 2 funcref)
      (elem (i32.const 0) $seven)
      (func $seven (result i32) (i32.const 7)))""",
    "borrower": """(module
      (type $t (func (result i32)))
      (import "a" "table" (table 2 funcref))
      (elem (i32.const 1) $eight)
      (func $eight (result i32) (i32.const 8))
      (func (export "call") (param i32) (result i32) (call_indirect (type $t) (local.get 0))))""",
}


@pytest.mark.parametrize("times", [1, 2], ids=["cold", "warm"])
def test_reloaded_modules_share_tables(native: Connection, tmp_path: Path, times: int) -> None:
    shelf = Shelf(Store(tmp_path, SEAL), PARTS)
    told: list[str] = []
    strategy = Reloaded(lambda name: shelf, lambda name, loading: told.append(loading.what), pytest.fail)

    def make(name: str, imports: Any = None) -> Instance:
        source = Source(name, native.convert(TABLES[name], name), None)
        return Loader().load(native.backend, lambda: native, source, strategy).instantiate(imports)

    for _ in range(times):
        lender = make("lender")
        borrower = make("borrower", {"a": {"table": lender.exports.table}})
        assert [borrower.exports.call(0), borrower.exports.call(1)] == [7, 8]
    assert told == ["compiled", "compiled", "loaded", "loaded"][: 2 * times]
