"""What can go wrong with native code, one row each: what the test that it costs says, where that is caused, who checks.

`python -m tests.faults.matrix` writes docs/faults.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from pytest_wasmer.runtime import wire

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
SPEAKS = "it sent nonsense and was killed: "


class Fault(NamedTuple):
    """Something that the fake engine does in the middle of a call, and what the test says then.

    `trace`: whether the engine process leaves a Python traceback. `survives`: whether it lives on.
    """

    steps: list[Any]
    said: str
    trace: bool = False
    survives: bool = False


def _crash(name: str) -> Fault:
    return Fault([["signal", name]], f"killed by {name}", trace=True)


FAULTS = {
    "a segmentation fault": _crash("SIGSEGV"),
    "an illegal instruction": _crash("SIGILL"),
    "an abort": _crash("SIGABRT"),
    "SIGKILL from outside": Fault([["signal", "SIGKILL"]], "killed by SIGKILL"),
    "an exit": Fault([["exit", 3]], "exit status 3"),
    "a closed pipe": Fault(["close"], "it closed its pipe and had to be killed"),
    "garbage on the pipe": Fault(
        [["say", (b"\xff" * 64).hex()]],
        f"{SPEAKS}a message of 4294967295 bytes is announced; the limit is {wire.BODY_LIMIT}",
    ),
    "half a message": Fault(
        [["say", wire.HEADER.pack(100, wire.DONE, 3).hex()]], f"{SPEAKS}a message stopped in the middle for 2 s"
    ),
    "an answer of 2 GB": Fault(
        [["say", wire.HEADER.pack(1 << 31, wire.DONE, 3).hex()]],
        f"{SPEAKS}a message of 2147483648 bytes is announced; the limit is {wire.BODY_LIMIT}",
    ),
    "a panic": Fault(
        [["panic", "index out of range"]], "panicked in 'f' of <bytes>: index out of range", survives=True
    ),
    "an exception that is no Exception": Fault(
        [["raise", "assertion failed"]], "failed: PanicException: assertion failed", trace=True, survives=True
    ),
    "an endless loop": Fault(["hang"], "ended after 0.3 s, the limit of a call (marker wasm_timeout)"),
}

ENGINE_PROCESS = "tests/faults/test_engine_process.py"
COMPILERS = "tests/faults/test_compilers.py"
ENDINGS = "tests/faults/test_endings.py"
LOSSES = "tests/integration/test_losses.py"
TIMEOUT = "tests/integration/test_option_timeout.py"
MEMORY = "tests/integration/test_setting_memory_limit.py"
ISOLATION = "tests/integration/test_option_isolation.py"
MISCOMPILES = "tests/agreement/test_miscompiles.py"
DOCTOR = "tests/cli/test_doctor.py"
REGISTRY = "tests/engines/test_registry.py"
FAKE, EACH = "fake engine", "singlepass, cranelift, llvm"


class Row(NamedTuple):
    """`checks` are tests: "file::name"."""

    fault: str
    said: str
    caused_on: str
    checks: tuple[str, ...]


def rows() -> list[Row]:
    in_a_call = (f"{ENGINE_PROCESS}::test_each_fault_is_one_failed_test",)
    return [
        *[Row(f"Engine process: {name}", fault.said, FAKE, in_a_call) for name, fault in FAULTS.items()],
        Row(
            "An import that kills",
            "killed by SIGKILL; it was serving nothing yet: it was starting",
            FAKE,
            (f"{ENGINE_PROCESS}::test_each_fault_is_one_failed_test",),
        ),
        Row("Killed from outside", "killed by SIGSEGV, SIGKILL", EACH, (f"{COMPILERS}::test_real_faults",)),
        Row(
            "A stack that is exhausted (the wheels' message has 19 MB)",
            "STACK_OVERFLOW, a trap, in 4 KB",
            EACH,
            (f"{COMPILERS}::test_real_faults",),
        ),
        Row(
            "A compiler that panics: nested calls, many parameters",
            "panicked while compiling",
            "singlepass",
            (f"{MISCOMPILES}::test_what_one_compiler_cannot_compile_fails_there",),
        ),
        Row(
            "A compile that does not end: i16x8.narrow of comparisons",
            "ended after 5 s, the limit of a compile",
            "llvm, with AVX-512VL",
            (f"{MISCOMPILES}::test_a_compile_that_does_not_end_fails_there",),
        ),
        Row("A slow compile", "ended after 0.2 s, the limit of a compile", FAKE, (f"{TIMEOUT}::test_what_it_limits",)),
        Row(
            "A guest that does not end, in a call or in its start",
            "ended after 0.2 s, the limit of a call",
            EACH,
            (f"{TIMEOUT}::test_endless_loops_on_each_compiler", f"{TIMEOUT}::test_all_at_once"),
        ),
        Row(
            "A host function that takes its time, a breakpoint in one, a suspended machine",
            "nothing: that time does not count",
            FAKE,
            (
                f"{TIMEOUT}::test_what_it_limits",
                f"{TIMEOUT}::test_with_a_breakpoint_in_a_host_function",
                "tests/runtime/test_watchdog.py::test_a_suspended_machine_fires_nothing",
            ),
        ),
        Row(
            "A guest that grows to 4 GiB",
            "nothing: or memory.grow fails, under wasm_memory_limit",
            EACH,
            (f"{COMPILERS}::test_real_faults", f"{MEMORY}::test_the_guest_sees_it_alike_on_each_backend"),
        ),
        Row(
            "Memory runs out, and the kernel kills",
            "killed by SIGKILL, by the kernel for want of memory",
            FAKE,
            (f"{MEMORY}::test_the_kernel_ends_an_engine_process", f"{MEMORY}::test_what_can_be_known"),
        ),
        Row(
            "Ctrl-C in a call, in a compile, twice",
            "KeyboardInterrupt: the session ends as always",
            FAKE,
            (
                f"{ENDINGS}::test_ctrl_c_ends_the_session",
                "tests/runtime/test_interrupts.py::test_every_line_of_a_call",
                "tests/runtime/test_interrupts.py::test_a_second_interrupt_while_the_first_is_dealt_with",
            ),
        ),
        Row(
            "SIGTERM or SIGKILL of the test process",
            "nothing; no engine process survives 2 s",
            f"{FAKE}; {EACH}",
            (
                f"{ENDINGS}::test_no_engine_process_survives",
                "tests/runtime/test_lifeline.py::test_one_in_an_endless_loop",
            ),
        ),
        Row(
            "SIGKILL of a worker of xdist",
            "worker 'gw0' crashed, by xdist; no engine process survives",
            FAKE,
            (f"{ENDINGS}::test_a_killed_worker_takes_its_engine_processes_along",),
        ),
        Row(
            "A crash of what a module- or session-scoped fixture holds",
            "one failed test; the fixture is made anew",
            FAKE,
            (f"{LOSSES}::test_fixtures_of_wider_scope_are_made_anew",),
        ),
        Row(
            "Three crashes in a row of one module",
            "it has cost 3 engine processes in a row",
            FAKE,
            (f"{LOSSES}::test_three_times_in_a_row",),
        ),
        Row(
            "--wasm-isolation=none: a crash, faulthandler, nested runs, limits",
            "the traceback, and the end of the session",
            EACH,
            (
                f"{ISOLATION}::test_a_crash_prints_its_traceback_and_ends",
                f"{ISOLATION}::test_traps_survive_nested_runs_and_the_end",
                f"{ISOLATION}::test_a_timeout_beside_it_on_the_command_line_is_refused",
                f"{ISOLATION}::test_limits_from_elsewhere_are_warned_of_once",
            ),
        ),
        Row(
            "No wheel, one wheel, mismatched versions, an import that aborts or hangs, missing libraries",
            "does not work: the reason, and the line to type",
            EACH,
            (f"{DOCTOR}::test_broken_installations", f"{REGISTRY}::test_a_probe_that_dies"),
        ),
        Row("No gcc", "does not work: the Dylib engine links with gcc", "*-dylib", (f"{DOCTOR}::test_without_gcc",)),
        Row("No write access anywhere", "nothing: it works", EACH, (f"{DOCTOR}::test_no_write_access",)),
    ]


def document() -> str:
    """As Markdown."""
    lines = [
        "# What happens when native code goes wrong",
        "",
        "Generated from `tests/faults/matrix.py` by `python -m tests.faults.matrix`: each row is checked by the tests",
        "that it names. Unless it says otherwise, a fault costs the test that caused it, and nothing else: the tests",
        "that follow pass, modules come back from the store, no process and no temporary file is left, also with `-x`",
        "and xdist.",
        "",
        "| fault | what the test says | caused on | checked by |",
        "|---|---|---|---|",
    ]
    for row in rows():
        checks = ", ".join(f"`{os.path.basename(check)}`" for check in row.checks)
        lines.append(f"| {row.fault} | {row.said} | {row.caused_on} | {checks} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
