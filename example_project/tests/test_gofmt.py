"""gofmt: the Go formatter compiled by TinyGo, with garbage collector, maps, interfaces and text tables."""

import re
from pathlib import Path

import pytest

from bindings import Gofmt, GoSyntaxError

SAMPLE = Path(__file__).with_name("data") / "sample.go"

HELLO = """package main

import "fmt"

func main() {
	fmt.Println("Hello, 世界")
}
"""

EXAMPLES = {
    "already-formatted": (HELLO, HELLO),
    "hello": ('package main\nimport "fmt"\nfunc main(){fmt.Println("Hello, 世界")\n}\n', HELLO),
    "sorted-imports": ('package p\nimport ("os";"fmt")\n', 'package p\n\nimport (\n\t"fmt"\n\t"os"\n)\n'),
    "aligned-struct": (
        "package p\ntype T struct{\na int // one\nlonger string // two\n}\n",
        "package p\n\ntype T struct {\n\ta      int    // one\n\tlonger string // two\n}\n",
    ),
    "spacing-by-precedence": (
        "package p\nvar x = a+b*c - ( d<<2|e )\nvar y = s[i : j+1]\n",
        "package p\n\nvar x = a + b*c - (d<<2 | e)\nvar y = s[i : j+1]\n",
    ),
    "generics": (
        "package p\nfunc Map[T,U any](x []T,f func(T)U)[]U{return nil}\n",
        "package p\n\nfunc Map[T, U any](x []T, f func(T) U) []U { return nil }\n",
    ),
}


@pytest.mark.parametrize(("source", "expected"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_format(gofmt: Gofmt, source: str, expected: str) -> None:
    assert gofmt.format(source) == expected


@pytest.mark.parametrize("indentation", ["", " ", "\t\t\t"])
def test_indentation_is_restored(gofmt: Gofmt, indentation: str) -> None:
    source = SAMPLE.read_text()
    assert gofmt.format(re.sub("^[ \t]*", indentation, source, flags=re.M)) == source


def test_long_file(gofmt: Gofmt) -> None:
    """Enough text for the garbage collector to have work."""
    ugly = "func f(a,b int)int{if a>b{return a-b}\nreturn   b*a}\n"
    pretty = "\nfunc f(a, b int) int {\n\tif a > b {\n\t\treturn a - b\n\t}\n\treturn b * a\n}\n"
    formatted = gofmt.format("package p\n\n" + f"{ugly}\n" * 200)
    assert formatted == "package p\n" + pretty * 200
    assert gofmt.format(formatted) == formatted


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package main\nfunc {", "2:6: expected 'IDENT', found '{'"),
        ("package main\nvar s = 'ab'", "2:9: illegal rune literal"),
    ],
)
def test_syntax_errors(gofmt: Gofmt, source: str, message: str) -> None:
    with pytest.raises(GoSyntaxError) as error:
        gofmt.format(source)
    assert message in str(error.value)
    assert gofmt.format(HELLO) == HELLO
