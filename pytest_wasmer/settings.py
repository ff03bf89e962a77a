"""The only reader of options, environment and ini: each setting with its source."""

from __future__ import annotations

import os

import pytest


class Option:
    """An option with its environment and ini twins: `--wasm-NAME`, `PYTEST_WASMER_NAME`, `wasm_name`."""

    def __init__(
        self,
        name: str,
        metavar: str,
        default: str,
        help: str,
        choices: tuple[str, ...] = (),
        *,
        unset: str = "",
        bare: str = "",
    ) -> None:
        self.flag = f"--wasm-{name}"
        self.ini = f"wasm_{name.replace('-', '_')}"
        self.variable = f"PYTEST_{self.ini.upper().replace('WASM', 'WASMER', 1)}"
        self.metavar = metavar
        self.default = default
        self.help = help
        self.choices = choices
        #: What it means without a default.
        self.unset = unset
        #: What the option means without a value, if it may have none.
        self.bare = bare


BACKENDS = Option(
    "backends",
    "NAMES",
    "available",
    "Wasm backends to run tests on: names with commas between them, 'all' (singlepass, cranelift and llvm; "
    "a missing one is an error) or 'available' (those of the three that work here); further ones are "
    "singlepass-dylib, cranelift-dylib, llvm-dylib, and what plugins register",
)
ARTIFACTS = Option(
    "artifacts",
    "cached|fresh|both",
    "cached",
    "What tests run on: 'cached' (code that was stored and loaded again, as in production), 'fresh' (code that was "
    "just compiled) or 'both' (each test on each: test_x[llvm-fresh], test_x[llvm-reloaded])",
    ("cached", "fresh", "both"),
)
AGREE = Option(
    "agree",
    "results|strict|off",
    "results",
    "What backends must agree on, test by test: 'results' (all that a test saw of its instances; a NaN equals a NaN), "
    "'strict' (NaN bits, too) or 'off'; a disagreement is a failed test, test_x[backends-agree]",
    ("results", "strict", "off"),
)
REPRO = Option(
    "repro",
    "on-failure|always|off",
    "on-failure",
    "Write reproducer bundles to .wasm-repro in rootdir, for 'pytest-wasmer repro': 'on-failure' (of each test that "
    "backends disagree on), 'always' (also of those that they agree on) or 'off'",
    ("on-failure", "always", "off"),
)
CACHE = Option(
    "cache",
    "on|off|refresh",
    "on",
    "Keep compiled modules for later runs: 'on', 'off' (compile in each run; the round trip happens in memory) or "
    "'refresh' (compile once more, and replace what is stored)",
    ("on", "off", "refresh"),
)
CACHE_DIR = Option(
    "cache-dir",
    "DIR",
    "",
    "Where compiled modules are kept; a relative path starts from rootdir",
    unset="in the user's cache directory",
)
NONE = "none"
ISOLATION = Option(
    "isolation",
    "process|none",
    "process",
    "Where native code runs: 'process' (an engine process per backend) or 'none' (in the test process: for "
    "profiling; a native crash ends the session)",
    ("process", NONE),
)
TIMEOUT = Option(
    "timeout",
    "SECONDS",
    "0",
    "A call that runs longer fails its test, and its engine process is replaced; the time in host functions does not "
    "count; 0: no limit",
)
UPDATE = Option(
    "update",
    "new|all|off",
    "off",
    "Store what tests with wasm_golden let be seen, where all backends agree: 'new' (also without a value: tests that "
    "have no golden) or 'all' (also what differs from its golden); refused on CI",
    ("new", "all", "off"),
    bare="new",
)
REPORT = Option(
    "report",
    "RUN.json",
    "",
    "Write what this run saw: tests, observations, times and environment, for pytest-wasmer compare",
    unset="none is written",
)
OPTIONS = (BACKENDS, ARTIFACTS, AGREE, REPRO, CACHE, CACHE_DIR, ISOLATION, TIMEOUT, UPDATE, REPORT)

# Sizes have no option.
CACHE_MAX_SIZE = Option(
    "cache-max-size", "SIZE", "2 GiB", "Size above which stored artifacts go, least recently used first"
)
CACHE_MAX_AGE = Option("cache-max-age", "DAYS", "90", "Days without use after which stored artifacts go")
MEMORY_LIMIT = Option(
    "memory-limit", "SIZE", "0", "What a test may take in each engine process, as Linux counts data; 0: no limit"
)
# Nor have paths of tools.
PYTHON = Option("python", "FILE", "", "The CPython 3.10 that runs the wheels")
INI_ONLY = (CACHE_MAX_SIZE, CACHE_MAX_AGE, MEMORY_LIMIT, PYTHON)

# What --markers shows; what they mean is in `markers`.
MARKER_LINES = (
    "wasm_backends(*names, exclude=(), reason=''): run on these Wasm backends only, or on all but the excluded ones.",
    "wasm_xfail(**{backend: reason}): expected to fail on these Wasm backends; a pass is a failure (strict).",
    "wasm_agree(level=None, memory=True, globals=True, host_calls=True, reason=''): what backends must agree on here.",
    "wasm_timeout(seconds=None, compile=None): how long a call, and a compile, may take here; 0: any time.",
    "wasm_memory_limit(size): what the test may take in each engine process, as 64 << 20 or '64 MiB'; 0: anything.",
)
MARKER_NAMES = frozenset(line.partition("(")[0] for line in MARKER_LINES)


class Setting:
    """A value and where it is from: an option, a variable, an ini file, or "default"."""

    def __init__(self, value: str, source: str) -> None:
        self.value = value
        self.source = source

    @property
    def given(self) -> bool:
        return self.source != "default"

    def __str__(self) -> str:
        return f"{self.value} (from {self.source})" if self.given else self.value


class Settings:
    """One of each option, under the name that follows its ini twin's `wasm_`."""

    backends: Setting
    artifacts: Setting
    agree: Setting
    repro: Setting
    cache: Setting
    cache_dir: Setting
    isolation: Setting
    timeout: Setting
    update: Setting
    report: Setting
    cache_max_size: Setting
    cache_max_age: Setting
    memory_limit: Setting
    python: Setting

    def __init__(self, config: pytest.Config) -> None:
        for option in (*OPTIONS, *INI_ONLY):
            setattr(self, option.ini.removeprefix("wasm_"), _read(config, option))

    @property
    def given(self) -> list[Setting]:
        """Those that somebody set for a run with Wasm; where tools are may be said once for all runs of a user."""
        return [setting for setting in vars(self).values() if setting.given and setting is not self.python]


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("wasmer", "WebAssembly tests on Wasmer's compilers (pytest-wasmer)")
    for option in OPTIONS:
        default = option.default or option.unset
        twins = f"{option.help}. Default: {default}. Also: {option.variable}, ini {option.ini}"
        bare = {"nargs": "?", "const": option.bare} if option.bare else {}
        group.addoption(option.flag, dest=option.ini, metavar=option.metavar, default=None, help=twins, **bare)
        parser.addini(option.ini, f"{option.flag} for every run", default=None)
    for option in INI_ONLY:
        default = option.default or "this one if it has them, else that of pytest-wasmer setup"
        text = f"{option.help} (default: {default}; also: {option.variable})"
        parser.addini(option.ini, text, default=None)


def read(config: pytest.Config) -> Settings:
    """Command line before environment before ini before default. Raises UsageError for a value that is no choice."""
    settings = Settings(config)
    if settings.given:
        from pytest_wasmer import checking

        checking.check(config, settings)
    return settings


def _read(config: pytest.Config, option: Option) -> Setting:
    setting = _first_given(config, option)
    if option.choices and setting.value not in option.choices:
        from pytest_wasmer.checking import unknown

        said = f"{where(option, setting)}: {unknown(setting.value, option.choices)} Known: {', '.join(option.choices)}."
        if option.bare:
            said += f"\nWithout a value it comes last on the command line, or before another option: {option.flag}."
        raise pytest.UsageError(said)
    return setting


def _first_given(config: pytest.Config, option: Option) -> Setting:
    given = config.getoption(option.ini, None)
    if given is not None:
        return Setting(given, option.flag)
    environment = from_environment(option)
    if environment.given:
        return environment
    ini = config.getini(option.ini)
    if ini:
        value = " ".join(ini) if isinstance(ini, list) else str(ini)
        return Setting(value, config.inipath.name if config.inipath else "ini")
    return Setting(option.default, "default")


def from_environment(option: Option) -> Setting:
    """What the variable says, or the default: all that counts outside pytest."""
    value = os.environ.get(option.variable)
    return Setting(value, option.variable) if value else Setting(option.default, "default")


def where(option: Option, setting: Setting) -> str:
    """How a message names the place of a bad value: "--wasm-backends", or "wasm_backends (from pytest.ini)"."""
    named = setting.source.startswith("--") or setting.source == option.variable
    return setting.source if named else f"{option.ini} (from {setting.source})"
