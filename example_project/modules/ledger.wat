;; A small contract: 16 accounts, each a 64-bit balance at 8 * account, and a host that is asked and told.
(module
  (import "env" "initial_supply" (func $initial_supply (result i64)))
  (import "env" "authorize" (func $authorize (param $from i32) (param $amount i64) (result i32)))
  (import "env" "event" (func $event (param $from i32) (param $to i32) (param $amount i64)))
  (import "env" "note" (func $note (param $address i32) (param $length i32)))

  (memory (export "memory") 1)
  (global $supply (export "supply") (mut i64) (i64.const 0))
  (global (export "NOTE") i32 (i32.const 1024))

  ;; The start function mints the supply the host names to account 0.
  (start $genesis)
  (func $genesis
    (global.set $supply (call $initial_supply))
    (if (i64.lt_s (global.get $supply) (i64.const 0)) (then (unreachable)))
    (i64.store (i32.const 0) (global.get $supply))
    (call $event (i32.const -1) (i32.const 0) (global.get $supply)))

  (func $slot (param $account i32) (result i32)
    (if (i32.ge_u (local.get $account) (i32.const 16)) (then (unreachable)))
    (i32.shl (local.get $account) (i32.const 3)))

  (func $balance_of (export "balance_of") (param $account i32) (result i64)
    (i64.load (call $slot (local.get $account))))

  ;; Moves an amount and hands the note of that length at NOTE to the host. Returns 1, or 0 when refused.
  (func (export "transfer") (param $from i32) (param $to i32) (param $amount i64) (param $note_length i32) (result i32)
    (if (i64.gt_u (local.get $amount) (call $balance_of (local.get $from))) (then (unreachable)))
    (if (i32.eqz (call $authorize (local.get $from) (local.get $amount))) (then (return (i32.const 0))))
    (i64.store (call $slot (local.get $from))
      (i64.sub (call $balance_of (local.get $from)) (local.get $amount)))
    (i64.store (call $slot (local.get $to))
      (i64.add (call $balance_of (local.get $to)) (local.get $amount)))
    (call $event (local.get $from) (local.get $to) (local.get $amount))
    (call $note (i32.const 1024) (local.get $note_length))
    (i32.const 1))
)
