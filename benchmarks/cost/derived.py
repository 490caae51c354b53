"""A recipe's text with a few values changed, so that the pipeline's own commands can be timed on chosen work."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.runtimes import runtime_of

BROWSER = "browser"
HINT = "set verify.text to a UTF-8 text file, relative to the recipe"
BYTES_PER_TOKEN = 8  # more than any tokenizer used here makes of English on average


def derive(recipe: Recipe, directory: Path, *, chunk: int, chunks: int, expect: bool = True) -> Path:
    """Write the recipe into `directory` with the check `divergence` alone, over `chunks` pieces of `chunk` tokens.

    Its text is the recipe's, repeated until it is long enough. Without `expect` any checkpoint is accepted. RecipeError
    for a text that cannot be read or is empty.
    """
    try:
        text = recipe.text_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"text cannot be read: {error}", where=recipe.text_path, hint=HINT) from error
    if not text:
        raise RecipeError("the text is empty", where=recipe.text_path, hint=HINT)
    long = directory / "text.txt"
    long.write_text(text * (1 + BYTES_PER_TOKEN * chunk * chunks // len(text)), encoding="utf-8")
    made = recipe.path.read_text(encoding="utf-8")
    made = _replace(made, "verify", "text", _quoted(long), recipe)
    made = _replace(made, "verify", "checks", '["divergence"]', recipe)
    made = _replace(made, "verify.divergence", "chunk", str(chunk), recipe)
    made = _replace(made, "verify.divergence", "chunks", str(chunks), recipe)
    if not expect:
        made = re.sub(r"(?ms)^\[source\.expect\]\n.*?(?=^(?:\[|#))", "", made)
    _keep_calibration(recipe, directory)
    path = directory / "recipe.toml"
    path.write_text(made, encoding="utf-8")
    return path


def without_browser(recipe: Recipe, directory: Path) -> Path:
    """Write the recipe into `directory` without the runtime that takes as long as all others together."""
    made = _replace(recipe.path.read_text(encoding="utf-8"), "verify", "text", _quoted(recipe.text_path), recipe)
    table = recipe.verify.runtimes
    for key, names in (("run", table.run), ("require", table.require)):
        if BROWSER in map(runtime_of, names):
            left = json.dumps([name for name in names if runtime_of(name) != BROWSER])
            made = _replace(made, "verify.runtimes", key, left, recipe)
    _keep_calibration(recipe, directory)
    path = directory / "without-browser.toml"
    path.write_text(made, encoding="utf-8")
    return path


def _quoted(path: Path) -> str:
    return json.dumps(str(path.resolve()))


def _keep_calibration(recipe: Recipe, directory: Path) -> None:
    """The calibration texts where the derived recipe names them: names and contents are part of a variant's digest."""
    if recipe.calibration is None:
        return
    copies = (directory / name for name in recipe.calibration.names)
    for source, copy in zip(recipe.calibration_paths, copies, strict=True):
        if source.resolve() == copy.resolve():  # an absolute path
            continue
        if not copy.resolve().is_relative_to(directory.resolve()):
            hint = "keep the text beside the recipe or below it, or write an absolute path"
            raise RecipeError("the text is above the recipe", where=f"{recipe.path}: calibration: text", hint=hint)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def _replace(text: str, table: str, key: str, value: str, recipe: Recipe) -> str:
    """The text with one key of one table set to another value on its line; RecipeError when there is no such line."""
    pattern = rf"(?ms)(^\[{re.escape(table)}\]\n(?:(?!^\[).)*?^{key} = )[^\n]*"
    made, count = re.subn(pattern, lambda match: match.group(1) + value, text, count=1)
    if count != 1:
        hint = "write the key on a line of its own in its table, as recipes/gpt-2-70m.toml does"
        raise RecipeError(f"no line {key} = ...", where=f"{recipe.path}: {table}", hint=hint)
    return made
