"""Faults in where an artifact comes from: caught before a check runs, by digests and manifests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.artifact.manifest import FILE_NAME
from pipeline.canonical import canonical_json
from pipeline.variants import model_file
from verify.faults.fault import BUILD, Subject, fault

QUANTIZED = ("fp16", "q8", "q4")


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest; in a new file, for the old one may have another name elsewhere."""
    table = json.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.unlink()
    path.write_bytes(canonical_json(table) + b"\n")


@fault(place=BUILD)
def of_another_source_commit(subject: Subject) -> None:
    """The source has been fetched again at another commit, the variants have not been made again."""
    _edit(subject.files / "source" / FILE_NAME, lambda table: table["source"].update(commit="0" * 40))


@fault(place=BUILD, variants=QUANTIZED)
def of_another_conversion(subject: Subject) -> None:
    """The fp32 graph has been made again by other code, the variant has not."""
    _edit(subject.files / "fp32" / FILE_NAME, lambda table: table.update(code="0" * 64))


@fault(place=BUILD)
def of_another_recipe(subject: Subject) -> None:
    """The variant was made by another recipe than the one that is now there."""
    _edit(subject.files / subject.variant / FILE_NAME, lambda table: table.update(recipe="0" * 64))


@fault(place=BUILD)
def one_byte_changed(subject: Subject) -> None:
    """One bit of the graph's file has flipped on the disk."""
    path = subject.files / subject.variant / model_file(subject.variant)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@fault(place=BUILD)
def file_lost(subject: Subject) -> None:
    """A file of the artifact is missing."""
    (subject.files / subject.variant / "tokenizer.json").unlink()


@fault(place=BUILD)
def file_added(subject: Subject) -> None:
    """A file has been put into the artifact that was not made with it."""
    (subject.files / subject.variant / "onnx" / "model_data.bin").write_bytes(b"")


@fault(place=BUILD, variants=("q8", "q4"))
def directory_of_another_variant(subject: Subject) -> None:
    """The directory of 4 bits holds the artifact of 8, or that of 8 bits the one of 4."""
    other = "q4" if subject.variant == "q8" else "q8"
    shutil.rmtree(subject.files / subject.variant)
    shutil.copytree(subject.clean / other, subject.files / subject.variant)


@fault(place=BUILD, variants=("q8", "q4"))
def half_written(subject: Subject) -> None:
    """The manifest is missing: the artifact was never finished."""
    (subject.files / subject.variant / FILE_NAME).unlink()
