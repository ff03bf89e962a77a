"""What runs Wasm: the contract (`api`), the engines, and which of them work here (`registry`)."""
