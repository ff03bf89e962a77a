"""1,000 tests of 100 events each: an instance and 49 calls."""

import pytest

ADD = '(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))'


@pytest.mark.parametrize("number", range(1000))
def test_add(wasm_instance, number):
    add = wasm_instance(ADD).exports.add
    for other in range(49):
        assert add(number, other) == number + other
