"""What can go wrong with a module, as the user sees it."""

from __future__ import annotations

from pytest_wasmer.runtime.errors import WasmError


class SourceError(WasmError):
    """A source is missing, empty, cut off, not Wasm, or not WAT: nothing a compiler could be blamed for."""


class CompileError(WasmError):
    """A backend does not accept or cannot compile a module."""


class ArtifactError(WasmError):
    """A file is no artifact, or one that cannot run here; it was not loaded."""


class LinkError(WasmError):
    """An import is missing, misspelt or of another type than the module asks for."""


class MissingExport(AttributeError, KeyError):
    """A module has no export of that name; the message lists what there is."""

    def __str__(self) -> str:
        return str(self.args[0])
