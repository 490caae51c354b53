"""Find what one recipe has in the build directory: artifacts, and in `reconvert/` state, logs, older artifacts."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact.store import open_artifact
from pipeline.errors import ArtifactError, PipelineError
from pipeline.recipe.recipe import Recipe
from reconvert.origin import CARD, Origin

MADE_BY = "python -m reconvert"
PART = ".part-"  # begins the name of a copy that is not finished
REPORT = "report"


@dataclass(frozen=True)
class Folder:
    """`home` is build/<name>."""

    home: Path

    @property
    def state(self) -> Path:
        """The state between runs."""
        return self.home / "reconvert" / "state.json"

    @property
    def logs(self) -> Path:
        """Return the logs of the stages: `<time>-<key>-<task>.log`."""
        return self.home / "reconvert" / "logs"

    @property
    def kept(self) -> Path:
        """Verified artifacts, each a build directory of its own: `<time>-<key>/<name>/<variant>`."""
        return self.home / "reconvert" / "kept"

    @property
    def failed(self) -> Path:
        """Reports of what failed verification: `<time>-<key>/<name>/report`."""
        return self.home / "reconvert" / "failed"


def members(recipe: Recipe) -> list[str]:
    """Names of the artifacts that a whole conversion of the recipe has."""
    return ["source", "fp32", *recipe.variants, REPORT]


def verified(recipe: Recipe, home: Path) -> str:
    """Digest of the report, when every artifact is intact and this report, complete, has passed these very ones.

    Raises ArtifactError for anything else.
    """
    names = members(recipe)
    found = {name: open_artifact(home / name, made_by=MADE_BY) for name in names}
    report = found[REPORT].manifest
    judged = {name: artifact.digest for name, artifact in found.items() if name != REPORT}
    if report.facts.get("verdict") != "passed" or report.facts.get("complete") is not True or report.parents != judged:
        what = "the report is not a complete pass of the artifacts beside it"
        raise ArtifactError(what, where=home / REPORT, hint=f"run: {MADE_BY}")
    return found[REPORT].digest


def read_as_looked_up(folder: Folder, origin: Origin) -> None:
    """PipelineError if the source directory changed between computing the key and reading it.

    A commit cannot, and `convert` was told which.
    """
    if origin.commit is not None:
        return
    source = open_artifact(folder.home / "source", made_by=MADE_BY)
    if {entry.path: entry.sha256 for entry in source.manifest.files if entry.path != CARD} != dict(origin.content):
        hint = "the next run converts what is there then"
        raise PipelineError("the source changed while it was converted", where=source.path, hint=hint)


def keep(folder: Folder, names: list[str], target: Path) -> None:
    """Copy artifacts, by hard links where the file system has them, so that a later conversion does not take them away.

    Artifacts are replaced whole and never written to, so a link costs nothing and stays what it was.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(PART + target.name)
    shutil.rmtree(aside, ignore_errors=True)
    for name in names:
        shutil.copytree(folder.home / name, aside / folder.home.name / name, copy_function=_link)
    aside.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # no links on this file system, or too many of one file
        with contextlib.suppress(FileNotFoundError):
            Path(target).unlink()
        shutil.copyfile(source, target)
