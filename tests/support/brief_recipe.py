"""The embedded recipe with the checks of a model's texts alone, at one level and with little to do."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.short_recipe import SOURCE, shorter_recipe


def brief_recipe(home: Path, *, checks: tuple[str, ...] = ("logits", "generation", "divergence")) -> Path:
    """Write it, as a recipe that what is built by the embedded one is also made by; a variant takes some seconds."""
    path = shorter_recipe(home, checks=checks)
    text = path.read_text().replace(f'path = "{SOURCE}"', 'path = "embedded"')
    for name, value in {
        "levels": '["enable_all"]',
        "lengths": "[1, 9]",
        "batches": "[[5, 9]]",
    }.items():
        text, count = re.subn(rf"^{name} = .*", f"{name} = {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    path.write_text(text)
    return path
