"""What the JavaScript glue of each package does, in Python: thin classes over an instance."""

from collections.abc import Iterator
from typing import NamedTuple

from pytest_wasmer import Instance, Memory

PAGE = 65536


def ensure_size(memory: Memory, size: int) -> None:
    """Grow `memory` by whole pages until it holds `size` bytes."""
    if size > memory.size:
        memory.grow(-(-(size - memory.size) // PAGE))


class Blake2b:
    """blake2b-wasm: parameter block at 0, hash state at 64, input behind it."""

    STATE, INPUT = 64, 280

    def __init__(self, instance: Instance) -> None:
        self.exports, self.memory = instance.exports, instance.memory

    def digest(
        self, *chunks: bytes, size: int = 64, key: bytes = b"", salt: bytes = b"", person: bytes = b""
    ) -> bytes:
        parameters = bytes([size, len(key), 1, 1])
        self.memory.write(0, parameters.ljust(32, b"\0") + salt.ljust(16, b"\0") + person.ljust(16, b"\0"))
        self.exports.blake2b_init(self.STATE, size)
        if key:
            self._update(key.ljust(128, b"\0"))
        for chunk in chunks:
            self._update(chunk)
        self.exports.blake2b_final(self.STATE)
        return self.memory.read(self.STATE + 128, size)

    def _update(self, chunk: bytes) -> None:
        end = self.INPUT + len(chunk)
        ensure_size(self.memory, end)
        self.memory.write(self.INPUT, chunk)
        self.exports.blake2b_update(self.STATE, self.INPUT, end)


class HashWasm:
    """hash-wasm: one buffer of 16 KiB takes the input piece by piece and gives the digest.

    `parameter` is what the algorithm's `Hash_Init` wants: the polynomial, the bits of the digest,
    the length of the key.
    """

    BUFFER_SIZE = 16 * 1024

    def __init__(self, instance: Instance, parameter: int, size: int, final_takes_size: bool = False) -> None:
        self.exports, self.memory = instance.exports, instance.memory
        self.parameter, self.size, self.final_takes_size = parameter, size, final_takes_size
        self.buffer = self.exports.Hash_GetBuffer()

    def digest(self, *chunks: bytes, key: bytes = b"", size: int | None = None) -> bytes:
        size = self.size if size is None else size
        self.memory.write(self.buffer, key)
        self.exports.Hash_Init(len(key) or self.parameter)
        for chunk in chunks:
            for start in range(0, len(chunk), self.BUFFER_SIZE):
                piece = chunk[start : start + self.BUFFER_SIZE]
                self.memory.write(self.buffer, piece)
                self.exports.Hash_Update(len(piece))
        self.exports.Hash_Final(*([size] if self.final_takes_size else []))
        return self.memory.read(self.buffer, size)


class AsSha256:
    """as-sha256: addresses of the input and output areas and the input's size are exported globals."""

    def __init__(self, instance: Instance) -> None:
        self.exports, self.memory = instance.exports, instance.memory
        self.input, self.output = self.exports.input.value, self.exports.output.value
        self.input_length = self.exports.INPUT_LENGTH.value

    def digest(self, data: bytes) -> bytes:
        if len(data) <= self.input_length:
            self.memory.write(self.input, data)
            self.exports.digest(len(data))
        else:
            self.exports.init()
            for start in range(0, len(data), self.input_length):
                piece = data[start : start + self.input_length]
                self.memory.write(self.input, piece)
                self.exports.update(self.input, len(piece))
            self.exports.final(self.output)
        return self.memory.read(self.output, 32)

    def digest64(self, data: bytes) -> bytes:
        self.memory.write(self.input, data)
        self.exports.digest64(self.input, self.output)
        return self.memory.read(self.output, 32)

    def batch_of_4(self, blocks: list[bytes], interleaved: bool = False) -> list[bytes]:
        """Hash four blocks of 64 bytes at once, given one after the other or word by word."""
        if interleaved:
            words = (block[i : i + 4] for i in range(0, 64, 4) for block in blocks)
            self.memory.write(self.input, b"".join(words))
            self.exports.batchHash4HashObjectInputs(self.output)
        else:
            self.memory.write(self.input, b"".join(blocks))
            self.exports.batchHash4UintArray64s(self.output)
        return [self.memory.read(self.output + 32 * i, 32) for i in range(4)]


class Lz4Error(Exception):
    """The compressed data was refused; the text is the Rust error's."""


class Lz4:
    """lz4-wasm: Rust behind wasm-bindgen, results are (pointer, length) pairs on its shadow stack."""

    def __init__(self, instance: Instance, strings: list[str]) -> None:
        """`strings` is where the import `__wbindgen_string_new` puts the strings it makes."""
        self.instance, self.exports, self.memory = instance, instance.exports, instance.memory
        self.strings = strings

    def compress(self, data: bytes) -> bytes:
        pointer, length, _, _ = self._call("compress", data, results=2)
        return self._take(pointer, length)

    def decompress(self, data: bytes) -> bytes:
        pointer, length, error, failed = self._call("decompress", data, results=4)
        if failed:
            raise Lz4Error(self.strings[error])
        return self._take(pointer, length)

    def _call(self, name: str, data: bytes, results: int) -> list[int]:
        # Names by subscript: Python mangles attributes that begin with two underscores inside a class.
        frame = self.exports["__wbindgen_add_to_stack_pointer"](-16)
        try:
            pointer = self.exports["__wbindgen_malloc"](len(data))
            self.memory.write(pointer, data)
            self.exports[name](frame, pointer, len(data))
            return [self.memory.read_u32(frame + 4 * i) if i < results else 0 for i in range(4)]
        finally:
            self.exports["__wbindgen_add_to_stack_pointer"](16)

    def _take(self, pointer: int, length: int) -> bytes:
        data = self.memory.read(pointer, length)
        self.exports["__wbindgen_free"](pointer, length)
        return data


class LexerError(Exception):
    """The source is not an ECMAScript module; the index of the offending character is its argument."""


class Import(NamedTuple):
    text: str
    kind: int


STATIC, DYNAMIC, META = 1, 2, 3


class Lexer:
    """es-module-lexer: UTF-16 source in, positions of its imports and exports out."""

    def __init__(self, instance: Instance) -> None:
        self.exports, self.memory = instance.exports, instance.memory
        self.exports._initialize()

    def parse(self, source: str) -> tuple[list[Import], list[str]]:
        """The imports in order, each with its specifier's text, and the names exported."""
        text = source.encode("utf-16-le")
        units = len(text) // 2
        ensure_size(self.memory, self.exports["__heap_base"].value + 12 * (units + 1) + 16)
        self.memory.write(self.exports.sa(units), text)
        if not self.exports.parse():
            raise LexerError(self.exports.e())

        def cut(start: int, end: int) -> str:
            return text[2 * start : 2 * end].decode("utf-16-le")

        imports = [Import(cut(start, end), kind) for start, end, kind in self._imports()]
        exports = [cut(start, end) for start, end in self._exports()]
        return imports, exports

    def _imports(self) -> Iterator[tuple[int, int, int]]:
        while self.exports.ri():
            yield self.exports["is"](), self.exports.ie(), self.exports.it() & 15

    def _exports(self) -> Iterator[tuple[int, int]]:
        while self.exports.re():
            yield self.exports.es(), self.exports.ee()


class GoSyntaxError(Exception):
    """The text is not Go; the argument is the parser's message."""


class Gofmt:
    """gofmt: TinyGo with its garbage collector, text in and text out."""

    UNCHANGED, CHANGED, FAILED = 0, 1, 2

    def __init__(self, instance: Instance) -> None:
        self.exports, self.memory = instance.exports, instance.memory
        self.exports._initialize()

    def format(self, source: str) -> str:
        text = source.encode()
        try:
            self.memory.write(self.exports.alloc(len(text)), text)
            outcome = self.exports.format()
            if outcome == self.UNCHANGED:
                return source
            output = self.memory.read(self.exports.output_ptr(), self.exports.output_len()).decode()
        finally:
            self.exports.dispose()
        if outcome == self.FAILED:
            raise GoSyntaxError(output)
        return output
