"""One fixture per module, built on the factories of pytest-wasmer.

The factories live as long as the session, so these fixtures may have any scope: one instance per test file
and compiler is enough for modules that keep nothing between calls.
"""

from collections.abc import Callable

import pytest
from pytest_wasmer import Caller, Instance

from bindings import AsSha256, Blake2b, Gofmt, HashWasm, Lexer, Lz4

Load = Callable[..., Instance]


@pytest.fixture(scope="module")
def blake2b(wasm_instance: Load) -> Blake2b:
    return Blake2b(wasm_instance("modules/blake2b.wasm"))


@pytest.fixture(scope="module")
def crc32(wasm_instance: Load) -> HashWasm:
    return HashWasm(wasm_instance("modules/hash-crc32.wasm"), parameter=0xEDB88320, size=4)


@pytest.fixture(scope="module")
def sha256(wasm_instance: Load) -> HashWasm:
    return HashWasm(wasm_instance("modules/hash-sha256.wasm"), parameter=256, size=32)


@pytest.fixture(scope="module")
def blake3(wasm_instance: Load) -> HashWasm:
    return HashWasm(wasm_instance("modules/hash-blake3.wasm"), parameter=0, size=32, final_takes_size=True)


def abort(message: int, file: int, line: int, column: int) -> None:
    """What AssemblyScript calls when an assertion fails; the exception ends the test with this very text."""
    raise AssertionError(f"abort at {line}:{column}")


@pytest.fixture(scope="module")
def as_sha256(wasm_instance: Load) -> AsSha256:
    return AsSha256(wasm_instance("modules/as-sha256.wasm", imports={"env": {"abort": abort}}))


@pytest.fixture(scope="module")
def as_sha256_simd(wasm_instance: Load) -> AsSha256:
    return AsSha256(wasm_instance("modules/as-sha256-simd.wasm", imports={"env": {"abort": abort}}))


@pytest.fixture(scope="module")
def lz4(wasm_instance: Load) -> Lz4:
    strings: list[str] = []

    def string_new(caller: Caller, address: int, length: int) -> int:
        """The one import wasm-bindgen needs: keep a string for the host, return its handle."""
        strings.append(caller.memory.read(address, length).decode())
        return len(strings) - 1

    imports = {"__wbindgen_placeholder__": {"__wbindgen_string_new": string_new}}
    return Lz4(wasm_instance("modules/lz4.wasm", imports=imports), strings)


@pytest.fixture(scope="module")
def lexer(wasm_instance: Load) -> Lexer:
    return Lexer(wasm_instance("modules/es-module-lexer.wasm"))


@pytest.fixture(scope="module")
def gofmt(wasm_instance: Load) -> Gofmt:
    return Gofmt(wasm_instance("modules/gofmt.wasm"))
