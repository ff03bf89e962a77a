"""Tests that do what may leak: instances with memories, traps, host functions that refer to their instance."""

import os

import pytest

from pytest_wasmer import Trap

WAT = """
(module
  (import "host" "note" (func $note (param i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "fill") (param $from i32) (param $byte i32) (param $size i32)
    local.get $from local.get $byte local.get $size memory.fill)
  (func (export "ask") (param i32) (result i32) local.get 0 call $note)
  (func (export "divide") (param i32 i32) (result i32) local.get 0 local.get 1 i32.div_s)
  (func (export "fail") unreachable))
"""


@pytest.mark.parametrize("number", range(int(os.environ["TESTS"])))
def test_instance(wasm_instance, number):
    def note(address):
        return instance.memory.read_u8(address) + instance.exports.divide(number, 1)

    instance = wasm_instance(WAT, imports={"host": {"note": note}})
    instance.exports.fill(0, number % 256, 4 * 65536)
    assert instance.memory.read(65536, 4096) == bytes([number % 256]) * 4096
    instance.memory.write(100, b"\7" * 1000)
    assert instance.exports.ask(101) == 7 + number
    if number % 3 == 0:
        with pytest.raises(Trap):
            instance.exports.fail()
        with pytest.raises(Trap):
            instance.exports.divide(1, 0)
