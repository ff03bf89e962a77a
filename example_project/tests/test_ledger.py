"""ledger.wat: a start function, host functions that call back, exceptions that cross Wasm."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_wasmer import Caller, Instance, Module, Trap, TrapKind


class Host:
    """The host's side of the contract: remembers what it was told, decides what it is asked."""

    def __init__(self, supply: int = 1_000_000) -> None:
        self.supply = supply
        self.events: list[tuple[int, int, int]] = []
        self.notes: list[tuple[str, int]] = []

    def initial_supply(self) -> int:
        return self.supply

    def authorize(self, account: int, amount: int) -> int:
        if account == 13:
            raise PermissionError(f"account {account} is frozen")
        return int(amount <= 500_000)

    def event(self, sender: int, receiver: int, amount: int) -> None:
        self.events.append((sender, receiver, amount))

    def note(self, caller: Caller, address: int, length: int) -> None:
        """Reads the note in the calling instance's memory, and calls back into it."""
        text = caller.memory.read(address, length).decode()
        self.notes.append((text, caller.exports.balance_of(0)))

    @property
    def imports(self) -> dict[str, dict[str, Callable[..., Any]]]:
        names = ("initial_supply", "authorize", "event", "note")
        return {"env": {name: getattr(self, name) for name in names}}


@pytest.fixture(scope="module")
def ledger_module(wasm_module: Callable[..., Module]) -> Module:
    return wasm_module("modules/ledger.wat")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def ledger(ledger_module: Module, host: Host) -> Instance:
    """A new instance for each test, of a module compiled once."""
    return ledger_module.instantiate(host.imports)


def balances(ledger: Instance) -> list[int]:
    return list(ledger.exports.balance_of.map([(account,) for account in range(16)]))


def test_start_function_mints_the_supply(ledger: Instance, host: Host) -> None:
    assert ledger.exports.supply.value == 1_000_000
    assert balances(ledger) == [1_000_000] + [0] * 15
    assert host.events == [(-1, 0, 1_000_000)]


def test_start_function_refuses_a_negative_supply(ledger_module: Module) -> None:
    with pytest.raises(Trap) as trapped:
        ledger_module.instantiate(Host(supply=-1).imports)
    assert trapped.value.kind is TrapKind.UNREACHABLE


def test_exception_in_the_start_function(ledger_module: Module) -> None:
    class Broken(Host):
        def initial_supply(self) -> int:
            raise LookupError("no configuration")

    with pytest.raises(LookupError, match="no configuration"):
        ledger_module.instantiate(Broken().imports)


def test_transfer(ledger: Instance, host: Host) -> None:
    note = "für Kaffee ☕".encode()
    ledger.memory.write(ledger.exports.NOTE.value, note)
    assert ledger.exports.transfer(0, 7, 250, len(note)) == 1
    assert balances(ledger)[0] == 999_750
    assert ledger.memory.read_u64(8 * 7) == 250
    assert host.events[1:] == [(0, 7, 250)]
    assert host.notes == [("für Kaffee ☕", 999_750)]


def test_refused_by_the_host(ledger: Instance, host: Host) -> None:
    assert ledger.exports.transfer(0, 1, 500_001, 0) == 0
    assert balances(ledger)[0] == 1_000_000
    assert host.events[1:] == []


def test_exception_of_the_host_reaches_the_test(ledger: Instance) -> None:
    ledger.exports.transfer(0, 13, 10, 0)
    before = balances(ledger)
    with pytest.raises(PermissionError, match="account 13 is frozen"):
        ledger.exports.transfer(13, 1, 10, 0)
    assert balances(ledger) == before


@pytest.mark.parametrize(
    ("sender", "receiver", "amount"), [(0, 1, 1_000_001), (1, 0, 1), (0, 1, -1), (16, 0, 0), (-1, 0, 0)]
)
def test_impossible_transfers_trap(ledger: Instance, sender: int, receiver: int, amount: int) -> None:
    with pytest.raises(Trap) as trapped:
        ledger.exports.transfer(sender, receiver, amount, 0)
    assert trapped.value.kind is TrapKind.UNREACHABLE
    assert balances(ledger) == [1_000_000] + [0] * 15


def test_memory_and_globals_from_outside(ledger: Instance) -> None:
    ledger.memory.write_u64(8 * 3, 2**63 - 1)
    assert ledger.exports.balance_of(3) == 2**63 - 1
    ledger.exports.supply.value = -5
    assert ledger.exports.supply.value == -5
    assert ledger.memory.grow(1) == 1
    assert ledger.memory.size == 2 * 65536


def test_instances_share_nothing(ledger_module: Module) -> None:
    one, two = (ledger_module.instantiate(Host(supply).imports) for supply in (1, 2))
    one.exports.transfer(0, 1, 1, 0)
    assert (balances(one)[:2], balances(two)[:2]) == ([0, 1], [2, 0])
