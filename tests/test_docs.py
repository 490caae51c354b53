"""The documentation that is made by a command is what that command makes now."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_the_page_of_commands_is_current() -> None:
    command = [sys.executable, "docs/commands.py", "--check"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_every_command_is_on_the_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for path in ROOT.glob("[a-z]*/**/__main__.py"):
        if not {"build", "node_modules"} & {*path.parts}:
            assert f"## python -m {'.'.join(path.parent.relative_to(ROOT).parts)}\n" in page, path
