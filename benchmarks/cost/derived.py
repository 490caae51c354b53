"""A recipe's text with a few values changed, so that the pipeline's own commands can be timed on chosen work."""

from __future__ import annotations

import json
import re
from pathlib import Path

from artifact.errors import RecipeError
from artifact.recipe import Recipe

BROWSER = "browser"
BYTES_PER_TOKEN = 8  # more than any tokenizer used here makes of English on average


def derive(recipe: Recipe, directory: Path, *, chunk: int, chunks: int, expect: bool = True) -> Path:
    """Write the recipe into `directory` with the check `divergence` alone, over `chunks` pieces of `chunk` tokens.

    Its text is the recipe's, repeated until it is long enough. Without `expect` any checkpoint is accepted.
    """
    text = recipe.text_path.read_text(encoding="utf-8")
    long = directory / "text.txt"
    long.write_text(text * (1 + BYTES_PER_TOKEN * chunk * chunks // len(text)), encoding="utf-8")
    made = recipe.path.read_text(encoding="utf-8")
    made = _replace(made, "verify", "text", _quoted(long), recipe)
    made = _replace(made, "verify", "checks", '["divergence"]', recipe)
    made = _replace(made, "verify.divergence", "chunk", str(chunk), recipe)
    made = _replace(made, "verify.divergence", "chunks", str(chunks), recipe)
    if not expect:
        made = re.sub(r"(?ms)^\[source\.expect\]\n.*?(?=^(?:\[|#))", "", made)
    path = directory / "recipe.toml"
    path.write_text(made, encoding="utf-8")
    return path


def without_browser(recipe: Recipe, directory: Path) -> Path:
    """Write the recipe into `directory` without the runtime that takes as long as all others together."""
    made = _replace(recipe.path.read_text(encoding="utf-8"), "verify", "text", _quoted(recipe.text_path), recipe)
    table = recipe.verify.runtimes
    for key, names in (("run", table.run), ("require", table.require)):
        if BROWSER in names:
            left = json.dumps([name for name in names if name != BROWSER])
            made = _replace(made, "verify.runtimes", key, left, recipe)
    path = directory / "without-browser.toml"
    path.write_text(made, encoding="utf-8")
    return path


def _quoted(path: Path) -> str:
    return json.dumps(str(path.resolve()))


def _replace(text: str, table: str, key: str, value: str, recipe: Recipe) -> str:
    """The text with one key of one table set to another value on its line; RecipeError when there is no such line."""
    pattern = rf"(?ms)(^\[{re.escape(table)}\]\n(?:(?!^\[).)*?^{key} = )[^\n]*"
    made, count = re.subn(pattern, lambda match: match.group(1) + value, text, count=1)
    if count != 1:
        hint = "write the key on a line of its own in its table, as recipes/gpt-2-70m.toml does"
        raise RecipeError(f"no line {key} = ...", where=f"{recipe.path}: {table}", hint=hint)
    return made
