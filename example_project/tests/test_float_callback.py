"""A host function with float parameters, and a bug of one compiler kept in sight until it is repaired."""

from collections.abc import Callable

import pytest
from pytest_wasmer import Instance

PAIRS = [(1.5, 2.0), (-0.25, 1e300), (3.0, 7.0)]


def scale(value: float, factor: float) -> float:
    return value * factor


@pytest.fixture(scope="module")
def callback(wasm_instance: Callable[..., Instance]) -> Instance:
    return wasm_instance("modules/float-callback.wat", imports={"env": {"scale": scale}})


def test_called_directly(callback: Instance) -> None:
    assert callback.exports.direct.map(PAIRS) == [scale(*pair) for pair in PAIRS]


@pytest.mark.wasm_xfail(
    singlepass="Wasmer 2.1 passes floats in integer registers to host functions called through a table "
    "(the calling convention of wasmerio/wasmer#1271)"
)
def test_called_through_a_table(callback: Instance) -> None:
    assert callback.exports.indirect.map(PAIRS) == [scale(*pair) for pair in PAIRS]
