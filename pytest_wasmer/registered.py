"""What plugins and conftests register by the hook `pytest_wasmer_backends`, checked: each error names who did it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.engines.registry import BackendSpec
from pytest_wasmer.selection import GROUPS
from pytest_wasmer.variants import backend_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pluggy

HOOK = "pytest_wasmer_backends"
#: Names are written in lists, with commas or blanks between them, and in the ids of tests.
NAME = re.compile(r"\w[\w.+-]*")


def registered(config: pytest.Config) -> list[BackendSpec]:
    """In the order in which the hook is called. Raises UsageError for what cannot be one, or not be selected."""
    found: dict[str, tuple[BackendSpec, str]] = {}
    for implementation in _implementations(config):
        who = _who(config, implementation)
        for spec in _specs(config, implementation, who):
            _refuse_bad_name(spec.name, who)
            if spec.name in found:
                raise pytest.UsageError(
                    f"backend {spec.name!r} is registered twice: by {found[spec.name][1]} and by {who}\n"
                    f'Give one of them another name: BackendSpec("{spec.name}-2", ...)'
                )
            found[spec.name] = spec, who
    return [spec for spec, _ in found.values()]


def _implementations(config: pytest.Config) -> Iterator[pluggy.HookImpl]:
    """In the order in which they are called."""
    for implementation in reversed(getattr(config.hook, HOOK).get_hookimpls()):
        if not implementation.hookwrapper and not implementation.wrapper:
            yield implementation


def _who(config: pytest.Config, implementation: pluggy.HookImpl) -> str:
    name = implementation.plugin_name
    with suppress(ValueError):
        return str(Path(name).relative_to(config.rootpath))
    return f"plugin {name!r}"


def _specs(config: pytest.Config, implementation: pluggy.HookImpl, who: str) -> list[BackendSpec]:
    """What one of them registers."""
    manager = config.pluginmanager
    others = [plugin for plugin in manager.get_plugins() if plugin is not implementation.plugin]
    specs = [spec for specs in manager.subset_hook_caller(HOOK, others)(config=config) for spec in _listed(specs, who)]
    for spec in specs:
        if not isinstance(spec, BackendSpec):
            raise pytest.UsageError(f"{HOOK} of {who} has {spec!r} in its list\n{_EXAMPLE}")
    return specs


_EXAMPLE = 'It returns a list: [BackendSpec("mine", engine="my_engine:MyEngine")]'


def _listed(specs: object, who: str) -> list[BackendSpec]:
    if isinstance(specs, BackendSpec) or not isinstance(specs, (list, tuple)):
        raise pytest.UsageError(f"{HOOK} of {who} returned {specs!r}\n{_EXAMPLE}")
    return list(specs)


def _refuse_bad_name(name: object, who: str) -> None:
    said = f"backend {name!r}, registered by {who}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise pytest.UsageError(f"{said}: a name is of letters, digits and . + - _, such as 'mine-2.0'")
    if name in GROUPS:
        raise pytest.UsageError(f"{said}: that means several, in --wasm-backends={name}")
    if backend_in(name) != name:
        raise pytest.UsageError(f"{said}: names that end like this are of --wasm-artifacts=both")
