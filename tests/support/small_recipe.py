"""Write a small recipe and read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.recipe.recipe import Recipe, read_recipe

RECIPE = """\
name = "tiny"
architecture = "gpt2"

[source]
repository = "someone/tiny"
expect = { layers = 2, tied = true, license = "mit" }

[variants]
fp16 = { steps = [{ scheme = "float16" }] }
q4f16 = { steps = [{ scheme = "rtn", bits = 4 }, { scheme = "float16" }] }

[verify]
text = "text/heldout.txt"
checks = ["structure", "logits"]
logits = { cases = 3 }

[tolerances.logits.max_abs]
reason = "rounding of float32"
fp32 = { max = 1e-4, measured = 2e-5 }
fp16 = { max = 0.2, measured = 0.05 }

[tolerances.logits.agreement]
reason = "argmax may flip on near ties"
fp16 = { min = 0.99, measured = 1 }
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


def read(path: Path, text: str) -> Recipe:
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def toml(value: object, *, top: bool = True) -> str:
    """TOML of a table, its inner tables inline."""
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)} = {toml(item, top=False)}" for key, item in value.items()]
        return "\n".join(pairs) if top else f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(toml(item, top=False) for item in value)}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
