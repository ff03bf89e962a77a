"""Host functions whose annotations are objects: no `from __future__ import annotations` here."""

from pytest_wasmer import Caller


def write(caller: Caller, offset: int) -> int:
    caller.memory.write(offset, b"written")
    return offset


class Writer:
    def __call__(self, caller: Caller, offset: int) -> int:
        return write(caller, offset)

    def method(self, caller: Caller, offset: int) -> int:
        return write(caller, offset)

    @staticmethod
    def static(caller: Caller, offset: int) -> int:
        return write(caller, offset)
