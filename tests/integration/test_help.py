"""The text of --help."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

HELP = """\
WebAssembly tests on Wasmer's compilers (pytest-wasmer):
  --wasm-backends=NAMES
                        Wasm backends to run tests on: names with commas between them, 'all'
                        (singlepass, cranelift and llvm; a missing one is an error) or 'available'
                        (those of the three that work here). Default: available. Also:
                        PYTEST_WASMER_BACKENDS, ini wasm_backends
  --wasm-isolation=process|none
                        Where native code runs: 'process' (an engine process per backend) or 'none'
                        (in the test process: for profiling; a native crash ends the session).
                        Default: process. Also: PYTEST_WASMER_ISOLATION, ini wasm_isolation
"""


def test_help(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = pytester.runpytest("--help").stdout.lines
    start = next(index for index, line in enumerate(lines) if line.startswith("WebAssembly tests"))
    end = next(index for index, line in enumerate(lines) if index > start and not line)
    assert "\n".join(lines[start:end]) + "\n" == HELP
    assert [line.split(":")[0].strip() for line in lines if line.startswith("  wasm_")] == [
        "wasm_backends (string)",
        "wasm_isolation (string)",
    ]
