"""What native code prints to descriptors 1 and 2 is shown: by whichever test it was printed in, or with the loss."""

from __future__ import annotations

import glob
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from pytest_wasmer.runtime.errors import EngineLost
from pytest_wasmer.runtime.process import OUTPUT_LIMIT, TAIL_LINES, _Capture
from tests.conftest import FAKES
from tests.fake_engine import function, module
from tests.runtime.workbench import FAKE, begin, instance, load, outputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pytest_wasmer.runtime.pool import EnginePool


def saying(*steps: Any) -> bytes:
    return module(exports={"say": function("->", list(steps)), "exit": function("->", [["exit", 3]])})


def test_both_descriptors_in_order(processes: EnginePool) -> None:
    made = instance(processes, saying(["print", "one\n", 1], ["print", "two\n", 2], ["print", "three", 1]))
    assert outputs(processes) == {}
    made.exports.say()
    assert outputs(processes) == {"fake-a": "one\ntwo\nthree"}
    assert outputs(processes) == {}
    made.exports.say()
    assert outputs(processes) == {"fake-a": "one\ntwo\nthree"}


def test_by_backend(processes: EnginePool) -> None:
    for spec in FAKES[:2]:
        load(processes, saying(["print", spec.name]), spec).instantiate().exports.say()
    processes.connection(FAKES[2])
    assert outputs(processes) == {"fake-a": "fake-a", "fake-b": "fake-b"}


def test_nothing_is_on_the_terminal(processes: EnginePool, capfd: pytest.CaptureFixture[str]) -> None:
    instance(processes, saying(["print", "one"], ["print", "two", 2])).exports.say()
    assert capfd.readouterr() == ("", "")


def test_what_is_printed_while_it_loads(processes: EnginePool, tmp_path: Any) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os\nfrom pytest_wasmer.engines.api import Engine\nos.write(1, b'hello\\n')\nprint('from Python')\n"
    )
    spec = FAKE._replace(engine="noisy:Engine", argument="", import_path=str(tmp_path))
    with pytest.raises(EngineLost) as lost:
        begin(processes, spec)
    assert lost.value.output.startswith("hello\nTraceback")


def test_the_last_part_of_very_much(processes: EnginePool) -> None:
    lines = [f"line {number}\n" for number in range(20_000)]
    made = instance(processes, saying(["print", "".join(lines)], ["print", "the end"]))
    made.exports.say()
    text = outputs(processes)["fake-a"]
    assert len(text) == OUTPUT_LIMIT
    assert ("".join(lines) + "the end").endswith(text)


def test_after_very_much_it_begins_anew(processes: EnginePool) -> None:
    """The file is cut, so that it does not grow for ever; who prints goes on at its new end."""
    loud = instance(processes, saying(["print", "x" * OUTPUT_LIMIT], ["print", "yy"]))
    made = instance(processes, saying(["print", "short"]))
    for _ in range(2):
        loud.exports.say()
        assert outputs(processes)["fake-a"] == "x" * (OUTPUT_LIMIT - 2) + "yy"
        made.exports.say()
        assert outputs(processes) == {"fake-a": "short"}


def test_it_survives_the_process(processes: EnginePool) -> None:
    made = instance(processes, saying(["print", "last words"]))
    made.exports.say()
    with pytest.raises(EngineLost) as lost:
        made.exports.exit()
    assert lost.value.output == "last words"
    # What the next process prints comes after.
    instance(processes, saying(["print", ", first words"])).exports.say()
    assert outputs(processes) == {"fake-a": "last words, first words"}


def test_what_was_shown_already_is_still_the_tail(processes: EnginePool) -> None:
    made = instance(processes, saying(["print", "a warning"]))
    made.exports.say()
    assert outputs(processes) == {"fake-a": "a warning"}
    with pytest.raises(EngineLost) as lost:
        made.exports.exit()
    assert lost.value.output == "a warning"
    assert outputs(processes) == {}


# The file


@pytest.fixture
def capture() -> Iterator[_Capture]:
    made = _Capture()
    yield made
    made.close()


def test_the_file_has_no_name() -> None:
    pattern = os.path.join(tempfile.gettempdir(), "pytest-wasmer-*")
    before = set(glob.glob(pattern))
    capture = _Capture()
    names = set(glob.glob(pattern)) - before
    os.write(capture.descriptor, b"text")
    assert capture.take() == "text"
    capture.close()
    assert names == set()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("\u00e4\u20ac".encode(), "\u00e4\u20ac"),
        (b"a\0b", "a\0b"),
        (b"\r\n", "\r\n"),
    ],
)
def test_bytes_of_any_kind(capture: _Capture, data: bytes, text: str) -> None:
    os.write(capture.descriptor, data)
    assert capture.take() == text


def test_a_tail_of_some_lines(capture: _Capture) -> None:
    assert capture.tail() == ""
    os.write(capture.descriptor, "".join(f"{number}\n" for number in range(TAIL_LINES + 5)).encode())
    assert capture.tail().splitlines() == [str(number) for number in range(5, TAIL_LINES + 5)]
    capture.take()
    assert len(capture.tail().splitlines()) == TAIL_LINES


def test_a_tail_of_one_endless_line(capture: _Capture) -> None:
    os.write(capture.descriptor, b"x" * (OUTPUT_LIMIT * 2))
    assert len(capture.tail()) == OUTPUT_LIMIT
