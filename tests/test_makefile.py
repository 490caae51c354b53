"""Test what make hands to the commands: every value is one word, whatever it holds. No stage is run."""

from __future__ import annotations

import os
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


def test_python_keeps_its_byte_code_even_where_it_is_told_not_to() -> None:
    """Else every start would compile torch, which uv installs uncompiled."""
    shown = [*("make", "--no-print-directory", "-f", "Makefile", "--eval", "shown: ; @env"), "shown"]
    told = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(shown, cwd=ROOT, env=told, capture_output=True, text=True, check=True)
    assert "PYTHONDONTWRITEBYTECODE" not in found.stdout
    assert "HF_HUB_DISABLE_TELEMETRY=1" in found.stdout
