"""Judge what generation_config.json and genai_config.json tell their loaders, by what transformers reads of the source.

What is written is not the source's file letter by letter: model.generation says what is left out. Settings that sample
are the source's, or are all left out, so that a text is decoded greedily and every validation passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import genai_config, generation, guard
from model.config_checks import TOKENS
from model.generation import FILE, SAMPLING
from pipeline.canonical import read_json

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

# They change which token is chosen, and are the caller's if both sides leave them out.
DECODING = ("do_sample", *SAMPLING)
FREE = {*generation.LEFT_OUT, *TOKENS, *DECODING, "use_cache"}

Facts = Mapping[str, Any]


def stated(reference: Reference) -> dict[str, Any]:
    """Return what the source's settings come to, as transformers has read them."""
    table = generation.stated(reference.directory)
    dims, tokenizer = reference.dimensions, reference.tokenizer
    pads = (*generation.ids(table.get("pad_token_id"), dims.vocabulary), *reference.ends, tokenizer.eos_token_id,
            tokenizer.pad_token_id)  # fmt: skip
    begins = (*generation.ids(table.get("bos_token_id"), dims.vocabulary), tokenizer.bos_token_id)
    return {
        "kept": generation.kept(table),
        "vocabulary": dims.vocabulary,
        "ends": list(reference.ends),
        "bos_token_id": [token for token in begins if token is not None],
        "pad_token_id": [token for token in pads if token is not None],
        "model": genai_config.config(dims, {}, "fp32")["model"],
    }


def settings(found: Facts, config: Facts, facts: Facts) -> Iterator[str]:
    """Yield the entries of generation_config.json that tell a loader something else than the source."""
    kept = facts["kept"]
    for key in guard.foreign(found):
        yield f"{FILE}: {key} asks for code or for another implementation"
    for key in sorted((found.keys() | kept.keys()) - FREE):
        if found.get(key) != kept.get(key):
            yield f"{FILE}: {key} is {found.get(key)!r}, not {kept.get(key)!r}"
    for key in DECODING if found.get("do_sample") else ():
        if found.get(key) != kept.get(key):
            yield f"{FILE}: {key} is {found.get(key)!r}, not {kept.get(key)!r}"
    end = found.get("eos_token_id", config.get("eos_token_id"))
    if {*generation.ids(end, facts["vocabulary"])} != {*facts["ends"]}:
        yield f"{FILE}: eos_token_id is {end!r}, not {generation.spelt(tuple(facts['ends']))!r}"
    for key in ("bos_token_id", "pad_token_id"):
        if found.get(key) is not None and found[key] not in facts[key]:
            yield f"{FILE}: {key} is {found[key]!r}, not {next(iter(facts[key]), None)!r}"


def genai(directory: Path, facts: Facts, lacking: Collection[str] = ()) -> Iterator[str]:
    """Yield the entries of genai_config.json that are missing or others; and tokens that genai cannot read.

    `lacking` names inputs that the graph does not have, so that there is nothing to say of them.
    """
    path = directory / genai_config.FILE
    if not path.is_file():
        return
    content = read_json(path)
    found = content.get("model") if isinstance(content, dict) else None
    for text in _differing(found, facts["model"], "model", lacking):
        yield f"{genai_config.FILE}: {text}"
    own = found if isinstance(found, dict) else {}
    allowed = {"bos_token_id": facts["bos_token_id"], "pad_token_id": facts["pad_token_id"]}
    for key, tokens in allowed.items():
        if key in own and own[key] not in tokens:
            yield f"{genai_config.FILE}: model.{key} is {own[key]!r}, not {next(iter(tokens), 'absent')!r}"
    end = own.get("eos_token_id")
    listed = end if isinstance(end, list) else [end] if "eos_token_id" in own else []
    if sorted(map(repr, listed)) != sorted(map(repr, facts["ends"])):
        wanted = generation.spelt(tuple(facts["ends"]))
        yield f"{genai_config.FILE}: model.eos_token_id is {end!r}, not {wanted!r}"


def _differing(found: Any, wanted: Facts, where: str, lacking: Collection[str]) -> Iterator[str]:
    """Entries of a table that are missing or others, but for those that say which file is run, and how."""
    for key, value in wanted.items():
        own = found.get(key) if isinstance(found, dict) else None
        if key in {"filename", "session_options", "type"}:
            continue
        if isinstance(value, dict):
            yield from _differing(own, value, f"{where}.{key}", lacking)
        elif own != value and not (own is None and value in lacking):
            yield f"{where}.{key} is {own!r}, not {value!r}"
