"""`pytest-wasmer doctor`: what works here, what does not and why, and where everything is."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pytest_wasmer import __version__, settings
from pytest_wasmer.artifacts.key import cpu_features, target
from pytest_wasmer.artifacts.seal import seal_file
from pytest_wasmer.cli.engines import new_registry, opened_store
from pytest_wasmer.cli.workflow import WORKFLOWS
from pytest_wasmer.engines.interpreter import PACKAGES, this
from pytest_wasmer.engines.registry import COMPILERS, version_of
from pytest_wasmer.report.table import aligned, counted, size_text
from pytest_wasmer.runtime.errors import WasmError

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_wasmer.cli.engines import Commands
    from pytest_wasmer.engines.interpreter import Interpreter
    from pytest_wasmer.engines.registry import Availability

EPILOG = """\
A module is run on each backend. Exit status: 0 the three compilers work, 1 some of them, 2 none."""
SHORT = 12


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor", help="say which Wasmer compilers work here, why others do not, and where all is", epilog=EPILOG
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of text")
    form.add_argument("--ci", choices=[*WORKFLOWS], help="print a workflow for that service instead")
    parser.set_defaults(command=doctor)


def doctor(options: Namespace) -> int:
    """Exit status 0 if all three compilers work, 1 if some do, 2 if none does."""
    if options.ci:
        print(WORKFLOWS[options.ci], end="")
        return 0
    found = _findings()
    print(json.dumps(found, indent=2) if options.json else "\n".join(_lines(found)))
    working = [found["backends"][name]["works"] for name in COMPILERS]
    return 0 if all(working) else 1 if any(working) else 2


def _findings() -> dict[str, Any]:
    """All of it, as --json prints it."""
    registry = new_registry(anew=True)
    python = registry.interpreter
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        backends = list(threads.map(registry.availability, registry.names))
    return {
        "backends": {item.spec.name: _backend(item) for item in backends},
        "pytest_wasmer": __version__,
        "python": _python(this()),
        "engines": _python(python),
        "wheels": {package.replace("_", "-"): _wheel(python, package) for package in PACKAGES},
        "target": target(),
        "features": cpu_features().split(),
        "store": _store(),
        "seal": str(seal_file()),
        "settings": _settings(),
    }


def _backend(item: Availability) -> dict[str, Any]:
    if item.works:
        return {"works": True, "version": item.detail, "library": item.library}
    return {"works": False, "reason": item.reason, "remedy": item.remedy}


def _python(python: Interpreter) -> dict[str, Any]:
    name = f"{python.kind.partition(' ')[0]} {python.version}".strip()
    return {"executable": python.executable, "origin": python.origin, "name": name}


def _wheel(python: Interpreter, package: str) -> dict[str, str] | None:
    """None where it is not installed."""
    library = python.library(package)
    if library is None:
        return None
    try:
        digest = hashlib.sha256(library.read_bytes()).hexdigest()
    except OSError as error:
        digest = str(error.strerror)
    return {"version": version_of(library), "library": str(library), "sha256": digest}


def _store() -> dict[str, Any]:
    try:
        store = opened_store(None)
    except (WasmError, OSError) as error:
        return {"problem": str(error)}
    entries = store.entries()
    return {"directory": str(store.root), "artifacts": len(entries), "bytes": sum(entry.size for entry in entries)}


def _settings() -> dict[str, str]:
    """Those of the environment: ini files count for pytest only."""
    given = [
        settings.from_environment(option)
        for option in (*settings.OPTIONS, *settings.INI_ONLY)
        if settings.from_environment(option).given
    ]
    return {setting.source: setting.value for setting in given}


def _lines(found: dict[str, Any]) -> list[str]:
    python, engines, store = found["python"], found["engines"], found["store"]
    rows = [(name, line) for name, backend in found["backends"].items() for line in _said(backend)]
    rows += [("", "")]
    rows += [
        ("pytest-wasmer", f"{found['pytest_wasmer']} on {python['name']}: {python['executable']}"),
        ("engines", f"{engines['name'] or 'no Python'}: {engines['executable']} ({engines['origin']})"),
    ]
    for name, wheel in found["wheels"].items():
        text = f"{wheel['version']}  {wheel['sha256'][:SHORT]}  {wheel['library']}" if wheel else "not installed"
        rows.append((name, text))
    stored = f"{counted(store['artifacts'], 'artifact')}, {size_text(store['bytes'])}" if "bytes" in store else ""
    rows += [
        ("processor", f"{found['target']}: {' '.join(found['features'])}"),
        ("store", store.get("problem") or f"{store['directory']}: {stored}"),
        ("seal key", found["seal"]),
    ]
    rows += [("setting", f"{name}={value}") for name, value in found["settings"].items()]
    repeated = [("" if index and name == rows[index - 1][0] else name, text) for index, (name, text) in enumerate(rows)]
    return aligned(repeated, texts=2)


def _said(backend: dict[str, Any]) -> list[str]:
    if backend["works"]:
        return [f"works: {backend['version']}"]
    return [f"does not work: {backend['reason']}", f"    {backend['remedy']}"]
