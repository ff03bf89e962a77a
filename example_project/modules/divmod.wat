;; Two results from one function: the multi-value proposal, part of WebAssembly 2.0.
(module
  (func (export "divmod") (param $dividend i64) (param $divisor i64) (result i64 i64)
    (i64.div_u (local.get $dividend) (local.get $divisor))
    (i64.rem_u (local.get $dividend) (local.get $divisor)))
)
