"""What memories hold when a test ends, page by page: whatever they, or others, held before."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime import executor
from pytest_wasmer.runtime.blobs import digest_of
from tests.fake_engine import memory, module

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_wasmer.runtime.connection import Connection

PAGE = executor.PAGE
WASM = module(exports={"m": memory(3, 8)})


class Memories:
    """Instances with three pages each, and what their pages should be."""

    def __init__(self, connection: Connection, count: int) -> None:
        self._connection = connection
        handle, _ = connection.compile(WASM, "compile")
        self._instances = [connection.instantiate(handle, [], "instantiation") for _ in range(count)]
        self.pages = [[bytes(PAGE)] * 3 for _ in range(count)]

    def fill(self, which: int, page: int, content: bytes) -> None:
        self._connection.write(self._instances[which] + 1, page * PAGE, content, "write")
        self.pages[which][page] = content

    def check(self) -> None:
        for instance, pages in zip(self._instances, self.pages, strict=True):
            (state,) = self._connection.states([instance], "state")
            held = [f"{number}={digest_of(page)}" for number, page in enumerate(pages) if page != bytes(PAGE)]
            assert state == f"0:memory:3:1:{','.join(held)}"


@pytest.fixture
def memories(fake: Connection) -> Memories:
    fake.watch("")
    return Memories(fake, 2)


def test_pages_that_are_as_they_were(memories: Memories) -> None:
    memories.check()
    for _ in range(2):
        memories.fill(0, 1, b"a" * PAGE)
        memories.check()


def test_a_page_in_which_one_byte_changes(memories: Memories) -> None:
    content = bytearray(random.Random(1).randbytes(PAGE))
    memories.fill(0, 0, bytes(content))
    memories.check()
    for place in (0, 1, PAGE // 2, PAGE - 1):
        content[place] ^= 1
        memories.fill(0, 0, bytes(content))
        memories.check()
    memories.fill(0, 0, bytes(PAGE))
    memories.check()


def test_instances_that_differ_and_do_not(memories: Memories) -> None:
    """The same page of several memories, in any order."""
    contents = [bytes(PAGE), b"a" * PAGE, b"a" * (PAGE - 1) + b"b"]
    randomness = random.Random(2)
    for _ in range(30):
        memories.fill(randomness.randrange(2), randomness.randrange(3), randomness.choice(contents))
        memories.check()


@pytest.mark.parametrize("isolation", ["none"])  # where the limit can be changed
def test_pages_of_which_nothing_is_remembered(memories: Memories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "KNOWN_LIMIT", 1)
    for content in (b"a" * PAGE, b"b" * PAGE, b"a" * PAGE):
        for page in range(3):
            memories.fill(1, page, content)
        memories.check()


@pytest.mark.parametrize("isolation", ["none"])
def test_memories_with_a_digest_for_several_pages(memories: Memories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "DIGEST_LIMIT", 2)
    memories.fill(0, 1, b"a" * PAGE)
    (state,) = memories._connection.states([memories._instances[0]], "state")
    assert re.fullmatch(r"0:memory:3:2:0=\w+", state)
    assert state.endswith(digest_of(bytes(PAGE) + b"a" * PAGE))


def test_what_is_kept_of_pages(fake: Connection, tmp_path: Path) -> None:
    """Each once, also where it is as it was."""
    fake.watch(str(tmp_path))
    memories = Memories(fake, 2)
    for which in (0, 1, 0):
        memories.fill(which, 2, b"x" * PAGE)
        memories.check()
    (file,) = tmp_path.glob("*.blobs")
    assert file.read_bytes().count(b"x" * PAGE) == 1
