"""Hold the house's rules that no linter knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.engine import Engine
from pipeline import plugins
from quantize.scheme import Scheme
from tests.conftest import ROOT
from verify.check import Check
from verify.interop.runtime import Runtime

PACKAGES = ("benchmarks", "convert", "model", "pipeline", "publish", "quantize", "reconvert", "verify")


def imported(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, and every name that it imports from one, with dots."""
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_test_imports_another_test() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for name in imported(path):
            own = name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
            assert not own, f"{path.relative_to(ROOT)} imports {name}: move what both need to tests/support"


@pytest.mark.parametrize(
    ("folder", "contract"),
    [
        ("benchmarks/engines", Engine),
        ("quantize/schemes", Scheme),
        ("verify/checks", Check),
        ("verify/runtimes", Runtime),
    ],
)
def test_every_plug_in_has_what_its_contract_states(folder: str, contract: type) -> None:
    functions = (name for name, value in vars(contract).items() if callable(value) and not name.startswith("_"))
    parts = {*contract.__annotations__, *functions}
    for name in plugins.names(folder):
        module = import_module(f"{folder.replace('/', '.')}.{name}")
        missing = sorted(part for part in parts if not hasattr(module, part))
        assert not missing, f"{folder}/{name}: {missing}"


def test_docstrings_begin_with_a_verb_not_with_a_question() -> None:
    """Of functions, classes and modules, the tests' too."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    for folder in (*PACKAGES, "docs", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes(), path)):
                text = ast.get_docstring(node) if isinstance(node, kinds) else None
                first = (text or "-").split(maxsplit=1)[0]
                assert first not in ("What", "How", "Which", "Whether"), f"{path.relative_to(ROOT)}: {text}"


def test_no_two_classes_have_one_name() -> None:
    """But for those that the contracts of plug-ins state, of which every plug-in has its own."""
    found: dict[str, Path] = {}
    for folder in PACKAGES:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(path.read_bytes(), path).body:
                if isinstance(node, ast.ClassDef) and node.name not in ("Settings", "Options"):
                    other = found.setdefault(node.name, path)
                    assert other == path, f"{node.name}: in {other.relative_to(ROOT)} and {path.relative_to(ROOT)}"
