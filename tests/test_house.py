"""Hold the house's rules that no linter knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT


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
