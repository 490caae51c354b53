"""Transformers.js on Node, every variant by the dtype's own name: greedy text and the tokens of hard strings."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from pipeline.canonical import parse_json, read_json
from pipeline.errors import PipelineError
from verify.interop.likeliest import STATED
from verify.interop.runtime import Answers, Ask, Bounds, Missing, RuntimeFailure, Task
from verify.sandbox.launch import launch

PARTS = ("texts", "strings", "lengths")
UNREADABLE = None  # a string of JavaScript holds any text
IN_PLACE = False
SLOW = False
HERE = Path(__file__).resolve().parent
LIBRARY = HERE / "node_modules" / "@huggingface" / "transformers"


@dataclass(frozen=True)
class Settings:
    """The Node to run: a name on the path, or a file."""

    node: str = "node"

    def check(self, where: str) -> None:
        """Nothing to refuse: a Node that is not there is reported as missing."""


def missing(settings: Settings) -> Missing | None:
    """Node or the packages, at the version that package.json pins."""
    if shutil.which(settings.node) is None:
        return Missing(f"Node ({settings.node})", "apt-get install nodejs npm (version 20 or later), then make setup")
    return lacking(HERE)


def lacking(folder: Path) -> Missing | None:
    """Return what of a folder's package.json is not installed beside it at exactly the pinned version."""
    for name, wanted in read_json(folder / "package.json")["dependencies"].items():
        path = folder / "node_modules" / name / "package.json"
        if not path.is_file() or read_json(path)["version"] != wanted:
            return Missing(f"{name} {wanted}", "make setup (it needs npm)")
    return None


def unsupported(graph: Path, settings: Settings) -> Mapping[str, str]:
    """Nothing that is known."""
    return {}


def version(settings: Settings) -> str:
    """Of Node, of Transformers.js, and of the onnxruntime below it."""
    engine = read_json(HERE / "node_modules" / "onnxruntime-node" / "package.json")["version"]
    library = read_json(LIBRARY / "package.json")["version"]
    return f"@huggingface/transformers {library}, onnxruntime-node {engine}, Node {_node_version(settings.node)}"


@cache
def _node_version(node: str) -> str:
    result = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=60)
    return result.stdout.strip() or "of unknown version"


@contextlib.contextmanager
def running(settings: Settings, bounds: Bounds) -> Iterator[Ask]:
    """A new Node process for every variant."""
    with tempfile.TemporaryDirectory() as scratch:
        yield partial(_ask, settings, bounds, Path(scratch))


def _ask(settings: Settings, bounds: Bounds, scratch: Path, task: Task) -> Answers:
    place = {"home": f"{task.repository.parent}/", "model": task.repository.name, "dtype": task.variant}
    command: list[str | Path] = [settings.node, HERE / "node.mjs"]
    own = {"groups": task.groups("any"), "lengths": task.lengths("any")}
    return {"any": exchange(command, {**task.questions, **place, **own, "stated": STATED}, bounds, scratch)}


def exchange(
    command: Sequence[str | Path], questions: Mapping[str, Any], bounds: Bounds, scratch: Path
) -> dict[str, Any]:
    """Run a script that reads questions from one JSON file and writes answers to another."""
    asked, answered = scratch / "questions.json", scratch / "answers.json"
    # json.dumps writes ASCII: half a surrogate pair has no UTF-8, but an escape.
    asked.write_text(json.dumps(questions), encoding="utf-8")
    answered.unlink(missing_ok=True)
    launch([*command, asked, answered], bounds, {"NODE_ENV": "production"})
    try:
        answers: dict[str, Any] = parse_json(answered.read_bytes(), answered)
    except (OSError, PipelineError) as error:
        raise RuntimeFailure(f"its answers cannot be read: {error}") from error
    return answers
