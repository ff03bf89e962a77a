"""lz4 (Rust, wasm-bindgen): round trips, and an independent decoder so that two wrongs make no right."""

import random

import pytest

from bindings import Lz4, Lz4Error


def decode(compressed: bytes) -> bytes:
    """The LZ4 block format behind 4 bytes of length, as short as it can be written."""
    data, position = bytearray(), 4

    def length(start: int) -> int:
        nonlocal position
        total = start
        while start == 15:
            total += compressed[position]
            position += 1
            if compressed[position - 1] != 255:
                break
        return total

    while True:
        token = compressed[position]
        position += 1
        literals = length(token >> 4)
        data += compressed[position : position + literals]
        position += literals
        if position >= len(compressed):
            assert len(data) == int.from_bytes(compressed[:4], "little")
            return bytes(data)
        offset = int.from_bytes(compressed[position : position + 2], "little")
        position += 2
        for _ in range(length(token & 15) + 4):
            data.append(data[-offset])


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def words(size: int) -> bytes:
    chooser = random.Random(size)
    return b" ".join(chooser.choices([b"singlepass", b"cranelift", b"llvm", b"wasm"], k=size // 6))[:size]


INPUTS = {
    "empty": b"",
    "one-byte": b"x",
    "noise-13": noise(13),
    "noise-4096": noise(4096),
    "noise-100000": noise(100_000),
    "words-1000": words(1000),
    "words-100000": words(100_000),
    "zeros-300000": bytes(300_000),
    "overlapping": b"abc" * 1000 + b"abcabcab" + noise(300) * 3,
}


@pytest.mark.parametrize("data", INPUTS.values(), ids=INPUTS.keys())
def test_round_trip(lz4: Lz4, data: bytes) -> None:
    compressed = lz4.compress(data)
    assert decode(compressed) == data
    assert lz4.decompress(compressed) == data


def test_words_become_smaller_and_noise_hardly_larger(lz4: Lz4) -> None:
    assert len(lz4.compress(words(10_000))) < 5_000
    assert len(lz4.compress(noise(10_000))) < 10_100


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"", "expected another byte"),
        (b"\x05\0\0\0\xf0\xff\xff", "expected another byte"),
        (b"\x05\0\0\0\x10a\xff\xff", "the offset to copy is not contained"),
    ],
)
def test_broken_data_is_refused_with_a_message(lz4: Lz4, broken: bytes, message: str) -> None:
    with pytest.raises(Lz4Error, match=message):
        lz4.decompress(broken)
    assert lz4.decompress(lz4.compress(b"still works")) == b"still works"
