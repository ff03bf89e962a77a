"""300 tests of one call each, with pytest-wasmer."""

import pytest

ADD = '(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))'


@pytest.fixture(scope="module")
def add(wasm_instance):
    return wasm_instance(ADD).exports.add


@pytest.mark.parametrize("number", range(300))
def test_add(add, number):
    assert add(number, 1) == number + 1
