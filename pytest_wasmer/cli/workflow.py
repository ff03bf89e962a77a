"""What `pytest-wasmer doctor --ci` prints: workflows to paste."""

from __future__ import annotations

from pytest_wasmer import __version__
from pytest_wasmer.engines.registry import COMPILERS

PYTHONS = ("3.10", "3.12", "3.14")
# Where the store is on the service's Linux machines, whatever is set here.
ARTIFACTS = "~/.cache/pytest-wasmer/artifacts"
SEAL_KEY = "~/.local/share/pytest-wasmer/seal.key"

GITHUB = f"""\
name: wasm
on: [push, pull_request]
permissions:
  contents: read

jobs:
  test:
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix:
        python: [{", ".join(f'"{python}"' for python in PYTHONS)}]
        backend: [{", ".join(COMPILERS)}]
    env:
      REPORT: wasm-${{{{ matrix.python }}}}-${{{{ matrix.backend }}}}.json
    steps:
      - uses: actions/checkout@v4
      - uses: astral-sh/setup-uv@v6
      - run: uv venv --python ${{{{ matrix.python }}}}
      - run: uv pip install pytest-wasmer=={__version__}  # and what else the tests need
      - if: matrix.python != '3.10'
        run: uv run --no-project pytest-wasmer setup
      # Compiled modules and the key that seals them; without the key all of them are compiled again.
      - uses: actions/cache@v4
        with:
          path: |
            {ARTIFACTS}
            {SEAL_KEY}
          key: pytest-wasmer-${{{{ matrix.backend }}}}-${{{{ matrix.python }}}}-${{{{ github.run_id }}}}
          restore-keys: pytest-wasmer-${{{{ matrix.backend }}}}-
      - run: uv run --no-project pytest --wasm-backends=${{{{ matrix.backend }}}} --wasm-report=$REPORT
      - if: always()
        run: uv run --no-project pytest-wasmer doctor || true
      - if: always()
        uses: actions/upload-artifact@v4
        with:
          name: ${{{{ env.REPORT }}}}
          path: ${{{{ env.REPORT }}}}

  # Whether all backends did the same, on every Python: each job above has seen one of them only.
  compare:
    needs: test
    if: always()
    runs-on: ubuntu-latest
    steps:
      - uses: actions/download-artifact@v4
        with:
          pattern: wasm-*.json
          merge-multiple: true
      - uses: astral-sh/setup-uv@v6
      - run: uvx --from pytest-wasmer=={__version__} pytest-wasmer compare wasm-*.json
"""
WORKFLOWS = {"github": GITHUB}
