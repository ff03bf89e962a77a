"""`pytest-wasmer compile` and `run`: artifacts as files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_wasmer.artifacts.key import parts_of
from pytest_wasmer.cli.engines import Engines, new_registry
from pytest_wasmer.engines.registry import WHEEL_VERSION, WHEELS, Availability, BackendSpec
from pytest_wasmer.runtime.errors import WasmError
from pytest_wasmer.wasm import artifact
from pytest_wasmer.wasm.function import Function
from pytest_wasmer.wasm.module import module_of
from pytest_wasmer.wasm.traps import Trap

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_wasmer.cli.engines import Commands


def add(commands: Commands) -> None:
    compiling = commands.add_parser(
        "compile",
        help="compile a module to an artifact file",
        description="Writes the artifact, and beside it OUT.json, which says where it may run.",
    )
    compiling.add_argument("file", metavar="FILE", help=".wasm or .wat")
    compiling.add_argument(
        "--backend", required=True, metavar="NAME", help="e.g. llvm, or llvm-dylib for a shared object"
    )
    compiling.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the artifact file")
    compiling.set_defaults(command=compile_)
    running = commands.add_parser(
        "run",
        help="call a function of an artifact, without any compiler",
        description="Loads the artifact into an engine that has no compiler, and prints what the function returns.",
        epilog="Exit status: 0 it returned, 1 it trapped, 2 it could not be run.",
    )
    running.add_argument("artifact", type=Path, metavar="ARTIFACT")
    running.add_argument("function", metavar="FUNCTION")
    running.add_argument("arguments", nargs="*", metavar="ARGS", help="numbers: 42, -0xff, 1.5, -inf, nan")
    # What argparse takes for a number and not for an option: by itself, decimal digits only.
    running._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
    running.add_argument(
        "--trust", action="store_true", help="run a file that has no sidecar: you know where it comes from"
    )
    running.set_defaults(command=run)


def compile_(options: Namespace) -> int:
    with Engines() as engines:
        (backend, *more) = engines.select(options.backend)
        if more:
            raise WasmError(f"--backend={options.backend} names {1 + len(more)} backends: name one")
        if options.output.exists() and Path(options.file).exists() and os.path.samefile(options.output, options.file):
            raise WasmError(
                f"{options.output} is the module itself, which its artifact would replace: name another file"
            )
        module = engines.load(backend, options.file)
        module.save(options.output)
        size = options.output.stat().st_size
        print(f"{options.output}: {size} bytes for {backend}, and {artifact.sidecar(options.output).name}")
    return 0


def run(options: Namespace) -> int:
    kind = artifact.kind_in(options.artifact)
    headless = "headless-dylib" if kind == "dylib" else "headless"
    python = new_registry().interpreter
    if python.reason:
        raise WasmError(f"{python.reason}\n{python.remedy}")
    spec = BackendSpec(headless, WHEELS, headless, python.executable, scratch=kind == "dylib")
    here = parts_of(Availability(spec, True, detail=f"wasmer {WHEEL_VERSION}"), {})._replace(compiler="")
    content, parts = artifact.read(options.artifact, here, trusted=options.trust, how_to_trust="--trust")
    with Engines() as engines:
        module = module_of(content, parts, engines.connect(spec), str(options.artifact))
        try:
            function = module.instantiate().exports[options.function]
            if not isinstance(function, Function):
                raise WasmError(f"{options.function} of {options.artifact} is not a function that can be called")
            result = function(*_arguments(function, options.arguments))
        except Trap as trap:
            print(f"trap: {trap}")
            return 1
        for value in result if isinstance(result, tuple) else () if result is None else (result,):
            print(value)
    return 0


def _arguments(function: Function, texts: list[str]) -> list[Any]:
    """Numbers of the parameters' types. Raises `WasmError`."""
    params = function.type.params
    if len(texts) != len(params):
        raise WasmError(f"{function.name}{function.type} takes {len(params)} arguments, {len(texts)} were given")
    values: list[Any] = []
    for text, param in zip(texts, params, strict=True):
        try:
            values.append(float(text) if param in ("f32", "f64") else int(text, 0))
        except ValueError:
            raise WasmError(f"{text!r} is not a number of type {param}, for {function.name}{function.type}") from None
    return values
