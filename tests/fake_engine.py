"""An engine without native code, for the tests of everything above engines: it can disagree, trap, crash and hang.

Its modules are valid Wasm binaries with one custom section, "fake", that says in JSON what the module is; `module`
makes them. Functions are lists of steps, one list for all backends or one per backend name::

    module(exports={
        "add": function("i32 i32 -> i32", ["sum"]),
        "odd": function("-> i32", {"fake-b": [["return", 43]], "*": [["return", 42]]}),
        "die": function("->", [["signal", "SIGSEGV"]]),
    })

Engine processes import this file by its directory: standard library and `pytest_wasmer.engines.api` only.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time

from pytest_wasmer.engines.api import Engine, OutOfBounds, Refused, Trapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pytest_wasmer.engines.api import Description, Native, Values

    Steps = list[Any] | dict[str, list[Any]]
    #: A value, or one per backend name ("*": all others).
    Own = Any

PAGE = 65536
NAMES = ("fake-a", "fake-b", "fake-c")


# Modules


def module(
    exports: dict[str, Any] | None = None,
    imports: Sequence[tuple[str, str, Any]] = (),
    *,
    name: str = "",
    start: Steps | None = None,
    refuse: dict[str, tuple[str, str]] | None = None,
    seconds: float = 0,
) -> bytes:
    """A Wasm binary for `FakeEngine`. `refuse`: per backend the stage and the reason of a refusal to compile.

    `seconds`: how long a compile takes.
    """
    content = {"name": name, "imports": list(imports), "exports": exports or {}, "start": start, "refuse": refuse or {}}
    content["seconds"] = seconds
    body = b"\x04fake" + json.dumps(content).encode()
    return b"\0asm\1\0\0\0\0" + leb128(len(body)) + body


def leb128(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def function(signature: str, steps: Steps) -> dict[str, Any]:
    """An export: "i32 i64 -> f32" and what it does."""
    params, _, results = signature.partition("->")
    return {"type": ["func", params.split(), results.split()], "steps": steps}


def memory(minimum: int = 1, maximum: int | None = None, *, data: Own = "", full: Own = False) -> dict[str, Any]:
    """`data` (hex) is in it from the start; `full`: it does not grow."""
    return {"type": ["memory", minimum, maximum], "data": data, "full": full}


def variable(value_type: str, value: Own, *, mutable: bool = True) -> dict[str, Any]:
    return {"type": ["global", value_type, mutable], "value": value}


def table(size: Own) -> dict[str, Any]:
    return {"type": ["table", "funcref", size if isinstance(size, int) else 0, None], "size": size}


# The engine


class FakeModule:
    def __init__(self, wasm: bytes) -> None:
        self.wasm = wasm
        self.content: dict[str, Any] = json.loads(wasm[wasm.index(b"\x04fake") + 5 :])
        for declared in self.content["exports"].values():
            declared["type"] = primitive(declared["type"])
        self.content["imports"] = [
            (module, field, primitive(type_)) for module, field, type_ in self.content["imports"]
        ]


class Linked(list):  # type: ignore[type-arg]
    """What an instance imports, and its exports."""

    def __init__(self, imports: Sequence[Native]) -> None:
        super().__init__(imports)
        self.exports: dict[str, Native] = {}


def primitive(type_: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(part) if isinstance(part, list) else part for part in type_)


class FakeEngine(Engine):
    """One fake backend; `argument` is its name. "broken" cannot be loaded, "noisy" prints while it loads."""

    def __init__(self, argument: str) -> None:
        if argument == "broken":
            raise ImportError("this fake library cannot be loaded")
        if argument == "suicidal":
            os.kill(os.getpid(), signal.SIGKILL)
        self.name = argument
        self.version = "fake 1.0"

    def compile(self, wasm: bytes) -> Native:
        found = FakeModule(wasm)
        refusal = found.content["refuse"].get(self.name) or found.content["refuse"].get("*")
        if refusal:
            raise Refused(*refusal)
        time.sleep(found.content["seconds"])
        return found

    def serialize(self, module: Native) -> bytes:
        return b"fake artifact of " + self.name.encode() + module.wasm

    def deserialize(self, artifact: bytes, joint: bool | None = None) -> Native:
        if not artifact.startswith(b"fake artifact of "):
            raise SystemError("not sealed")  # as a real engine, which segfaults
        return FakeModule(artifact[artifact.index(b"\0asm") :])

    def describe(self, module: Native) -> Description:
        exports = [(name, declared["type"]) for name, declared in module.content["exports"].items()]
        return (module.content["name"], module.content["imports"], exports)  # type: ignore[return-value]

    def custom_sections(self, module: Native, name: str) -> list[bytes]:
        return [module.wasm] if name == "fake" else []

    def instantiate(self, module: Native, imports: Sequence[Native]) -> tuple[Native, list[Native]]:
        linked = Linked(imports)
        if module.content["start"]:
            self._run(module.content["start"], (), linked)
        for name, declared in module.content["exports"].items():
            linked.exports[name] = self._extern(declared, linked)
        return object(), list(linked.exports.values())

    def _extern(self, declared: dict[str, Any], imports: Sequence[Native]) -> Native:
        kind, *rest = declared["type"]
        if kind == "func":
            return lambda values: self._run(declared["steps"], values, imports)
        if kind == "memory":
            content, maximum = self.make_memory(*rest)
            data = bytes.fromhex(self._own(declared.get("data", "")))
            content[: len(data)] = data
            return content, rest[0] if self._own(declared.get("full", False)) else maximum
        return [self._own(declared.get("value", declared.get("size")))]

    def _own(self, value: Own) -> Any:
        return value.get(self.name, value.get("*")) if isinstance(value, dict) else value

    def caller(self, function: Native, params: Sequence[str], results: Sequence[str]) -> Callable[[Values], Values]:
        return function  # type: ignore[no-any-return]

    def make_function(self, params: Sequence[str], results: Sequence[str], host: Callable[[Values], Values]) -> Native:
        return host

    def make_memory(self, minimum: int, maximum: int | None) -> Native:
        return bytearray(minimum * PAGE), maximum

    def make_global(self, value_type: str, mutable: bool, value: int) -> Native:
        return [value]

    def read(self, memory: Native, offset: int, length: int) -> bytes:
        if offset + length > len(memory[0]):
            raise OutOfBounds(len(memory[0]))
        return bytes(memory[0][offset : offset + length])

    def write(self, memory: Native, offset: int, data: bytes) -> None:
        if offset + len(data) > len(memory[0]):
            raise OutOfBounds(len(memory[0]))
        memory[0][offset : offset + len(data)] = data

    def memory_pages(self, memory: Native) -> int:
        return len(memory[0]) // PAGE

    def grow(self, memory: Native, pages: int) -> int:
        before = len(memory[0]) // PAGE
        if before + pages > (memory[1] if memory[1] is not None else PAGE):
            raise Refused("grow", "the fake memory is full")
        memory[0].extend(bytes(pages * PAGE))
        return before

    def get_global(self, variable: Native, value_type: str) -> int:
        return int(variable[0])

    def set_global(self, variable: Native, value_type: str, value: int) -> None:
        variable[0] = value

    def table_size(self, table: Native) -> int:
        return int(table[0])

    # Steps

    def _run(self, steps: Steps, values: Values, imports: Sequence[Native]) -> Values:
        if isinstance(steps, dict):
            steps = steps.get(self.name, steps.get("*", []))
        result: Values = ()
        for step in steps:
            name, *arguments = [step] if isinstance(step, str) else step
            result = getattr(self, f"_do_{name}")(values, imports, *arguments)
        return result

    def _do_return(self, values: Values, imports: Sequence[Native], *result: int) -> Values:
        return result

    def _do_pick(self, values: Values, imports: Linked, rows: list[dict[str, list[Any]]]) -> Values:
        """What to do for one first argument, and for all others: [{"7": steps, "*": steps}]."""
        (choices,) = rows
        return self._run(choices.get(str(values[0]), choices["*"]), values, imports)

    def _do_sum(self, values: Values, imports: Sequence[Native]) -> Values:
        return ((sum(values) + 2**31) % 2**32 - 2**31,)

    def _do_host(self, values: Values, imports: Sequence[Native], index: int = 0) -> Values:
        """Call an import with the own arguments, and return what it returns."""
        found: Values = imports[index](values)
        return found

    def _do_poke(self, values: Values, imports: Linked, name: str, offset: int, data: str) -> Values:
        """Write bytes (in hex) to an exported memory."""
        self.write(imports.exports[name], offset, bytes.fromhex(data))
        return ()

    def _do_grow(self, values: Values, imports: Linked, name: str, pages: int) -> Values:
        self.grow(imports.exports[name], pages)
        return ()

    def _do_set(self, values: Values, imports: Linked, name: str, value: int) -> Values:
        """Give an exported global, or a table's size, a value."""
        imports.exports[name][0] = value
        return ()

    def _do_host_with(self, values: Values, imports: Sequence[Native], index: int, *own: int) -> Values:
        """Call an import with these arguments."""
        found: Values = imports[index](own)
        return found

    def _do_stubborn(self, values: Values, imports: Sequence[Native]) -> Values:
        """As no Wasm can: call an import again after it has raised."""
        try:
            self._do_host(values, imports)
        except BaseException:
            return self._do_host(values, imports)
        return ()

    def _do_trap(self, values: Values, imports: Sequence[Native], kind: str) -> Values:
        raise Trapped(kind, f"{kind.lower()} on {self.name}")

    def _do_panic(self, values: Values, imports: Sequence[Native], text: str) -> Values:
        raise Refused("panic", text)

    def _do_raise(self, values: Values, imports: Sequence[Native], text: str) -> Values:
        """As the wheels do where Rust panics: no Exception."""
        raise PanicException(text)

    def _do_fail(self, values: Values, imports: Sequence[Native], text: str) -> Values:
        raise ValueError(text)

    def _do_print(self, values: Values, imports: Sequence[Native], text: str, descriptor: int = 1) -> Values:
        """As native code prints: to the descriptor, past Python."""
        os.write(descriptor, text.encode())
        return ()

    def _do_signal(self, values: Values, imports: Sequence[Native], name: str) -> Values:
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(10)
        return ()

    def _do_exit(self, values: Values, imports: Sequence[Native], status: int) -> Values:
        os._exit(status)

    def _do_hang(self, values: Values, imports: Sequence[Native]) -> Values:
        """An endless loop that, like native code, lets no Python signal handler run for long."""
        while True:
            sum(range(10**6))

    def _do_wait(self, values: Values, imports: Sequence[Native], seconds: float) -> Values:
        time.sleep(seconds)
        return ()

    def _do_eat(self, values: Values, imports: Sequence[Native], size: int) -> Values:
        """Take that many bytes of memory for the time of the call."""
        bytearray(size)
        return ()

    def _do_close(self, values: Values, imports: Sequence[Native]) -> Values:
        """Close the pipe and live on."""
        for descriptor in pipes():
            os.close(descriptor)
        time.sleep(60)
        return ()

    def _do_say(self, values: Values, imports: Sequence[Native], text: str) -> Values:
        """Write bytes (in hex) on the pipe to the test process, as a miscompiled module could."""
        for descriptor in pipes():
            try:
                os.write(descriptor, bytes.fromhex(text))
            except OSError:
                continue
        time.sleep(60)
        return ()


class PanicException(BaseException):
    """The wheels' has this name, too."""


def pipes() -> list[int]:
    """The descriptors above 2 that are pipes."""
    return [descriptor for descriptor in range(3, 32) if is_pipe(descriptor)]


def is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(__doc__)
