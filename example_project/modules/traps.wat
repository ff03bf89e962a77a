;; One export for each way a WebAssembly program can trap. Every function also has inputs that do not trap.
(module
  (type $unary (func (param i32) (result i32)))
  (type $nullary (func (result i32)))

  (memory (export "memory") 1 1)
  (data (i32.const 0) "\01\02\03\04\05\06\07\08")

  ;; Slots 0 and 1 hold functions of different types, slot 2 is empty.
  (table 3 3 funcref)
  (elem (i32.const 0) $double $seven)
  (func $double (type $unary) (i32.mul (local.get 0) (i32.const 2)))
  (func $seven (type $nullary) (i32.const 7))

  ;; Returns its argument unless that is 0.
  (func (export "assert") (param $value i32) (result i32)
    (if (i32.eqz (local.get $value)) (then (unreachable)))
    (local.get $value))

  (func (export "i32.div_s") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "i32.rem_u") (param i32 i32) (result i32) (i32.rem_u (local.get 0) (local.get 1)))
  (func (export "i64.div_s") (param i64 i64) (result i64) (i64.div_s (local.get 0) (local.get 1)))
  (func (export "i64.rem_s") (param i64 i64) (result i64) (i64.rem_s (local.get 0) (local.get 1)))

  (func (export "i32.trunc_f64_s") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func (export "i32.trunc_f64_u") (param f64) (result i32) (i32.trunc_f64_u (local.get 0)))
  (func (export "i64.trunc_f64_s") (param f64) (result i64) (i64.trunc_f64_s (local.get 0)))
  (func (export "i64.trunc_f32_u") (param f32) (result i64) (i64.trunc_f32_u (local.get 0)))

  (func (export "load8") (param $address i32) (result i32) (i32.load8_u (local.get $address)))
  (func (export "load64") (param $address i32) (result i64) (i64.load (local.get $address)))
  (func (export "load_far") (param $address i32) (result i32) (i32.load offset=65532 (local.get $address)))
  (func (export "store32") (param $address i32) (param $value i32)
    (i32.store (local.get $address) (local.get $value)))
  (func (export "fill") (param $address i32) (param $length i32)
    (memory.fill (local.get $address) (i32.const 0xAA) (local.get $length)))
  (func (export "copy") (param $to i32) (param $from i32) (param $length i32)
    (memory.copy (local.get $to) (local.get $from) (local.get $length)))

  (func (export "call_unary") (param $slot i32) (param $value i32) (result i32)
    (call_indirect (type $unary) (local.get $value) (local.get $slot)))

  ;; Needs one stack frame per level: the store after the call keeps compilers from making it a loop.
  (func $descend (export "descend") (param $levels i32) (result i32)
    (local $below i32)
    (if (i32.eqz (local.get $levels)) (then (return (i32.const 0))))
    (local.set $below (call $descend (i32.sub (local.get $levels) (i32.const 1))))
    (i32.store (i32.const 16) (local.get $below))
    (i32.add (local.get $below) (i32.const 1)))
)
