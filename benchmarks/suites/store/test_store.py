"""Tests that all need the same few modules, so that parallel processes ask for the same one at the same time."""

import pytest

ADD = '(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))'
MODULES = (ADD, "hash-sha256.wasm", "gofmt.wasm")


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("source", MODULES, ids=["add", "hash-sha256", "gofmt"])
def test_exports(wasm_module, source, number):
    assert wasm_module(source).exports
