"""blake2b, written by hand in WebAssembly text, against hashlib."""

import hashlib
import random

import pytest

from bindings import Blake2b

# Around the block of 128 bytes, and more than the 640 KiB the memory begins with.
SIZES = [0, 1, 63, 64, 65, 127, 128, 129, 255, 256, 1024, 65_537, 700_000]


@pytest.mark.parametrize("size", SIZES)
def test_digest(blake2b: Blake2b, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert blake2b.digest(data) == hashlib.blake2b(data).digest()


@pytest.mark.parametrize("size", [1, 20, 32, 63])
def test_short_digest(blake2b: Blake2b, size: int) -> None:
    assert blake2b.digest(b"abc", size=size) == hashlib.blake2b(b"abc", digest_size=size).digest()


@pytest.mark.parametrize("size", [0, 1, 128, 300])
def test_key_salt_and_person(blake2b: Blake2b, size: int) -> None:
    data = random.Random(size).randbytes(size)
    key, salt, person = b"k" * 64, b"salt" * 4, b"them" * 4
    expected = hashlib.blake2b(data, digest_size=32, key=key, salt=salt, person=person).digest()
    assert blake2b.digest(data, size=32, key=key, salt=salt, person=person) == expected


def test_any_split_gives_the_same_digest(blake2b: Blake2b) -> None:
    data = random.Random(0).randbytes(1000)
    for split in range(0, 1001, 53):
        assert blake2b.digest(data[:split], data[split:]) == hashlib.blake2b(data).digest()
