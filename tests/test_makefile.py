"""What make hands to the commands: every value is one word, whatever it holds. Nothing is run."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from tests.conftest import ROOT


def command(*arguments: str) -> list[str]:
    """The words of the last command that make would run."""
    make = shutil.which("make")
    assert make is not None, "make is one of the tools that the project needs"
    dry = subprocess.run(
        [make, "--no-print-directory", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return shlex.split(dry.stdout.splitlines()[-1])[1:]


@pytest.mark.parametrize("name", ["a b", "it's", "ünï", "$(HOME)".replace("$", "$$"), "a,b", '"'])
def test_a_path_is_one_word(name: str) -> None:
    given, wanted = name, name.replace("$$", "$")
    assert command("convert", f"RECIPE={given}", f"BUILD={given}", f"SOURCE={given}") == [
        *("-m", "convert", wanted, "--build", wanted, "--source", wanted)
    ]
    assert command("reconvert", f"RECIPE={given}") == ["-m", "reconvert", wanted, "--build", "build"]


def test_several_recipes_and_variants_are_several_words() -> None:
    assert command("reconvert", "RECIPES=a.toml b.toml", "WAY=pr")[2:5] == ["a.toml", "b.toml", "--pr"]
    assert command("quantize", "VARIANT=q8 q4")[-4:] == ["--variant", "q8", "--variant", "q4"]
