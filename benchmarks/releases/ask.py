"""python ask.py QUESTIONS.json: answer with the onnxruntime of the environment that runs this; nothing else is in it.

For every line on stdin, {"model": FILE, "answers": FILE}, the logits of all questions go to the second file, float32
one after the other, and a line of JSON to stdout: {} or {"error": ..., "stage": "load" or "run"}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnxruntime

PAST, PRESENT = "past_key_values.", "present."


def load(model: str) -> Any:
    """A session with onnxruntime's own defaults, but for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answer(session: Any, asked: dict[str, Any], out: IO[bytes]) -> None:
    """Write each question's logits [rows, length, vocabulary], the prompt in one pass and the rest token by token."""
    names = [port.name for port in session.get_outputs()]
    past = [port.name for port in session.get_inputs() if port.name.startswith(PAST)]
    for case in asked["cases"]:
        ids, mask = np.array(case["ids"], np.int64), np.array(case["mask"], np.int64)
        positions = np.where(mask == 1, np.cumsum(mask, axis=1) - 1, 1)
        cache = dict.fromkeys(past, np.zeros((len(ids), asked["heads"], 0, asked["width"]), np.float32))
        pieces = []
        for begin, end in [(0, case["prompt"]), *((at, at + 1) for at in range(case["prompt"], ids.shape[1]))]:
            own = {"input_ids": ids[:, begin:end], "position_ids": positions[:, begin:end]}
            feeds = {"attention_mask": mask[:, :end], **own, **cache}
            contiguous = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
            found = dict(zip(names, session.run(names, contiguous), strict=True))
            cache = {name: found[name.replace(PAST, PRESENT)] for name in past}
            pieces.append(found["logits"])
        np.concatenate(pieces, axis=1).astype("<f4").tofile(out)


def reply(line: str, asked: dict[str, Any]) -> dict[str, str]:
    """Answer one line."""
    order, stage = json.loads(line), "load"
    try:
        session = load(order["model"])
        stage = "run"
        with Path(order["answers"]).open("wb") as out:
            answer(session, asked, out)
    except Exception as error:  # noqa: BLE001  # whatever this release raises is its answer, and is reported
        return {"error": str(error), "stage": stage}
    return {}


if __name__ == "__main__":
    questions = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for request in sys.stdin:
        sys.stdout.write(f"{json.dumps(reply(request, questions))}\n")
        sys.stdout.flush()
