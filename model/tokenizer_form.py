"""State what a tokenizer.json comes to, whatever its spelling: files of one form give the same ids for every text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.canonical import parse_json, read_json
from pipeline.errors import InputError

FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")  # how an added token is found in a text
STEPS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
PARTS = ("added_tokens", *STEPS, "model", "truncation", "padding")
# Of the step ByteLevel: what moves offsets alone, and what only its use as another step reads.
IDLE = {"pre_tokenizer": {"trim_offsets"}, "decoder": {"trim_offsets", "add_prefix_space", "use_regex"}}
# The same, each alone, as no step at all: the whole text as one sequence.
WHOLE = [{"Sequence": {"id": "A", "type_id": 0}}]
LIMIT = 2**24  # no id of a token of a model that fits a single ONNX file comes near

Form = dict[str, Any]


def read(path: Path) -> Form:
    """The form of a tokenizer.json; InputError names the part that the tokenizers library cannot read."""
    return _of(read_json(path), path)


def form(content: str | bytes, where: object) -> Form:
    """The form of a tokenizer.json's content; raises what `read` does."""
    return _of(parse_json(content, where), where)


def merges(path: Path) -> list[str]:
    """The merges that a merges.txt states, each a text, in their order, as transformers' Python tokenizers read it.

    Lines end as in every text file that Python opens, and at none of the characters that `str.splitlines` takes for
    ends besides (U+2028 among them).
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [line for line in lines if line and not line.startswith("#version")]


def require_ids(vocabulary: Any, where: object) -> None:
    """Raise InputError for an id that no vocabulary has: the tokenizers library, writing it, would count up to it."""
    for token, index in vocabulary.items() if isinstance(vocabulary, dict) else ():
        if type(index) is int and index >= LIMIT:
            hint = "give it the number of its row in the model's embedding, or remove the token"
            raise InputError(f"token {token!r} has id {index}, more than any vocabulary has", where=where, hint=hint)


def _of(table: Any, where: object) -> Form:
    """The form of a parsed table.

    Keys: `vocabulary` (id of each token, added ones as the file states them), `merges` (each a text, in their order),
    `scores` (of a Unigram's tokens), `added` (FLAGS of each added token), `settings` (other keys of the model that are
    set), and one for each of STEPS.
    """
    if not isinstance(table, dict) or not isinstance(table.get("model"), dict):
        hint = "restore the file: AutoTokenizer's save_pretrained writes it"
        raise InputError("not a tokenizer's table: key model is missing", where=where, hint=hint)
    require_ids(table["model"].get("vocab"), where)
    known = json.loads(_spelled(table, where))  # in the library's own spelling, with all defaults
    model = known["model"]
    vocabulary = model["vocab"]
    scores = [] if isinstance(vocabulary, dict) else [score for _, score in vocabulary]
    ids = vocabulary if isinstance(vocabulary, dict) else {token: index for index, (token, _) in enumerate(vocabulary)}
    added = {token["content"]: token for token in table.get("added_tokens") or ()}
    return {
        "vocabulary": {**ids, **{text: token["id"] for text, token in added.items()}},
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges", ())],
        "scores": scores,
        "added": {text: [bool(token.get(flag)) for flag in FLAGS] for text, token in sorted(added.items())},
        "settings": {key: value for key, value in model.items() if value and key not in {"vocab", "merges"}},
        **{step: _step(known.get(step), step) for step in STEPS},
    }


def _spelled(table: Mapping[str, Any], where: object) -> str:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(table)).to_str()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and a panic in Rust, which is none
        raise _unreadable(table, where, error) from error


def _unreadable(table: Mapping[str, Any], where: object, error: BaseException) -> InputError:
    """Name the part at fault: the one that a table with nothing else in it cannot be read with."""
    from importlib.metadata import version

    own = f"tokenizers {version('tokenizers')}"
    empty = {"model": {"type": "BPE", "vocab": {}, "merges": []}}
    part = next(
        (part for part in PARTS if table.get(part) is not None and not _reads({**empty, part: table[part]})), None
    )
    if part is None:
        hint = "save it again by AutoTokenizer's save_pretrained, with the library that made it"
        return InputError(f"{own} cannot read it: {error}", where=where, hint=hint)
    value = table[part]
    kind = f" of type {value['type']!r}" if isinstance(value, dict) and isinstance(value.get("type"), str) else ""
    hint = (
        f"if a newer library wrote the file, save the tokenizer again in a form that {own} knows; "
        "if the file was edited, undo that"
    )
    return InputError(f"key {part}{kind} cannot be read by {own}: {error}", where=where, hint=hint)


def _reads(table: Mapping[str, Any]) -> bool:
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_str(json.dumps(table))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001  # as above
        return False
    return True


def _step(value: Any, step: str) -> Any:
    """A step without what changes neither ids nor texts; None for one that does nothing."""
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind == "Sequence":
        (key,) = (key for key in value if key != "type")
        inner = [part for part in (_step(entry, step) for entry in value[key]) if part is not None]
        return inner[0] if len(inner) == 1 else {"type": kind, key: inner} if inner else None
    if step == "post_processor":
        idle = kind == "ByteLevel" or (kind == "TemplateProcessing" and value.get("single") == WHOLE)
        return None if idle else value
    return {key: entry for key, entry in value.items() if key not in IDLE.get(step, ()) or kind != "ByteLevel"}
