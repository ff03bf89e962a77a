"""Which modules must share an engine, because their instances can exchange references."""

from __future__ import annotations

import pytest

from pytest_wasmer.engines import wheels
from pytest_wasmer.engines.references import Reader, shares_references
from tests import fake_engine
from tests.conftest import needs_wheels_here

SHARING = {
    "table-import": '(module (import "e" "t" (table 1 funcref)))',
    "table-import-last": """(module (import "e" "f" (func (param i32))) (import "e" "m" (memory 1 2))
      (import "e" "n" (global (mut i64))) (import "e" "t" (table 1 2 externref)))""",
    "table-export": '(module (table (export "t") 1 funcref))',
    "table-export-last": '(module (memory (export "m") 1) (func (export "f")) (table (export "t") 1 funcref))',
    "global-import": '(module (import "e" "g" (global funcref)))',
    "global-export": '(module (global (export "g") (mut funcref) (ref.null func)))',
    "externref": '(module (global (export "g") externref (ref.null extern)))',
    "parameter": '(module (func (export "f") (param i32 funcref)))',
    "result": '(module (func (export "f") (result externref) (ref.null extern)))',
    "function-import": '(module (import "e" "f" (func (param funcref))))',
}
APART = {
    "empty": "(module)",
    "plain": '(module (memory (export "memory") 1) (func (export "f") (param i32 i64 f32) (result f64) f64.const 0))',
    "imports": """(module (import "e" "f" (func (param f64))) (import "e" "m" (memory 1))
      (import "e" "g" (global (mut f32))) (import "e" "h" (global i32)))""",
    "private-table": "(module (table 4 funcref) (elem (i32.const 0) $f) (func $f))",
    "long-names": f'(module (import "{"p" * 112}" "{"o" * 300}" (func)) (func (export "{"p" * 200}")))',
    "memory-limits": '(module (import "e" "m" (memory 112 1000)) (export "m" (memory 0)))',
}


@needs_wheels_here
@pytest.mark.parametrize("wat", SHARING.values(), ids=list(SHARING))
def test_modules_that_share(wat: str) -> None:
    assert shares_references(wheels.wat_to_wasm(wat))


@needs_wheels_here
@pytest.mark.parametrize("wat", APART.values(), ids=list(APART))
def test_modules_that_do_not(wat: str) -> None:
    """They get an engine of their own, whose memory is given back with them."""
    assert not shares_references(wheels.wat_to_wasm(wat))


@needs_wheels_here
@pytest.mark.parametrize("wat", [*SHARING.values(), APART["plain"]], ids=[*SHARING, "plain"])
def test_what_is_cut_off_is_no_reason_to_fail(wat: str) -> None:
    wasm = wheels.wat_to_wasm(wat)
    assert all(shares_references(wasm[:length]) in (True, False) for length in range(len(wasm)))


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\0asm\1\0\0\0", b"\0asm\1\0\0\0\2\x80", b"\0asm\1\0\0\0\2\x7f\1", b"\0asm\1\0\0\0\2\6\1\1e\1t\x09"],
)
def test_what_is_no_module_shares_nothing(content: bytes) -> None:
    assert not shares_references(content)
    assert not shares_references(fake_engine.module())


def test_numbers_are_leb128() -> None:
    reader = Reader(b"\x05\x80\x01\xe5\x8e\x26\x02abZ")
    assert [reader.number() for _ in range(3)] == [5, 128, 624485]
    reader.skip_name()
    assert reader.byte() == ord("Z")
    with pytest.raises(IndexError):
        reader.number()
