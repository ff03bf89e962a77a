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
                        (those of the three that work here); further ones are singlepass-dylib,
                        cranelift-dylib, llvm-dylib, and what plugins register. Default: available.
                        Also: PYTEST_WASMER_BACKENDS, ini wasm_backends
  --wasm-artifacts=cached|fresh|both
                        What tests run on: 'cached' (code that was stored and loaded again, as in
                        production), 'fresh' (code that was just compiled) or 'both' (each test on
                        each: test_x[llvm-fresh], test_x[llvm-reloaded]). Default: cached. Also:
                        PYTEST_WASMER_ARTIFACTS, ini wasm_artifacts
  --wasm-agree=results|strict|off
                        What backends must agree on, test by test: 'results' (all that a test saw of
                        its instances; a NaN equals a NaN), 'strict' (NaN bits, too) or 'off'; a
                        disagreement is a failed test, test_x[backends-agree]. Default: results.
                        Also: PYTEST_WASMER_AGREE, ini wasm_agree
  --wasm-repro=on-failure|always|off
                        Write reproducer bundles to .wasm-repro in rootdir, for 'pytest-wasmer
                        repro': 'on-failure' (of each test that backends disagree on), 'always'
                        (also of those that they agree on) or 'off'. Default: on-failure. Also:
                        PYTEST_WASMER_REPRO, ini wasm_repro
  --wasm-cache=on|off|refresh
                        Keep compiled modules for later runs: 'on', 'off' (compile in each run; the
                        round trip happens in memory) or 'refresh' (compile once more, and replace
                        what is stored). Default: on. Also: PYTEST_WASMER_CACHE, ini wasm_cache
  --wasm-cache-dir=DIR  Where compiled modules are kept; a relative path starts from rootdir.
                        Default: in the user's cache directory. Also: PYTEST_WASMER_CACHE_DIR, ini
                        wasm_cache_dir
  --wasm-isolation=process|none
                        Where native code runs: 'process' (an engine process per backend) or 'none'
                        (in the test process: for profiling; a native crash ends the session).
                        Default: process. Also: PYTEST_WASMER_ISOLATION, ini wasm_isolation
  --wasm-timeout=SECONDS
                        A call that runs longer fails its test, and its engine process is replaced;
                        the time in host functions does not count; 0: no limit. Default: 0. Also:
                        PYTEST_WASMER_TIMEOUT, ini wasm_timeout
  --wasm-update=[new|all|off]
                        Store what tests with wasm_golden let be seen, where all backends agree:
                        'new' (also without a value: tests that have no golden) or 'all' (also what
                        differs from its golden); refused on CI. Default: off. Also:
                        PYTEST_WASMER_UPDATE, ini wasm_update
  --wasm-report=RUN.json
                        Write what this run saw: tests, observations, times and environment, for
                        pytest-wasmer compare. Default: none is written. Also: PYTEST_WASMER_REPORT,
                        ini wasm_report
"""


def test_help(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = pytester.runpytest("--help").stdout.lines
    start = next(index for index, line in enumerate(lines) if line.startswith("WebAssembly tests"))
    end = next(index for index, line in enumerate(lines) if index > start and not line)
    assert "\n".join(lines[start:end]) + "\n" == HELP
    assert [line.split("(")[0].strip() for line in lines if line.startswith("  wasm_")] == [
        "wasm_backends",
        "wasm_artifacts",
        "wasm_agree",
        "wasm_repro",
        "wasm_cache",
        "wasm_cache_dir",
        "wasm_isolation",
        "wasm_timeout",
        "wasm_update",
        "wasm_report",
        "wasm_cache_max_size",
        "wasm_cache_max_age",
        "wasm_memory_limit",
        "wasm_python",
    ]
