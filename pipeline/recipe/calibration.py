"""The recipe's table [calibration]: the texts that calibrated schemes see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.canonical import file_digest
from pipeline.errors import RecipeError
from pipeline.typed import build


@dataclass(frozen=True)
class CalibrationText:
    """The texts, relative to the recipe, that calibrated schemes see: `chunks` chunks of `chunk` tokens.

    A file named .jsonl has a text, a prompt or the messages of a conversation on each line; any other is one text.
    Of the chunks the share `sampled` is written by the model itself, by draws that `seed` decides; at 1 no text is
    needed.
    With `gradients` an error of a layer's output counts as much as it moves what the model says: it is run backwards
    over half of the chunks (quantize/gradients.py).
    """

    text: tuple[str, ...] | str = ()
    chunk: int = 512
    chunks: int = 32
    sampled: float = 0.0
    seed: int = 0
    gradients: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The files as the recipe names them."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def decisive(self) -> dict[str, Any]:
        """Return what decides a variant, but for the texts' content; a seed only where something is drawn."""
        stated = asdict(self)
        drawn = {"sampled": self.sampled, "gradients": self.gradients, "seed": self.sampled or self.gradients}
        return {key: value for key, value in stated.items() if drawn.get(key, True)}

    def paths(self, recipe: Path) -> tuple[Path, ...]:
        """The files. RecipeError when one is none."""
        paths = tuple(recipe.parent / name for name in self.names)
        for path in paths:
            if not path.is_file():
                hint = "name text files, relative to the recipe"
                raise RecipeError(f"no file {path}", where=f"{recipe}: calibration: text", hint=hint)
        return paths


def read_calibration(table: object, where: str) -> CalibrationText:
    """The table; RecipeError for a key or value that cannot be."""
    calibration = build(CalibrationText, table, where=where)
    if calibration.chunk < 2 or calibration.chunks < 1:
        raise RecipeError("chunk and chunks must be positive", where=where, hint="write chunk = 512, chunks = 32")
    if not 0 <= calibration.sampled <= 1 or calibration.seed < 0:
        hint = "write a share from 0 to 1, such as sampled = 0.5, and a seed of 0 or more"
        raise RecipeError("sampled or seed cannot be", where=where, hint=hint)
    if not all(calibration.names) or (not calibration.names and calibration.sampled < 1):
        hint = "name a text file, relative to the recipe; or let the model write all of it: sampled = 1"
        raise RecipeError("no text", where=f"{where}: text", hint=hint)
    return calibration


def text_digest(paths: Sequence[Path]) -> str | list[str]:
    """Return what tells calibration texts apart: of one its digest, of several a list."""
    found = [file_digest(path) for path in paths]
    return found[0] if len(found) == 1 else found
