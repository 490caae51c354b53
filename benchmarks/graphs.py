"""Refuse graphs named on the command line that are no files, or that onnxruntime does not run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import InputError


def require_files(paths: Iterable[Path]) -> None:
    """Raise InputError for the first path that is no file."""
    for path in paths:
        if not path.is_file():
            raise InputError("not a file", where=path, hint="name files that are there, each an .onnx")


def shown(path: Path) -> str:
    """Return a file's name with the directories that tell variants apart: name, variant and folder."""
    return "/".join(path.parts[-4:])


def unusable(error: Exception, path: Path) -> InputError:
    """Return what is said of a file that does not load, or is no decoder with past key values."""
    hint = "name a decoder's graph with past key values, such as build/<name>/<variant>/onnx/*.onnx"
    return InputError(f"onnxruntime cannot run it: {error}", where=path, hint=hint)
