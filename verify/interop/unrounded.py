"""Ask a runtime about the graph without its roundings, and hold it to what onnxruntime says here about the same graph.

A quantized file may differ from PyTorch by its quantization, and what one provider computes wrongly hides in that.
A comparison with onnxruntime on the same file would show it, but where activations are rounded two right programs
differ already, by flipped roundings (docs/decisions/0022). Without them they differ by the order of sums alone. So a
runtime with kernels of its own has the part "unrounded": it reads the shortest prompt alone, and the tokens after it,
in the file without its roundings, and is held to the bounds of float32. One pass of many tokens and some of one run
every kernel; other lengths are asked of fp32, whose graph is the same but for the products. A file that rounds nothing
is not asked about twice: of it all answers are compared.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.recipe.runtimes import Extent
from pipeline.variants import model_file
from verify.candidate.session import Candidate, positions_of
from verify.candidate.unrounded import unrounded
from verify.check import Measure
from verify.interop import figures
from verify.interop.lengths import Lengths
from verify.interop.likeliest import best_of
from verify.interop.runtime import Answers, Ask, Bounds, RuntimeFailure, Task
from verify.run_checks import Target
from verify.sandbox.isolated import isolated

PART = figures.UNROUNDED
((CHECK, FIGURE),) = figures.FIGURES[PART]
LEVEL = "enable_all"


@dataclass(frozen=True)
class Unrounded:
    """One candidate without its roundings: the repository that holds it, and onnxruntime's answers about it here."""

    repository: Path | None  # None: the file itself rounds nothing
    answers: Lengths | RuntimeFailure  # about the prompts that are asked

    def task(self, variant: str, asked: Mapping[str, Any], extent: Callable[[str], Extent]) -> Task:
        """Return the questions: the shortest prompt alone, no batch, no text. Only for a file that rounds."""
        if self.repository is None:
            raise ValueError(f"{variant} rounds nothing")
        questions = {key: value for key, value in asked.items() if key != "batch"}
        fewer = {"groups": [], "strings": [], "lengths": asked["lengths"][:1]}
        return Task(self.repository, variant, {**questions, **fewer}, extent)


def prepare(targets: Sequence[Target], repository: Path, lengths: Lengths, bounds: Bounds) -> dict[str, Unrounded]:
    """Replace a repository's candidates by their copies without roundings; onnxruntime's answers about each variant.

    The answers, float32 [context, vocabulary] of each, lie beside the repository: they may be larger than the model.
    """
    with isolated(__name__, LEVEL, bounds) as ask:
        return {target.variant: _prepared(target, repository, lengths, ask) for target in targets}


def _prepared(target: Target, repository: Path, lengths: Lengths, ask: Ask) -> Unrounded:
    rounds = _rewrite(target, repository / model_file(target.variant))
    place, prompts = (repository, lengths.prompts[:1]) if rounds else (None, lengths.prompts)
    try:
        found = ask(Task(repository, target.variant, {"text": lengths.text}, _everything))["any"]
    except RuntimeFailure as failure:
        return Unrounded(place, failure)
    if isinstance(found, RuntimeFailure):
        return Unrounded(place, found)
    stored = repository.with_name(f"{target.variant}.npy")
    np.save(stored, found["logits"])
    logits = np.load(stored, mmap_mode="r")
    return Unrounded(place, replace(lengths, logits=logits, best=best_of(logits), prompts=prompts))


def _rewrite(target: Target, path: Path) -> bool:
    """Replace the link to a candidate by its copy without roundings; False, and nothing is written, if it has none."""
    model = unrounded(target.path)
    if model is None:
        return False
    path.unlink()
    path.write_bytes(model.SerializeToString())
    for data in target.data:  # onnxruntime reads no data that lies elsewhere than the file, be it by a link
        place = path.parent / data.relative_to(target.path.parent)
        place.unlink(missing_ok=True)
        shutil.copyfile(data, place)
    return True


def answer(task: Task, level: str) -> Answers:
    """Read the whole text in one pass: `logits` float32 [context, vocabulary]. Runs in a process of its own."""
    ids = np.asarray(task.questions["text"], np.int64)[None]
    mask = np.ones_like(ids)
    candidate = Candidate(task.repository / model_file(task.variant), level)
    return {"any": {"logits": candidate.forward(ids, mask, positions_of(mask)).logits[0]}}


def _everything(_configuration: str) -> Extent:
    return Extent()


def measure(own: Unrounded, answers: Answers | RuntimeFailure, configuration: str, asked: Extent) -> Measure:
    """Return the largest difference of a pass, or of the steps after it.

    Raises RuntimeFailure where the runtime or onnxruntime had no answers, and what a malformed answer raises.
    """
    if isinstance(answers, RuntimeFailure):
        raise answers
    parts = answers[configuration]
    if isinstance(parts, RuntimeFailure):
        raise parts
    if isinstance(own.answers, RuntimeFailure):
        raise own.answers
    found = [entry for entries in own.answers.measures(parts["lengths"], asked).values() for entry in entries]
    worst = max(found, key=lambda entry: entry.value)
    detail = f"beside onnxruntime on this machine, same graph; {worst.detail}"
    return replace(worst, name=FIGURE, compared=sum(entry.compared for entry in found), detail=detail)
