;; A host function with float parameters, called directly and through a table.
(module
  (type $scale (func (param f64 f64) (result f64)))
  (import "env" "scale" (func $scale (type $scale)))
  (table 1 1 funcref)
  (elem (i32.const 0) $scale)

  (func (export "direct") (param f64 f64) (result f64)
    (call $scale (local.get 0) (local.get 1)))
  (func (export "indirect") (param f64 f64) (result f64)
    (call_indirect (type $scale) (local.get 0) (local.get 1) (i32.const 0)))
)
