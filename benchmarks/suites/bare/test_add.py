"""The same 300 tests by hand, with the bare wheels."""

import os
from importlib import import_module

import pytest
from wasmer import Instance, Module, Store, engine

ADD = '(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))'


@pytest.fixture(scope="module")
def add():
    name = os.environ["COMPILER"]
    if name == "llvm":
        from pytest_wasmer.engines import libtinfo  # without it the import below ends the process

        libtinfo.provide()
    compiler = import_module(f"wasmer_compiler_{name}").Compiler
    return Instance(Module(Store(engine.Universal(compiler)), ADD)).exports.add


@pytest.mark.parametrize("number", range(300))
def test_add(add, number):
    assert add(number, 1) == number + 1
