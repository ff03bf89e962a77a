"""What can go wrong with an engine, as the user sees it."""

from __future__ import annotations

from pytest_wasmer.variants import backend_in


class WasmError(Exception):
    """Base of all errors that pytest-wasmer raises on its own account."""


class EngineLost(WasmError):
    """An engine process died, or what it sent made no sense, so that it was ended.

    `backend`: its name. `cause`: the signal, exit status or nonsense. `request`: what it was serving. `output`: the
    end of what it printed. `interrupted`: this process ended it, because something interrupted the wait.
    """

    def __init__(self, backend: str, cause: str, request: str, output: str = "", *, interrupted: bool = False) -> None:
        super().__init__(backend, cause, request, output)
        self.interrupted = interrupted
        self.backend = backend
        self.cause = cause
        self.request = request
        self.output = output

    @property
    def account(self) -> str:
        """What happened, without what to do about it in a test."""
        lines = [
            f"the {self.backend} engine process was lost: {self.cause}",
            f"It was serving: {self.request}",
        ]
        if self.output:
            lines += ["Its last output:", *[f"    {line}" for line in self.output.splitlines()]]
        return "\n".join(lines)

    def __str__(self) -> str:
        return (
            f"{self.account}\n"
            f"The next test gets a new process. This backend alone: pytest --wasm-backends={backend_in(self.backend)}"
        )


class InstanceLost(EngineLost):
    """Something made by an engine process was used after that process was lost."""

    def __str__(self) -> str:
        return (
            f"{self.request} is gone: its {self.backend} engine process was lost earlier ({self.cause})\n"
            "Make it in the test, or in a fixture that uses wasm_instance or wasm_module: those are made anew."
        )


class EngineFault(WasmError):
    """The engine failed in a way that is neither a trap nor a refusal: a panic, or a bug of its adapter."""


class WrongBackend(WasmError):
    """A test used what was made on another backend than its own."""


class WrongThread(WasmError):
    """Two threads used one instance, or one engine process during a host function."""
