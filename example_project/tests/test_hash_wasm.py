"""crc32, sha256 and blake3 of hash-wasm (C) against zlib, hashlib and the reference implementation."""

import hashlib
import random
import zlib

import blake3 as reference_blake3
import pytest

from bindings import HashWasm

# Around sha256's padding (55, 56) and blocks (64); more than one 16 KiB buffer.
SIZES = [0, 1, 7, 55, 56, 63, 64, 65, 127, 128, 129, 1024, 100_000]
# blake3 hashes chunks of 1024 bytes and joins them in a tree.
TREE_SIZES = [0, 1, 64, 65, 1023, 1024, 1025, 2048, 2049, 3073, 7 * 1024, 16 * 1024 + 1, 100_000]


def sample(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_crc32(crc32: HashWasm, size: int) -> None:
    assert crc32.digest(sample(size)) == zlib.crc32(sample(size)).to_bytes(4, "big")


@pytest.mark.parametrize("size", SIZES)
def test_sha256(sha256: HashWasm, size: int) -> None:
    assert sha256.digest(sample(size)) == hashlib.sha256(sample(size)).digest()


@pytest.mark.parametrize("size", TREE_SIZES)
def test_blake3(blake3: HashWasm, size: int) -> None:
    assert blake3.digest(sample(size)) == reference_blake3.blake3(sample(size)).digest()


@pytest.mark.parametrize("size", [0, 1, 1025, 5000])
def test_blake3_with_a_key(blake3: HashWasm, size: int) -> None:
    key = bytes(range(32))
    assert blake3.digest(sample(size), key=key) == reference_blake3.blake3(sample(size), key=key).digest()


def test_blake3_gives_as_many_bytes_as_asked(blake3: HashWasm) -> None:
    assert blake3.digest(b"abc", size=500) == reference_blake3.blake3(b"abc").digest(500)


def test_any_split_gives_the_same_digest(crc32: HashWasm, sha256: HashWasm, blake3: HashWasm) -> None:
    data = sample(300)
    for hasher in (crc32, sha256, blake3):
        whole = hasher.digest(data)
        for split in range(0, 301, 19):
            assert hasher.digest(data[:split], data[split:]) == whole
