"""Real miscompiles of Wasmer 2.1: modules that do not do the same on each compiler."""

# LLVM moves the load into the branch that uses it, and its trap with it.
LOAD_SUNK = """(module (memory 1)
  (func (export "pick") (param i32 i32) (result i32) (local i32)
    (local.set 2 (i32.load (local.get 0)))
    (if (result i32) (local.get 1) (then (i32.const 5)) (else (local.get 2)))))"""
# LLVM moves the store of a global behind a load that traps.
GLOBAL_LOST = """(module (memory 1) (global (export "g") (mut i32) (i32.const 0))
  (func (export "f") (param i32) (result i32) (local i32)
    (global.set 0 (i32.const 7))
    (local.set 1 (i32.load (local.get 0)))
    (global.set 0 (i32.const 8))
    (local.get 1)))"""
# Cranelift moves 64 of 128 bits (CVE-2022-31104).
V128_SELECT = """(module (memory (export "memory") 1)
  (func (export "f") (param i32)
    (v128.store (i32.const 0)
      (select (v128.load (i32.const 16)) (v128.load (i32.const 32)) (local.get 0)))))"""
# Singlepass passes floats to a host function that is called through a table in integer registers.
FLOAT_INDIRECT = """(module (type $t (func (param f64))) (import "env" "log" (func $log (type $t)))
  (table 1 funcref) (elem (i32.const 0) $log)
  (func (export "f") (call_indirect (type $t) (f64.const 2.5) (i32.const 0))))"""
# Singlepass reads a float result of a host function from xmm0, where nothing puts it. With few parameters the result is
# mostly still there; with this many never.
FLOAT_RESULT = f"""(module (import "env" "f" (func $f (param {"i32 " * 30}) (result f64)))
  (func (export "f") (result f64) (call $f {"(i32.const 1) " * 30})))"""
# Singlepass panics while it compiles calls within calls with many parameters of several types.
NESTED_CALLS = """(module
  (func $g (param f64 f64 f64 i32 i32 i64 i64) (result i64) (i64.const 0))
  (func (export "f") (param f64 f64 f64 i32 i32 i64 i64) (result i64)
    (call $g (local.get 0) (local.get 0) (local.get 0) (local.get 3) (i32.add (i32.const 8) (local.get 4))
      (call $g (f64.const 1) (f64.const 1) (f64.const 2) (local.get 3) (i32.const 1) (local.get 6)
        (call $g (f64.const 1) (f64.const 2) (local.get 2) (local.get 4) (local.get 4) (i64.const 8) (i64.const 5)))
      (local.get 6))))"""
# LLVM does not end where it may use AVX-512VL: on this very function, whatever the operands are.
NARROW = """(module (memory (export "memory") 1)
  (func (export "f")
    (v128.store (i32.const 0) (i16x8.narrow_i32x4_s
      (i64x2.gt_s (v128.load (i32.const 16)) (v128.load (i32.const 32)))
      (f64x2.ge (v128.load (i32.const 48)) (v128.load (i32.const 64)))))))"""


def with_module(wat: str, test: str) -> str:
    """Of a test file in which the module is W: its text."""
    return f"W = '''{wat}'''\n\n{test}"
