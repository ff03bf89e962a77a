"""How native work is asked for: one executor, two transports (a pipe to an engine process, a direct call)."""
