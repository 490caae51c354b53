"""The six benchmarks: what the card reports, which of the harness's own tasks they are, and where their data lies."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.canonical import digest, parse_json
from pipeline.errors import InputError, RecipeError
from pipeline.typed import did_you_mean

SUBJECT = "subject"  # MMLU's key: a task for each of its values
HINT = "name the directory that holds the benchmarks' JSON lines with --data (make: DATA=DIR)"


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. `task` is the harness's file below its tasks; `data` maps a split of that task to a file."""

    name: str
    title: str
    card: float  # the source card's accuracy, per cent
    task: str
    data: Mapping[str, str]
    batch: int  # sequences at a time: logits of a long one take 200 MB
    shots: int = 0
    keys: Mapping[str, Any] = field(default_factory=dict)  # of the task, in place of the harness's own

    @property
    def scored(self) -> str:
        """The file whose items are scored; the other, if there is one, holds the shots."""
        return next(iter(self.data.values()))


BENCHMARKS = (
    Benchmark(
        "mmlu",
        "MMLU, 5-shot",
        24.11,
        "mmlu/default/mmlu_{subject}.yaml",
        {"test": "mmlu_test.jsonl", "dev": "mmlu_dev.jsonl"},
        batch=1,
        shots=5,
    ),
    Benchmark(
        "hellaswag",
        "HellaSwag",
        27.03,
        "hellaswag/hellaswag.yaml",
        {"validation": "hellaswag.jsonl"},
        batch=4,
        # The data is what the harness's own process_docs makes of the original.
        keys={"process_docs": None, "doc_to_target": "{{gold}}", "training_split": None},
    ),
    Benchmark(
        "arc_challenge",
        "ARC-Challenge",
        21.67,
        "arc/arc_challenge.yaml",
        {"test": "arc_challenge_test.jsonl"},
        batch=4,
        keys={"training_split": None, "validation_split": None},
    ),
    Benchmark(
        "piqa", "PIQA", 57.29, "piqa/piqa.yaml", {"validation": "piqa.jsonl"}, batch=4, keys={"training_split": None}
    ),
    Benchmark(
        "winogrande",
        "WinoGrande",
        51.46,
        "winogrande/default.yaml",
        {"validation": "winogrande.jsonl"},
        batch=4,
        keys={"training_split": None},
    ),
    Benchmark(
        "truthfulqa_mc2",
        "TruthfulQA MC2",
        47.31,
        "truthfulqa/truthfulqa_mc2.yaml",
        {"validation": "truthfulqa.jsonl"},
        batch=1,
    ),
)
CARD_AVERAGE = 38.15


@dataclass(frozen=True)
class Unit:
    """Name what is evaluated and stored at once: a benchmark, or one subject of one; its items by split."""

    benchmark: Benchmark
    name: str
    include: str
    splits: Mapping[str, Sequence[Any]]

    @property
    def items(self) -> int:
        """Return how many items are scored."""
        return len(self.splits[next(iter(self.benchmark.data))])

    @property
    def digest(self) -> str:
        """Digest of the items, the shots and how they are asked."""
        return digest([self.name, self.include, self.benchmark.shots, self.benchmark.keys, self.splits])


def choose(names: Sequence[str] | None) -> tuple[Benchmark, ...]:
    """The benchmarks of these names, all without any; RecipeError for a name that is none."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    for name in names or ():
        if name not in known:
            raise RecipeError(f"unknown benchmark {name!r}", where="--only", hint=did_you_mean(name, known))
    return tuple(benchmark for name, benchmark in known.items() if not names or name in names)


def units(benchmark: Benchmark, data: Path, limit: int | None) -> list[Unit]:
    """A benchmark's units over its first `limit` items (of subjects in turn); InputError for data that is not there."""
    splits = {split: _read(data / file) for split, file in benchmark.data.items()}
    scored = next(iter(splits))
    if "{" not in benchmark.task:
        return [Unit(benchmark, benchmark.name, benchmark.task, {scored: splits[scored][:limit]})]
    by_split = {split: _by_subject(items, data / benchmark.data[split]) for split, items in splits.items()}
    taken = _in_turn(by_split[scored], limit)
    made = []
    for subject, items in taken.items():
        shots = {split: table.get(subject, []) for split, table in by_split.items() if split != scored}
        if any(len(found) < benchmark.shots for found in shots.values()):
            what = f"fewer than {benchmark.shots} shots for {subject}"
            raise InputError(what, where=data, hint="complete the file, or leave the benchmark out with --only")
        include = benchmark.task.format(subject=subject)
        made.append(Unit(benchmark, f"{benchmark.name}_{subject}", include, {scored: items, **shots}))
    return made


def write_task(unit: Unit, directory: Path, stock: Path) -> Path:
    """Write the unit's items and its task (the harness's own, but for the data) into a directory; the task's path."""
    files = {}
    for split, items in unit.splits.items():
        path = directory / f"{unit.name}-{split}.jsonl"
        path.write_text("".join(f"{json.dumps(item)}\n" for item in items), encoding="utf-8")
        files[split] = str(path)
    task = {
        "include": str(stock / unit.include),
        "task": unit.name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "num_fewshot": unit.benchmark.shots,
        **unit.benchmark.keys,
    }
    path = directory / f"{unit.name}.yaml"
    path.write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML
    return path


def _read(path: Path) -> list[Any]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint=HINT) from error
    items = [parse_json(line, f"{path}: line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not items or not all(isinstance(item, dict) for item in items):
        raise InputError("not JSON lines of objects", where=path, hint=HINT)
    for number, item in enumerate(items, 1):  # what one lacks, the harness would take for None, and fail anywhere
        if item.keys() != items[0].keys():
            raise InputError(
                f"item {number} has other keys than the first", where=path, hint="give every item the same keys"
            )
    return items


def _by_subject(items: Iterable[Any], where: Path) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {}
    for number, item in enumerate(items, 1):
        subject = item.get(SUBJECT)
        if not isinstance(subject, str) or not subject.replace("_", "").isalnum():
            raise InputError(f"line {number} has no {SUBJECT}", where=where, hint=HINT)
        table.setdefault(subject, []).append(item)
    return table


def _in_turn(table: Mapping[str, list[Any]], limit: int | None) -> dict[str, list[Any]]:
    """The first `limit` items, one subject after the other, then the second of each."""
    order: Iterator[tuple[str, Any]] = (
        (subject, item)
        for row in itertools.zip_longest(*table.values())
        for subject, item in zip(table, row, strict=True)
        if item is not None
    )
    taken: dict[str, list[Any]] = {}
    for subject, item in itertools.islice(order, limit):
        taken.setdefault(subject, []).append(item)
    return taken
