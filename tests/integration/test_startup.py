"""A suite without Wasm pays next to nothing: what is imported, and when."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

MODULES = """
import sys, pytest
before = set(sys.modules)
import pytest_wasmer.plugin
allowed = {"pytest_wasmer", "pytest", "_pytest", "pluggy", "iniconfig", *sys.stdlib_module_names}
print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] not in allowed))
print(sorted(name for name in sys.modules if name.startswith(("pytest_wasmer.engines", "pytest_wasmer.runtime"))))
"""


def test_only_the_standard_library_and_pytest_are_imported() -> None:
    done = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_a_whole_run_without_wasm_imports_no_engine(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_plain():
            assert not [name for name in sys.modules if name.startswith(
                ("pytest_wasmer.engines", "pytest_wasmer.runtime", "pytest_wasmer.wasm", "platformdirs"))]
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:platformdirs")
    result.assert_outcomes(passed=1)


def test_no_engine_process_is_started_before_a_test_asks(fakes: pytest.Pytester) -> None:
    fakes.makepyfile(
        """
        import pytest
        from pytest_wasmer.plugin import WASM

        def test_backend_only(wasm_backend, wasm_module, request):
            assert not request.config.stash[WASM].session.started
        """
    )
    fakes.runpytest("--wasm-backends=fake-a").assert_outcomes(passed=1)


def test_every_public_name_can_be_imported() -> None:
    import pytest_wasmer

    for name in pytest_wasmer.__all__:
        assert getattr(pytest_wasmer, name).__name__ == name
    assert set(pytest_wasmer.__all__) <= set(dir(pytest_wasmer))


def test_pytest_rewrites_nothing_of_what_has_no_asserts(pytester: pytest.Pytester) -> None:
    """Which would triple the time of an import."""
    pytester.makepyfile(
        """
        import platformdirs, platformdirs.unix
        import pytest_wasmer.session

        def test_loaders():
            for module in (platformdirs, platformdirs.unix, pytest_wasmer.session):
                assert type(module.__loader__).__name__ == "SourceFileLoader", module
        """
    )
    pytester.runpytest_subprocess("-p", "no:platformdirs").assert_outcomes(passed=1)
