"""The command `pytest-wasmer`."""

from __future__ import annotations

import pytest

from pytest_wasmer import __version__, cli
from pytest_wasmer.engines.registry import Availability, Registry
from tests.conftest import needs_wheels


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pytest-wasmer {__version__}\n"


@needs_wheels
def test_doctor_where_all_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == (
        "singlepass  works  wasmer 1.1.0\ncranelift   works  wasmer 1.1.0\nllvm        works  wasmer 1.1.0\n"
    )


@pytest.mark.parametrize(("broken", "status"), [(["llvm"], 1), (["singlepass", "cranelift", "llvm"], 2)])
def test_doctor_says_why_not_and_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: list[str], status: int
) -> None:
    def availability(self: Registry, name: str) -> Availability:
        if name in broken:
            return Availability(self.spec(name), False, reason="it is broken", remedy=f"mend {name}")
        return Availability(self.spec(name), True, detail="wasmer 1.1.0")

    monkeypatch.setattr(Registry, "availability", availability)
    assert cli.main(["doctor"]) == status
    assert "llvm        does not work: it is broken\n            mend llvm\n" in capsys.readouterr().out
