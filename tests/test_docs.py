"""The documentation that is made by a command is what that command makes now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from docs.messages import refusals
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


def test_the_page_of_messages_is_current() -> None:
    command = [sys.executable, "-m", "docs.messages", "--check"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_no_refusal_is_a_librarys_text_alone_or_without_advice() -> None:
    """Test what is passed on from a refusal of our own (`error.what`) has been looked at where it is made."""
    bare = [entry for entry in refusals() if re.fullmatch(r"\{(str\()?error\)?\}", entry.what) or not entry.hint]
    assert bare == []
    assert len(refusals()) > 400


def test_the_list_of_messages_sees_errors_made_of_others_and_texts_made_before(tmp_path: Path) -> None:
    """Classes by their bases, constants of the module, and names that were given a text on a line above."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "one.py").write_text(
        'HINT = "look"\nclass Own(PipelineError): ...\n'
        'def f(x):\n    what = f"no {x}"\n    raise Own(what, hint=HINT)\n'
    )
    (found,) = refusals(tmp_path)
    assert (found.file, found.kind, found.what, found.hint) == ("model/one.py", "Own", "no {x}", "look")
