"""What a test holds: modules, instances, their exports, traps."""
