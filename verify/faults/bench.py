"""Plant a fault in a copy of a variant and let the checks judge it: the code that judges users' files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import onnx

from model.architecture import Architecture
from model.contract import Dimensions
from model.landmarks import Landmarks
from pipeline import variants
from pipeline.artifact import lineage
from pipeline.errors import ArtifactError
from pipeline.recipe.recipe import Recipe
from verify.check import judging, load
from verify.faults import lastbits
from verify.faults.asking import Asking
from verify.faults.fault import BUILD, FILES, Fault, InapplicableError, Subject
from verify.reference.model import Reference
from verify.run_checks import Examination, Saved, Target
from verify.sandbox.worker import Worker
from verify.verdict import Result

(TWIN,) = judging("twin")
LINEAGE = "lineage"  # what refuses a faulty artifact before any check runs


def shorter(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The checks' settings, with less work where a check says how, so that hundreds of faults take minutes.

    What these catch, the whole checks catch too.
    """
    return {name: replace(table, **load(name).BRIEF) for name, table in settings.items()}


@dataclass(frozen=True)
class Ground:
    """State where faults are planted: copies of the clean variants in build/<name>."""

    home: Path
    dims: Dimensions
    unseen: tuple[int, ...]  # tokens that the verification text does not hold
    own: Architecture
    at: Landmarks

    @classmethod
    def of(cls, home: Path, reference: Reference, unseen: Iterable[int]) -> Self:
        """Return the ground of a recipe's variants and of the model that they were made from."""
        dims = replace(reference.dimensions, context=reference.context)  # beyond it no text would show a fault
        return cls(home, dims, tuple(unseen), reference.architecture, reference.landmarks)

    def clean(self, variant: str) -> Path:
        """The graph of a variant as it was made."""
        return self.home / variants.base(variant) / variants.model_file(variant)

    def plant(self, entry: Fault, variant: str, magnitude: float | None, place: Path) -> Path:
        """A copy with the fault, below `place`: the graph, or for a fault in the lineage the copied build/<name>.

        Copies, not second names of the same files: onnx reads no external data that has several.

        Raises InapplicableError when there is nothing to plant it in, or when planting it changes nothing.
        """
        shutil.rmtree(place, ignore_errors=True)
        if entry.place == BUILD:
            names = dict.fromkeys(["source", "fp32", variant])
            for name in names:
                shutil.copytree(self.home / name, place / name)
            entry.plant(self._subject(variant, onnx.ModelProto(), place), magnitude)
            return place
        graph = place / variants.model_file(variant)
        leave_out = shutil.ignore_patterns("*.onnx", "manifest.json")
        shutil.copytree(self.home / variants.base(variant), place, ignore=leave_out)
        model = onnx.ModelProto() if entry.place == FILES else onnx.load(self.clean(variant))
        before = model.SerializeToString(deterministic=True)
        entry.plant(self._subject(variant, model, place), magnitude)
        after = model.SerializeToString(deterministic=True)
        if entry.place == FILES:
            shutil.copyfile(self.clean(variant), graph)
        elif before == after:
            raise InapplicableError("harmless: not a bit of the graph changes")
        else:
            graph.write_bytes(after)
        return graph

    def _subject(self, variant: str, model: onnx.ModelProto, files: Path) -> Subject:
        return Subject(variant, model, files, self.dims, self.own, self.at, self.unseen, self.home)


@dataclass(frozen=True)
class Bench:
    """The ground, and the prepared cases to judge by. `scratch` is a directory below build/<name>."""

    recipe: Recipe
    examination: Examination
    cases: Sequence[Saved]
    ground: Ground
    scratch: Path
    halving: bool = True  # whether graded faults are planted ever smaller, to find the smallest that is caught
    asking: Asking | None = None  # None: no runtime is asked

    def ask(self, runtime: str, variant: str, path: Path) -> list[Result]:
        """Return what a runtime's answers about a graph come to."""
        if self.asking is None:
            raise RuntimeError(f"{runtime} is asked, and no questions are prepared")
        return self.asking.results(runtime, Target(variant, path))

    def judge(self, worker: Worker, entry: Fault, variant: str, path: Path, checks: Sequence[str]) -> dict[str, str]:
        """The checks among `checks` that catch what was planted, each with what it says."""
        if entry.place == BUILD:
            try:
                lineage.open_built(self.recipe, [variant], path)
            except ArtifactError as error:
                return {LINEAGE: error.what}
            return {}
        cases = [case for case in self.cases if case.check in checks]
        return failures(self.examination.judge(worker, Target(variant, path, self.ground.clean(variant)), cases))

    def judge_moved(self, worker: Worker, variant: str, seed: int) -> list[Result]:
        """Return what `twin` says of a copy with its last bits moved (`lastbits`), which is no fault."""
        clean = self.ground.clean(variant)
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            path = Path(place) / clean.name
            lastbits.write(clean, seed, path)
            return self.examination.judge(worker, Target(variant, path, clean), self.of(TWIN))

    def of(self, check: str) -> list[Saved]:
        """The cases of one check."""
        return [case for case in self.cases if case.check == check]


def failures(results: Sequence[Result]) -> dict[str, str]:
    """Each failed check, with the measure that is worst beyond its bound, or the error."""
    found: dict[str, str] = {}
    for result in results:
        if result.passed or result.not_run is not None:
            continue
        bad = [judged for judged in result.measures if not judged.passed]
        text = result.failure or ", ".join(f"{judged.measure.name} {judged.measure.value:.3g}" for judged in bad)
        found.setdefault(result.check, f"{text} at {result.level}")
    return found
