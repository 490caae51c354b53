"""python -m docs.messages [--check]: write docs/messages.md, every refusal of the project with its advice.

Read from the code: wherever an error of pipeline/errors.py, or one that is made of it, is built. `{...}` stands for
what is filled in. With `--check` nothing is written; exit code 1 says that the page is not current.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from docs.commands import ROOT, write

PAGE = ROOT / "docs" / "messages.md"
STAGES = ("pipeline", "model", "convert", "quantize", "verify", "publish", "reconvert", "benchmarks")
BASE = "PipelineError"
HEAD = """# Messages

Every refusal, by the file that makes it: what is wrong, and what to do. Each is printed with the place (`where`), none
with a traceback. Made by `python -m docs.messages`; a test holds it current. Exit codes: [README](../README.md).
"""

Names = Mapping[str, list[tuple[int, ast.expr]]]  # what a name is given, by line


@dataclass(frozen=True)
class Refusal:
    """One place that refuses: its file and line, the class of the error, the message and the advice as templates."""

    file: str
    line: int
    kind: str
    what: str
    hint: str


def main() -> int:
    """Write the page, or compare it."""
    return write(PAGE, page, "python -m docs.messages")


def page() -> str:
    """The page's text: a table for each file."""
    parts, last = [HEAD], ""
    for refusal in refusals():
        if refusal.file != last:
            last = refusal.file
            parts.append(f"\n## {last}\n\n| what | what to do |\n|---|---|\n")
        parts.append(f"| {_cell(refusal.what)} | {_cell(refusal.hint)} |\n")
    return "".join(parts)


def refusals(root: Path = ROOT) -> list[Refusal]:
    """Every refusal below a directory of stages, in the order of files and lines."""
    trees = {}
    for stage in STAGES:
        for path in sorted((root / stage).rglob("*.py")):
            if "node_modules" not in path.parts:
                trees[path.relative_to(root).as_posix()] = ast.parse(path.read_text(encoding="utf-8"))
    kinds = _kinds(list(trees.values()))
    return [refusal for file, tree in trees.items() for refusal in _in(file, tree, kinds)]


def _kinds(trees: list[ast.Module]) -> set[str]:
    """Names of the error classes that are made, near or far, of BASE."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    kinds: set[str] = {BASE}
    while True:
        more = {node.name for node in classes if {ast.unparse(base) for base in node.bases} & kinds}
        if more <= kinds:
            return kinds
        kinds |= more


def _in(file: str, tree: ast.Module, kinds: set[str]) -> Iterator[Refusal]:
    outside = {name: [(0, value) for _, value in given] for name, given in _names(tree.body).items()}
    seen = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = {**outside, **_names(list(ast.walk(function)))}
        for call in ast.walk(function):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in kinds):
                continue
            hint = next((word.value for word in call.keywords if word.arg == "hint"), None)
            if call.args and hint is not None and call.lineno not in seen:
                seen.add(call.lineno)
                what = _text(call.args[0], names, call.lineno)
                yield Refusal(file, call.lineno, call.func.id, what, _text(hint, names, call.lineno))


def _names(nodes: list[ast.stmt] | list[ast.AST]) -> Names:
    """Return what each name is given, by line: a text that is assembled before the error is built."""
    found: dict[str, list[tuple[int, ast.expr]]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append((node.lineno, node.value))
    return found


def _text(node: ast.expr, names: Names, line: int) -> str:
    """The template of a text, as it stands on this line."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(_text(value, names, line) for value in values)
        case ast.FormattedValue(value=value):
            return _text(value, names, line) if _is_text(value, names, line) else f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, names, line) + _text(right, names, line)
        case ast.IfExp(body=body, orelse=orelse):
            return f"{_text(body, names, line)} / {_text(orelse, names, line)}"
        case ast.Name(id=name) if _is_text(node, names, line):
            at, value = _given(names[name], line)
            return _text(value, names, at or 1)  # a module's own: one may stand in another
    return f"{{{ast.unparse(node)}}}"


def _given(entries: list[tuple[int, ast.expr]], line: int) -> tuple[int, ast.expr]:
    """Return what a name was given last before this line."""
    return max((entry for entry in entries if entry[0] < line), key=lambda entry: entry[0])


def _is_text(node: ast.expr, names: Names, line: int) -> bool:
    """Return whether a name stands for a text that was put together before this line."""
    if not isinstance(node, ast.Name) or all(at >= line for at, _ in names.get(node.id, [])):
        return False
    value = _given(names[node.id], line)[1]
    text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return text or isinstance(value, ast.JoinedStr | ast.IfExp | ast.BinOp)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


if __name__ == "__main__":
    sys.exit(main())
