"""What Singlepass cannot compile: the tests are skipped there, visibly and with the reason."""

import hashlib
import random
from collections.abc import Callable

import pytest
from pytest_wasmer import Instance, Trap, TrapKind

from bindings import AsSha256


@pytest.mark.wasm_backends(exclude="singlepass", reason="Singlepass does not compile SIMD")
class TestSimd:
    """as-sha256's second build."""

    @pytest.mark.parametrize("size", [0, 1, 55, 56, 64, 512, 513, 10_000])
    def test_digest(self, as_sha256_simd: AsSha256, size: int) -> None:
        data = random.Random(size).randbytes(size)
        assert as_sha256_simd.digest(data) == hashlib.sha256(data).digest()

    @pytest.mark.parametrize("interleaved", [False, True])
    def test_four_blocks_side_by_side(self, as_sha256_simd: AsSha256, interleaved: bool) -> None:
        assert as_sha256_simd.exports.HAS_SIMD.value == 1
        for seed in range(10):
            blocks = [random.Random(seed * 4 + i).randbytes(64) for i in range(4)]
            assert as_sha256_simd.batch_of_4(blocks, interleaved) == [
                hashlib.sha256(block).digest() for block in blocks
            ]


@pytest.mark.wasm_backends(exclude="singlepass", reason="Singlepass has no multi-value")
def test_two_results(wasm_instance: Callable[..., Instance]) -> None:
    divmod_ = wasm_instance("modules/divmod.wat").exports.divmod
    assert divmod_(17, 5) == (3, 2)
    first, trap = divmod_.map([(-1, 2**32), (1, 0)])
    assert first == (2**32 - 1, 2**32 - 1)
    assert isinstance(trap, Trap)
    assert trap.kind is TrapKind.INTEGER_DIVIDE_BY_ZERO
