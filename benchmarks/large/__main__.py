"""python -m benchmarks.large [--build DIR]: what the stages cost for a model of more than 2 GB.

stdout carries a table in Markdown: wall time, and the memory of the largest process and of all of a stage's together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cost.usage import Usage, timed
from model import new_recipe
from pipeline import command
from pipeline.errors import CHECK_FAILED, PASSED
from pipeline.plugins import ROOT
from pipeline.variants import own_files

VARIANTS = ("fp32", "q4")
# Changes to the recipe that `convert --init` writes: a small model's tokenizer, few short texts, one level.
CHANGES = {
    "[source.expect]": "padded_vocabulary = true\n\n[source.expect]",
    'text = "text/': f'text = "{ROOT}/recipes/text/',
    "context = 1024": "context = 256",
    "[1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 513]": "[1, 33]",
    "[[5, 1, 18, 11], [64, 33]]": "[[5, 18]]",
    'levels = ["disable_all", "enable_all"]': 'levels = ["enable_all"]',
    "chunk = 512\nchunks = 16": "chunk = 256\nchunks = 2\n\n[verify.cache]\nlength = 20\nprompt = 9\nsplits = 1",
    "beam_prompts = 4": "beam_prompts = 1\nbeam_tokens = 4\nnew_tokens = 6\nprompts = [5]",
}
HEAD = ("stage", "wall s", "largest process, GB", "all processes, GB")


def main(argv: Sequence[str] | None) -> int:
    """Make the checkpoint unless it is there, run the stages, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description="Measure a model beyond 2 GB.")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="build directory (build)")
    home = (parser.parse_args(argv).build / "large").resolve()
    home.mkdir(parents=True, exist_ok=True)
    checkpoint, log = home / "checkpoint", home / "log.txt"
    if not (checkpoint / "README.md").is_file():  # its last file
        command.say("large: writing a random checkpoint")
        timed([sys.executable, "-m", "benchmarks.large.checkpoint", checkpoint], log)
    recipe = home / "large.toml"
    recipe.write_text(_recipe(checkpoint), encoding="utf-8")
    place = ("--build", home)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    stages = (
        ("convert", "convert", recipe, *place),
        ("quantize, q4", "quantize", recipe, *place, "--variant", "q4"),
        ("verify, fp32 and q4", "verify", recipe, *place, "--variant", *VARIANTS, "--no-runtimes", "--tolerances"),
    )
    for name, *words in stages:
        command.say(f"large: {name}")
        used = timed([sys.executable, "-m", *words], log.with_stem(words[0]), codes=(PASSED, CHECK_FAILED))
        print(f"| {' | '.join(_cells(name, used))} |", flush=True)
    print(f"\nBytes of graph and data: {'; '.join(_bytes(home / checkpoint.name, name) for name in VARIANTS)}")
    return PASSED


def _recipe(checkpoint: Path) -> str:
    found = new_recipe.describe(checkpoint, checkpoint.name, checkpoint, "apache-2.0")
    text = new_recipe.text_of(found)
    for old, new in CHANGES.items():
        if text.count(old) != 1:
            raise RuntimeError(f"model/recipe.toml.j2 has no single {old!r} any more")
        text = text.replace(old, new)
    return text


def _bytes(built: Path, variant: str) -> str:
    sizes = [path.stat().st_size for name in own_files(variant) if (path := built / variant / name).is_file()]
    return f"{variant} {' + '.join(f'{size:,}' for size in sizes)}"


def _cells(name: str, used: Usage) -> tuple[str, ...]:
    return name, f"{used.wall_s:.0f}", f"{used.peak / 1e9:.1f}", f"{used.together / 1e9:.1f}"


if __name__ == "__main__":
    raise SystemExit(command.run(main))
