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
        #: Digest of the module whose code, or whose compile, it was; "" for none.
        self.module = ""

    def blame(self, module: str) -> None:
        """The innermost one that was called is to blame."""
        self.module = self.module or module

    def without_frames(self) -> EngineLost:
        """To be kept: frames hold what they worked with."""
        return EngineLost(self.backend, self.cause, self.request, self.output)

    @property
    def account(self) -> str:
        """What happened, without what to do about it in a test."""
        lines = [
            f"the {self.backend} engine process was lost: {self.cause}",
            f"It was serving: {self.request or 'what was answered at that very moment'}",
        ]
        if self.output:
            lines += ["Its last output:", *[f"    {line}" for line in self.output.splitlines()]]
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"{self.account}\n{self._next}"

    @property
    def _next(self) -> str:
        return (
            f"The next test gets a new process. This backend alone: pytest --wasm-backends={backend_in(self.backend)}"
        )


class TimedOut(EngineLost):
    """An engine process was ended, because it worked on a call, or on a compile, for longer than that may take.

    `limit`: in seconds. `source`: who set it. `kind`: "call" or "compile", which is all that is no call.
    """

    def __init__(self, backend: str, limit: float, source: str, kind: str) -> None:
        super().__init__(backend, f"ended after {limit:g} s, the limit of a {kind} ({source})", "")
        self.limit = limit
        self.source = source
        self.kind = kind

    def complete(self, request: str, output: str) -> None:
        """Who waited for the answer knows what it was, and not who looked at the clock."""
        self.request = request
        self.output = output

    def __str__(self) -> str:
        longer = f"{self.limit * 2:g}"
        if self.kind == "compile":
            remedy = f"If it needs longer: @pytest.mark.wasm_timeout(compile={longer})"
        else:
            remedy = (
                "The time in host functions does not count. "
                f"If it needs longer: @pytest.mark.wasm_timeout({longer}), or --wasm-timeout={longer}"
            )
        return f"{self.account}\n{remedy}\n{self._next}"


class InstanceLost(EngineLost):
    """Something made by an engine process was used after that process was lost."""

    def __str__(self) -> str:
        return (
            f"{self.request} is gone: its {self.backend} engine process was lost earlier ({self.cause})\n"
            "Make it in the test, or in a fixture that uses wasm_instance, wasm_module or wasm_all: "
            "those are made anew."
        )


class GivenUp(EngineLost):
    """A module that has cost several engine processes in a row is not tried again in this session.

    `module` is what messages call it, `first` the first of these losses, `test` the node id of the test that it cost.
    """

    def __init__(self, module: str, first: EngineLost, test: str, times: int) -> None:
        super().__init__(first.backend, first.cause, first.request, first.output)
        self._module = module
        self._times = times
        self._test = test

    def __str__(self) -> str:
        return (
            f"{self._module} is not tried on {self.backend} again: "
            f"it has cost {self._times} engine processes in a row\n"
            f"In {self._test} {self.account}\n"
            f"That test alone: pytest '{self._test}'"
        )


class EngineFault(WasmError):
    """The engine failed in a way that is neither a trap nor a refusal: a panic, or a bug of its adapter."""


class WrongBackend(WasmError):
    """A test used what was made on another backend than its own."""


class WrongThread(WasmError):
    """Two threads used one instance, or one engine process during a host function."""
