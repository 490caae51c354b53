"""onnxruntime-genai on the directory as it is, with the genai_config.json that convert wrote.

A ragged batch is padded as its own tokenizer pads it: on the right. What the graph then sees is a mask with a hole.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from model import genai_config
from pipeline.canonical import read_json
from verify.checks.tokenizer import beside
from verify.interop.likeliest import Top, top_of
from verify.interop.runtime import Answers, Bounds, Missing, Running, Task
from verify.sandbox.isolated import isolated

PARTS = ("texts", "strings", "lengths")
UNREADABLE = "[\0\ud800-\udfff]"  # texts pass through C strings, which end at NUL, in UTF-8, which has no half pairs
IN_PLACE = True
SLOW = False


@dataclass(frozen=True)
class Settings:
    """None."""

    def check(self, where: str) -> None:
        """Nothing to refuse."""


def missing(settings: Settings) -> Missing | None:
    """The library."""
    return None if find_spec("onnxruntime_genai") else Missing("onnxruntime-genai", "make setup")


def unsupported(graph: Path, settings: Settings) -> Mapping[str, str]:
    """All of it, where another program converted the model and did not write the configuration."""
    home = beside(graph)
    there = home is not None and (home / genai_config.FILE).is_file()
    return {} if there else {"any": f"no {genai_config.FILE} lies beside the graph"}


def version(settings: Settings) -> str:
    """The library's."""
    return f"onnxruntime-genai {installed('onnxruntime-genai')}"


def running(settings: Settings, bounds: Bounds) -> Running:
    """See verify/interop/runtime.py."""
    return isolated(__name__, settings, bounds)


def answer(task: Task, settings: Settings) -> Answers:
    """Greedy text and the tokens of hard strings."""
    import onnxruntime_genai as library

    if not (task.repository / genai_config.FILE).is_file():
        return {}
    content = genai_config.renamed(read_json(task.repository / genai_config.FILE), task.variant)
    with tempfile.TemporaryDirectory() as scratch:
        model = library.Model(str(_directory(task, content, Path(scratch))))
        tokenizer = library.Tokenizer(model)
        # genai masks this token out of a prompt, wherever it stands; 0 is its default.
        pad = content["model"].get("pad_token_id", 0)
        room = task.questions["new_tokens"]
        groups = [
            [[int(token) for token in tokenizer.encode(text)] for text in group["texts"]]
            for group in task.groups("any")
        ]
        texts = [_greedy(library, model, rows, pad, room) for rows in groups]
        strings = [_encode(tokenizer, text) for text in task.questions["strings"]]
        forced = [_forced(library, model, question, pad) for question in task.lengths("any")]
        return {"any": {"texts": texts, "strings": strings, "lengths": forced}}


def _directory(task: Task, content: Mapping[str, Any], scratch: Path) -> Path:
    """The repository, with the configuration that the variant's own artifact has: it names one file."""
    for path in task.repository.iterdir():
        if path.name != genai_config.FILE:
            (scratch / path.name).symlink_to(path)
    (scratch / genai_config.FILE).write_text(json.dumps(content), encoding="utf-8")
    return scratch


def _greedy(library: Any, model: Any, rows: Sequence[Sequence[int]], pad: int, room: int) -> dict[str, Any]:
    longest = max(map(len, rows))
    generator = _begin(library, model, rows, pad, room)
    seen = []
    while not generator.is_done():
        seen.append(np.array(generator.get_logits(), np.float32)[:, -1])
        generator.generate_next_token()
    logits = np.stack(seen, axis=1)
    tokens = [generator.get_sequence(row)[longest:].tolist() for row in range(len(rows))]
    # An end token that ends the whole batch is chosen but not handed out.
    last = logits[:, -1].argmax(axis=-1).tolist()
    tokens = [[*row, chosen] if len(row) < logits.shape[1] else row for row, chosen in zip(tokens, last, strict=True)]
    return {"ids": rows, "tokens": tokens, "top": [top_of(row) for row in logits]}


def _forced(library: Any, model: Any, question: Mapping[str, Any], pad: int) -> list[Top]:
    """Of every position of each row the likeliest tokens: in one pass over the prompt, and as given tokens follow."""
    given = question["given"]
    prompts = [row[:-given] for row in question["rows"]]
    generator = _begin(library, model, prompts, pad, given)
    logits = np.array(generator.get_output("logits"), np.float32)
    top = [top_of(own[: len(prompt)]) for own, prompt in zip(logits, prompts, strict=True)]
    for step in range(-given, 0):
        choice = np.full((len(prompts), 1, logits.shape[-1]), np.finfo(np.float32).min, np.float32)
        for row, tokens in enumerate(question["rows"]):
            choice[row, 0, tokens[step]] = 0
        generator.set_logits(choice)
        generator.generate_next_token()
        for own, found in zip(top, np.array(generator.get_logits(), np.float32), strict=True):
            own.extend(top_of(found))
    return top


def _begin(library: Any, model: Any, rows: Sequence[Sequence[int]], pad: int, room: int) -> Any:
    """A generator that has read the prompts, padded on the right."""
    longest = max(map(len, rows))
    options = library.GeneratorParams(model)
    options.set_search_options(do_sample=False, max_length=longest + room, batch_size=len(rows))
    generator = library.Generator(model, options)
    generator.append_tokens(np.array([[*row, *[pad] * (longest - len(row))] for row in rows], np.int32))
    return generator


def _encode(tokenizer: Any, text: str) -> list[int] | None:
    """None for a text that its interface cannot take."""
    return None if re.search(UNREADABLE, text) else [int(token) for token in tokenizer.encode(text)]
