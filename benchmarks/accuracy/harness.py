"""lm-evaluation-harness, without the network: tasks from local data, every item's log-likelihoods back."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import time
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from benchmarks.accuracy.scores import ItemScore, Scores, right_choice
from benchmarks.accuracy.suite import Unit, write_task
from pipeline.errors import InputError

DISTRIBUTION = "lm-eval"


def version() -> str:
    """The harness's version; InputError when it is not installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        hint = "run: make setup EXTRAS=accuracy"
        raise InputError("lm-evaluation-harness is not installed", where=DISTRIBUTION, hint=hint) from error


def isolate(cache: Path) -> None:
    """No network, and the data sets' cache below a directory of ours. Before the harness is imported."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    os.environ["HF_DATASETS_CACHE"] = str(cache)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TQDM_DISABLE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


class Harness:
    """Scores units with one model at a time. Tasks are made once, and used for every model."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._tasks: dict[str, Any] = {}

    def score(self, unit: Unit, model: Any, tokenizer: Any) -> Scores:
        """Every item's scores; `model` is an Adapter."""
        from lm_eval import evaluate
        from lm_eval.models.huggingface import HFLM

        begin = time.perf_counter()
        language_model = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=unit.benchmark.batch)
        # Its own bars, two for every unit, ignore TQDM_DISABLE; Run draws one for all.
        language_model.loglikelihood = functools.partial(language_model.loglikelihood, disable_tqdm=True)
        task = self._task(unit)
        try:
            result = evaluate(language_model, task, bootstrap_iters=0, log_samples=True)
        except TemplateError as error:  # loading looks at the first items only
            raise _unreadable(unit, error) from error
        samples = sorted(result["samples"][unit.name], key=lambda sample: sample["doc_id"])
        if len(samples) != unit.items:
            raise InputError(
                f"{len(samples)} of {unit.items} items scored",
                where=unit.name,
                hint="give every item the fields of the benchmark's own data",
            )
        return Scores(tuple(map(_item, samples)), time.perf_counter() - begin)

    def _task(self, unit: Unit) -> Any:
        import lm_eval.tasks

        if unit.name not in self._tasks:
            stock = Path(lm_eval.tasks.__file__).parent
            path = write_task(unit, self._scratch, stock)
            try:
                self._tasks[unit.name] = lm_eval.tasks.TaskManager(include_defaults=False).load([str(path)])
            except (OSError, ValueError, KeyError, TypeError, TemplateError) as error:
                raise _unreadable(unit, error) from error
        return self._tasks[unit.name]


def _unreadable(unit: Unit, error: Exception) -> InputError:
    hint = "name data of the benchmark's own form with --data"
    return InputError(f"the harness cannot read it: {error}", where=unit.benchmark.scored, hint=hint)


def _item(sample: Any) -> ItemScore:
    logliks = tuple(float(loglik) for loglik, _ in sample["filtered_resps"])
    return ItemScore(logliks, right_choice(sample, logliks), float(sample["acc"]))
