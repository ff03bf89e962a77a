"""es-module-lexer (C): imports and exports of JavaScript modules."""

import re
from pathlib import Path

import pytest

from bindings import DYNAMIC, META, STATIC, Import, Lexer, LexerError

REAL = Path(__file__).with_name("data") / "as-sha256-index.js"


def test_real_module(lexer: Lexer) -> None:
    """What a package ships, against two regular expressions that are good enough for this one file."""
    source = REAL.read_text()
    imports, exports = lexer.parse(source)
    assert imports == [Import(name, STATIC) for name in re.findall(r'^import .* from "(.*)";$', source, re.M)]
    assert len(imports) == 4
    listed = ", ".join(re.findall(r"^export \{ (.*) \};$", source, re.M)).split(", ")
    assert exports == listed + re.findall(r"^export (?:let|function) (\w+)", source, re.M)
    assert len(exports) == 17


IMPORTS = {
    "side-effect": ("import 'a';", [Import("a", STATIC)]),
    "names": ('import d, { x as y } from "./a.js"', [Import("./a.js", STATIC)]),
    "attributes": ("import j from './j.json' with { type: 'json' };", [Import("./j.json", STATIC)]),
    "dynamic": ("const m = await import(base + '/m.js');", [Import("base + '/m.js'", DYNAMIC)]),
    "meta": ("console.log(import.meta.url)", [Import("import.meta", META)]),
    "re-export": ("export * from 'a'; export { b } from 'b'", [Import("a", STATIC), Import("b", STATIC)]),
    "in-a-comment": ("// import 'a'\n/* import 'b' */ import 'c'", [Import("c", STATIC)]),
    "in-a-string": ("const s = \"import 'a'\", t = `import 'b' ${import('c')}`", [Import("'c'", DYNAMIC)]),
    "in-a-regex": ("const r = /import('a')[/]/g; const q = 4 / 2 / import('b')", [Import("'b'", DYNAMIC)]),
    "comments-between": ("import/**/a,{b}from/* x */'m'//", [Import("m", STATIC)]),
    "no-spaces": ("import*as n from'm';export*as o from'p'", [Import("m", STATIC), Import("p", STATIC)]),
    "nested": (
        "if (a) { b(function () { return { c: import('d').then(({ e }) => /}/.test(e)) } }) }",
        [Import("'d'", DYNAMIC)],
    ),
    "not-an-import": ("a.import('b'); class C { import() {} }; ({ import: 1 })", []),
    "not-ascii": ("import é from '../größe/🎉.js'; // ∂", [Import("../größe/🎉.js", STATIC)]),
}


@pytest.mark.parametrize(("source", "expected"), IMPORTS.values(), ids=IMPORTS.keys())
def test_imports(lexer: Lexer, source: str, expected: list[Import]) -> None:
    assert lexer.parse(source)[0] == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("export default class {}", ["default"]),
        ("export const a = 1; export async function b() {}", ["a", "b"]),
        ("const a = 1; export { a as 'any name', a as b }", ["'any name'", "b"]),
        ("export * as ns from 'm'", ["ns"]),
        ("module.exports = 1", []),
        ("export default async function f() {}", ["default"]),
        ("export function* g() { yield /[`'\"]/ } export class D extends C {}", ["g", "D"]),
        ("export { default as x, y as default } from 'm'", ["x", "default"]),
        ("export let p = { q: 1 }.q, r", ["p", "r"]),
        ("/* export let a */ `export let b`; // export let c\nexport let d", ["d"]),
    ],
)
def test_exports(lexer: Lexer, source: str, expected: list[str]) -> None:
    assert lexer.parse(source)[1] == expected


def test_long_source(lexer: Lexer) -> None:
    lines = [
        f"import {{ f{i} }} from './{i}.js'; export const g{i} = f{i} / 2 + `${{f{i}}}`;" for i in range(500)
    ]
    imports, exports = lexer.parse("\n".join(lines))
    assert imports == [Import(f"./{i}.js", STATIC) for i in range(500)]
    assert exports == [f"g{i}" for i in range(500)]


@pytest.mark.parametrize(
    ("source", "place"), [("export { a", 10), ("const s = 'open", 15), ("}", 0), ("`open ${a", 0)]
)
def test_errors_are_reported_with_their_place(lexer: Lexer, source: str, place: int) -> None:
    with pytest.raises(LexerError) as error:
        lexer.parse(source)
    assert error.value.args == (place,)
    assert lexer.parse("import 'a'")[0] == [Import("a", STATIC)]
