"""The embedded recipe with few inputs and no runtimes, for faults that any text shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import EMBEDDED, ROOT

SOURCE = ROOT / "recipes" / "embedded"
LLAMA, QWEN, NEOX = (ROOT / "recipes" / f"embedded-{name}.toml" for name in ("llama", "qwen", "neox"))


# An embedded model's recipe with shorter work and the same tolerances, so that a dozen faults take a minute.
SHORTER = {
    'path = "embedded': f'path = "{SOURCE}',
    'text = "text/': f'text = "{EMBEDDED.parent}/text/',
    "beam_prompts = 4": "beam_prompts = 1\nbeam_tokens = 6\nnew_tokens = 12\nprompts = [5, 9]",
    "chunks = 32": "chunks = 4\n\n[verify.cache]\nlength = 20\nprompt = 9\nsplits = 2",
}


def without_runtimes(text: str) -> str:
    """A recipe's text without its tables on runtimes."""
    return re.sub(r"^\[+verify\.runtimes.*\n(?:[^\[\n].*\n|\n)*", "", text, flags=re.MULTILINE)


def with_checks(text: str, checks: Sequence[str]) -> str:
    """A recipe's text with these checks only."""
    text, count = re.subn(r"^checks = .*$", f"checks = {json.dumps(list(checks))}", text, flags=re.MULTILINE)
    assert count == 1
    return text


def shorter_recipe(home: Path, recipe: Path = EMBEDDED, *, checks: Sequence[str] = ()) -> Path:
    """Write the shorter recipe; with these checks only, where any are named."""
    text = recipe.read_text()
    for old, new in SHORTER.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    text = without_runtimes(text)  # they take minutes
    if checks:
        text = with_checks(text, checks)
    path = home / "recipe.toml"
    path.write_text(text)
    return path
