"""as-sha256 (AssemblyScript, with a start function and the import env.abort) against hashlib."""

import hashlib
import random

import pytest

from bindings import AsSha256


def sample(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 512, 513, 1024, 70_000])
def test_digest(as_sha256: AsSha256, size: int) -> None:
    assert as_sha256.digest(sample(size)) == hashlib.sha256(sample(size)).digest()


def test_digest_of_one_block(as_sha256: AsSha256) -> None:
    assert as_sha256.digest64(sample(64)) == hashlib.sha256(sample(64)).digest()


@pytest.mark.parametrize("interleaved", [False, True])
def test_batch_without_simd(as_sha256: AsSha256, interleaved: bool) -> None:
    blocks = [random.Random(i).randbytes(64) for i in range(4)]
    assert as_sha256.exports.HAS_SIMD.value == 0
    assert as_sha256.batch_of_4(blocks, interleaved) == [hashlib.sha256(block).digest() for block in blocks]
