"""Every unit with every model, one model in memory beside the reference, nothing scored twice."""

from __future__ import annotations

import importlib.metadata
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from benchmarks.accuracy import harness
from benchmarks.accuracy.adapter import HarnessModel, of_graph, of_reference
from benchmarks.accuracy.report import REFERENCE
from benchmarks.accuracy.scores import ItemScore, Scores, ScoreStore
from benchmarks.accuracy.suite import Unit
from pipeline import variants
from pipeline.artifact.store import Artifact
from pipeline.canonical import digest, file_digest
from pipeline.command import say
from pipeline.errors import InputError
from pipeline.plugins import ROOT
from verify.reference.model import Reference

SOURCE = "source"
CODE = (
    "benchmarks/accuracy/adapter.py",
    "benchmarks/accuracy/harness.py",
    "verify/candidate/session.py",
    "verify/reference/model.py",
)
LIBRARIES = ("torch", "transformers", "tokenizers", "onnxruntime", "lm-eval")  # whose versions may move a score


class Bar:
    """Progress on stderr: items of whole units, and the tokens of the unit that is being scored."""

    def __init__(self, model: str, items: int) -> None:
        # In a log (no terminal) one line every quarter of a minute says enough.
        interval = 0.2 if sys.stderr.isatty() else 15
        self._bar = tqdm(total=items, desc=f"accuracy: {model}", unit="item", mininterval=interval, disable=False)
        self._model, self._items, self._tokens = model, 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.update(self._items if kind is None else 0)
        self._bar.close()

    def unit(self, unit: Unit) -> None:
        """The unit before is done, this one begins."""
        self._bar.update(self._items)
        self._items = unit.items
        self._bar.set_description_str(f"accuracy: {self._model}: {unit.name}", refresh=False)

    def tokens(self, count: int) -> None:
        """So many more tokens have been through the model."""
        self._tokens += count
        self._bar.set_postfix_str(f"{self._tokens:,} tokens", refresh=False)
        self._bar.update(0)


class Scoring:
    """Scores units; what was scored before, by the same libraries on the same bytes, is read."""

    def __init__(self, artifacts: Mapping[str, Artifact], allow_pickle: bool, kept: Path, scratch: Path) -> None:  # noqa: FBT001  # the recipe's own flag, passed on
        self._artifacts = artifacts
        self._kept = ScoreStore(kept)
        self._harness = harness.Harness(scratch)
        self._versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        self._code = digest([file_digest(ROOT / path) for path in CODE])
        self._allow_pickle = allow_pickle
        self._reference: Reference | None = None

    def all(self, work: Sequence[Unit]) -> tuple[dict[str, dict[str, list[ItemScore]]], dict[str, float]]:
        """Items by model and benchmark, and the seconds that each model took."""
        scored: dict[str, dict[str, list[ItemScore]]] = {}
        seconds: dict[str, float] = {}
        for name, artifact in self._artifacts.items():
            model = REFERENCE if name == SOURCE else name
            made = self._of_model(model, artifact, work)
            scored[model], seconds[model] = {}, sum(scores.seconds for scores in made)
            for unit, scores in zip(work, made, strict=True):
                scored[model].setdefault(unit.benchmark.name, []).extend(scores.items)
        return scored, seconds

    def _of_model(self, model: str, artifact: Artifact, work: Sequence[Unit]) -> list[Scores]:
        made_by = {"code": self._code, "versions": self._versions}
        keys = [{"model": artifact.digest, "unit": unit.digest, **made_by} for unit in work]
        made = [self._kept.get(key) for key in keys]
        missing = [place for place, scores in enumerate(made) if scores is None]
        total = sum(unit.items for unit in work)
        say(f"{model}: {total} items, {sum(work[place].items for place in missing)} of them to score")
        if missing:
            adapter = self._load(model, artifact)
            with Bar(model, sum(work[place].items for place in missing)) as bar:
                adapter.watch = bar.tokens
                for place in missing:
                    bar.unit(work[place])
                    scores = self._harness.score(work[place], adapter, self._source.tokenizer)
                    require_numbers(scores, work[place], model, artifact.path)
                    self._kept.put(keys[place], scores)
                    made[place] = scores
        return [scores for scores in made if scores is not None]

    def _load(self, model: str, artifact: Artifact) -> HarnessModel:
        if model == REFERENCE:
            return of_reference(self._source)
        return of_graph(artifact.path / variants.model_file(model), self._source)

    @property
    def _source(self) -> Any:
        """The reference, loaded when first needed: its tokenizer and config serve every model."""
        if self._reference is None:
            self._reference = Reference(self._artifacts[SOURCE].path, allow_pickle=self._allow_pickle)
        return self._reference


def require_numbers(scores: Scores, unit: Unit, model: str, where: Path) -> None:
    """InputError where a model's log-likelihoods are NaN or infinite: no choice could be told from another."""
    if not all(math.isfinite(loglik) for item in scores.items for loglik in item.logliks):
        hint = f"run: make verify VARIANT={model}"
        raise InputError(f"log-likelihoods of {unit.name} are not numbers", where=where, hint=hint)
