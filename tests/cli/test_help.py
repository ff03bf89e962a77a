"""--help of each command, word for word."""

from __future__ import annotations

import sys

import pytest

from pytest_wasmer import cli

# Python 3.13 words options in another way, and 3.14 colours them.
pytestmark = pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse words it in another way")

HELP = {
    "": """\
usage: pytest-wasmer [-h] [--version] COMMAND ...

Tools beside the pytest plugin

options:
  -h, --help  show this help message and exit
  --version   show program's version number and exit

commands:
  COMMAND
    doctor    say which Wasmer compilers work here, why others do not, and where all is
    setup     install the Wasmer compilers for Pythons other than 3.10
    check     check that a module's stored code is the same program, and its compiles reproducible
    fuzz      look for calls on which compilers disagree, without a test file
    repro     replay a reproducer bundle that a failed test wrote
    compare   compare what tests let be seen in several runs, from files of pytest --wasm-report
    compile   compile a module to an artifact file
    run       call a function of an artifact, without any compiler
    cache     look at stored artifacts, and delete them
""",
    "doctor": """\
usage: pytest-wasmer doctor [-h] [--json | --ci {github}]

options:
  -h, --help     show this help message and exit
  --json         print JSON instead of text
  --ci {github}  print a workflow for that service instead

A module is run on each backend. Exit status: 0 the three compilers work, 1 some of them, 2 none.
""",
    "setup": """\
usage: pytest-wasmer setup [-h] [--python PATH] [--upgrade] [--remove]

Makes a private environment of CPython 3.10 with the wasmer wheels and nothing else, in which
tests under any Python run native code. uv makes it (uv on PATH, or of pytest-wasmer[setup]), and
downloads a CPython 3.10 where there is none. Tests never download anything.

options:
  -h, --help     show this help message and exit
  --python PATH  the CPython 3.10 to use
  --upgrade      make it anew, also if it works
  --remove       delete it

Exit status: 0 it is there and works, 2 it could not be made.
""",
    "check": """\
usage: pytest-wasmer check [-h] [--backends NAMES] [--seed SEED] [--strict] [--json]
                           FILE [FILE ...]

Checks that the stored code of a module is the same program when it is loaded again, in the same
and in a fresh engine process, and that compiling it again gives the same bytes. Calls are derived
from the types of the exports.

positional arguments:
  FILE              .wasm or .wat

options:
  -h, --help        show this help message and exit
  --backends NAMES  names with commas between them, 'all' or 'available' (default): as of pytest
                    --wasm-backends
  --seed SEED       for the arguments of calls (default: 0)
  --strict          all must give the same bytes
  --json            print JSON instead of a table

Exit status: 0 nothing found, 1 something found, 2 something could not be checked, or no call of a
module's functions observed. Code of singlepass and shared objects (-dylib) may differ each time;
that counts with --strict only.
""",
    "fuzz": """\
usage: pytest-wasmer fuzz [-h] [--backends NAMES] [--seconds SECONDS] [--seed SEED] [--json] FILE

Calls what a module exports on all backends at once, with edge values as arguments and writes to
its memory between the calls, and compares results, traps, host calls, memories and globals. What
it imports is stood in for. The first disagreement is made small and printed, with a test to paste
and a bundle for pytest-wasmer repro.

positional arguments:
  FILE               .wasm or .wat

options:
  -h, --help         show this help message and exit
  --backends NAMES   names with commas between them, 'all' or 'available' (default): as of pytest
                     --wasm-backends
  --seconds SECONDS  how long to look (default: 10)
  --seed SEED        for the calls (default: 0)
  --json             print JSON instead of text

Exit status: 0 nothing found, 1 something found, 2 it could not run (fewer than two backends take
the module). Equal seeds give equal calls. What does not end, or exhausts the stack, is left alone
and said.
""",
    "compile": """\
usage: pytest-wasmer compile [-h] --backend NAME -o OUT FILE

Writes the artifact, and beside it OUT.json, which says where it may run.

positional arguments:
  FILE                  .wasm or .wat

options:
  -h, --help            show this help message and exit
  --backend NAME        e.g. llvm, or llvm-dylib for a shared object
  -o OUT, --output OUT  the artifact file
""",
    "run": """\
usage: pytest-wasmer run [-h] [--trust] ARTIFACT FUNCTION [ARGS ...]

Loads the artifact into an engine that has no compiler, and prints what the function returns.

positional arguments:
  ARTIFACT
  FUNCTION
  ARGS        numbers: 42, -0xff, 1.5, -inf, nan

options:
  -h, --help  show this help message and exit
  --trust     run a file that has no sidecar: you know where it comes from

Exit status: 0 it returned, 1 it trapped, 2 it could not be run.
""",
    "cache": """\
usage: pytest-wasmer cache [-h] [--dir DIR] ACTION ...

options:
  -h, --help  show this help message and exit
  --dir DIR   default: PYTEST_WASMER_CACHE_DIR, else in the user's cache directory, as pytest
              --wasm-cache-dir; what an ini file says (wasm_cache_dir) is not read here

actions:
  ACTION
    info      where it is, and how much is in it
    ls        a line per artifact, last used first
    explain   say for a module what is stored, and what misses and why
    prune     delete what is too old or too much, least recently used first
    clear     delete all of it
""",
    "cache info": """\
usage: pytest-wasmer cache info [-h]

options:
  -h, --help  show this help message and exit
""",
    "cache ls": """\
usage: pytest-wasmer cache ls [-h]

options:
  -h, --help  show this help message and exit
""",
    "cache explain": """\
usage: pytest-wasmer cache explain [-h] [--backends NAMES] FILE

positional arguments:
  FILE              .wasm or .wat

options:
  -h, --help        show this help message and exit
  --backends NAMES  names with commas between them, 'all' or 'available' (default): as of pytest
                    --wasm-backends
""",
    "cache prune": """\
usage: pytest-wasmer cache prune [-h] [--older-than DAYS] [--max-size SIZE] [--yes]

options:
  -h, --help         show this help message and exit
  --older-than DAYS  days without use (default: 90)
  --max-size SIZE    e.g. '500 MiB' (default: 2 GiB)
  --yes              do not ask
""",
    "compare": """\
usage: pytest-wasmer compare [-h] [--json] RUN.json [RUN.json ...]

Compares what tests let be seen in several runs, on other machines, Pythons or versions: each test
on all backends of all runs, by the rules of --wasm-agree. pytest --wasm-report=RUN.json writes
the files.

positional arguments:
  RUN.json    two or more

options:
  -h, --help  show this help message and exit
  --json      print JSON instead of text

Exit status: 0 all that was compared agrees, 1 something diverged, 2 nothing could be compared.
""",
    "cache clear": """\
usage: pytest-wasmer cache clear [-h] [--yes]

options:
  -h, --help  show this help message and exit
  --yes       do not ask
""",
    "repro": """\
usage: pytest-wasmer repro [-h] [--backends NAMES] [--timeout SECONDS] [--minimize] DIR

Does again what a bundle says, on each backend in an engine process of its own, and compares what
comes out. Host functions answer as they did when the bundle was written: no test, and no code of
its project, is run.

positional arguments:
  DIR                the bundle, as the failure names it

options:
  -h, --help         show this help message and exit
  --backends NAMES   names with commas between them, 'all' or 'available' (default: those that the
                     bundle was written for)
  --timeout SECONDS  for one backend; 0 is none (default: 60)
  --minimize         write a second bundle, DIR-min, without the calls (and rows of map) that the
                     divergence does not need

Exit status: 0 all agree, 1 they still diverge (or one crashes, or does not end), 2 it could not
be replayed or compared, or the recording was cut and what is left agrees.
""",
}


@pytest.mark.parametrize("command", HELP)
def test_the_help_of_each_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == HELP[command]


@pytest.mark.parametrize("command", ["", "cache", "nonsense", "cache nonsense", "run", "compile x.wat", "check"])
def test_what_argparse_refuses_is_exit_status_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(command.split())
    assert ended.value.code == cli.WRONG
    assert capsys.readouterr().err.startswith("usage: pytest-wasmer")
