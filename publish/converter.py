"""Identify the program that made a tree, for card and provenance: the project's commit and its code's digest."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass

from pipeline.canonical import file_digest
from pipeline.plugins import ROOT, code_of

NAME = "PyTorch to ONNX, verified"
PACKAGES = (
    "pipeline",
    "model",
    "convert",
    "quantize",
    "verify",
    "publish",
)  # what takes part in making a published tree


@dataclass(frozen=True)
class Converter:
    """`commit` is None outside a git repository; `changed` says that files differ from that commit."""

    commit: str | None
    changed: bool
    code: str  # digest of the code of PACKAGES
    constraints: str  # SHA-256 of constraints.txt


@functools.cache
def converter() -> Converter:
    """This program, as it was when that was first asked: card and provenance say the same."""
    commit = _git("rev-parse", "--verify", "HEAD")
    changed = commit is not None and _git("status", "--porcelain", "--untracked-files=no", "--", *PACKAGES) != ""
    return Converter(commit, changed, code_of(*PACKAGES), file_digest(ROOT / "constraints.txt"))


def _git(*arguments: str) -> str | None:
    """Return what git says, or None where there is no git or no repository: an unpacked archive has neither."""
    try:
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)  # noqa: S607  # git is wherever PATH says, as for its user
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
