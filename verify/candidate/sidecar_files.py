"""Judge what the files beside a graph tell its loaders: the source's vocabulary, special tokens and settings.

Texts alone cannot say it. A token that is added, a merge that no text needs, or a key that a loader reads and a
tokenizer does not, shows only to the user who meets it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import genai_config
from pipeline.canonical import read_json
from pipeline.errors import InputError
from pipeline.variants import FILES

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

TOKENS = ("bos_token", "eos_token", "unk_token")
ADDED = ("special", "single_word", "lstrip", "rstrip", "normalized")  # how an added token is found in a text
# Of a model in tokenizer.json: what changes how a text is cut, beside its vocabulary and merges.
SETTINGS = ("type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
            "byte_fallback", "ignore_merges")  # fmt: skip
CODE = "auto_map names code to run, which the source does not"
CACHE = "float32"  # of every graph, by the loaders' contract

Facts = Mapping[str, Any]


def stated(reference: Reference) -> dict[str, Any]:
    """Return what the source's own files come to, as transformers has loaded them."""
    tokenizer, config = reference.tokenizer, reference.loaded_config
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    aliases = {alias: getattr(config, name, None) for alias, name in type(config).attribute_map.items()}
    ends = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return {
        **_cutting(content),
        "class": _class(type(tokenizer).__name__),
        "tokens": dict(tokenizer.special_tokens_map),
        "template": tokenizer.chat_template,
        "clean_up": bool(tokenizer.clean_up_tokenization_spaces),
        "defaults": json.loads(json.dumps({**config.to_dict(), **aliases}, default=str)),
        "ids": ends,
        "genai": genai_config.config(reference.dimensions, {"eos_token_id": reference.end}, "fp32")["model"],
    }


def vocabulary(directory: Path, facts: Facts) -> list[str]:
    """tokenizer.json; and vocab.json, merges.txt and added_tokens.json, which only Python's tokenizers read."""
    content = object_of(directory / "tokenizer.json")
    try:
        found = _cutting(content)
    except (AttributeError, KeyError, TypeError) as error:
        return [f"tokenizer.json: not a tokenizer's table: {type(error).__name__}: {error}"]
    problems = [f"tokenizer.json: {text}" for text in _other(found["vocabulary"], facts["vocabulary"])]
    if found["merges"] != facts["merges"]:
        at = next((i for i, pair in enumerate(zip(found["merges"], facts["merges"], strict=False)) if len({*pair}) > 1),
                  min(len(found["merges"]), len(facts["merges"])))  # fmt: skip
        problems.append(f"tokenizer.json: merges differ from the source's from number {at} on")
    problems += [
        f"tokenizer.json: {name} is {json.dumps(found[name])[:60]}, not {json.dumps(facts[name])[:60]}"
        for name in ("added", "normalizer", "settings")
        if found[name] != facts[name]
    ]
    if (directory / "vocab.json").is_file():
        other = object_of(directory / "vocab.json")
        whole = all(token in other for token in content["model"]["vocab"])
        problems += [f"vocab.json: {text}" for text in _other({**facts["vocabulary"], **other}, facts["vocabulary"])]
        problems += [] if whole else ["vocab.json lacks tokens of tokenizer.json"]
    if (directory / "merges.txt").is_file():
        lines = (directory / "merges.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        if [line for line in lines if line and not line.startswith("#version")] != facts["merges"]:
            problems.append("merges.txt differs from the source's merges")
    if (directory / "added_tokens.json").is_file():
        more = {**facts["vocabulary"], **object_of(directory / "added_tokens.json")}
        problems += [f"added_tokens.json: {text}" for text in _other(more, facts["vocabulary"])]
    return problems


def tokenizer_config(directory: Path, source: Facts, facts: Facts) -> list[str]:
    """Keys of tokenizer_config.json and special_tokens_map.json that change tokens, or the text that they become."""
    config, name = object_of(directory / "tokenizer_config.json"), "tokenizer_config.json"
    problems = [*_special(config, name, facts)]
    map_file = directory / "special_tokens_map.json"
    if map_file.is_file():
        problems += _special(object_of(map_file), map_file.name, facts)
    if "tokenizer_class" in config and _class(str(config["tokenizer_class"])) != facts["class"]:
        problems.append(f"{name}: tokenizer_class is {config['tokenizer_class']!r}, not {facts['class']!r}")
    for key in ("add_bos_token", "add_eos_token"):
        if bool(config.get(key)) != bool(source.get(key)):
            problems.append(f"{name}: {key} is {config.get(key)!r}, not {source.get(key)!r}")
    key = "clean_up_tokenization_spaces"  # Transformers.js: true, if nothing is said
    if config.get(key) not in (source.get(key), facts["clean_up"]):
        problems.append(f"{name}: {key} is {config.get(key)!r}, not {facts['clean_up']!r}")
    added = config.get("added_tokens_decoder")
    listed = {_content(token): _number(index) for index, token in added.items()} if isinstance(added, dict) else {}
    problems += [f"{name}: {text}" for text in _other({**facts["vocabulary"], **listed}, facts["vocabulary"])]
    problems += [f"{name}: {CODE}"] if config.get("auto_map") and not source.get("auto_map") else []
    if _template(directory, config) != facts["template"]:
        problems.append(f"{name}: the chat template is another than the source's")
    return problems


def generation(found: Facts, source: Facts, facts: Facts, end: int | None) -> list[str]:
    """Keys of generation_config.json that a loader acts on and that may be left out, or be set to what is the same."""
    problems = []
    if found.get("do_sample") and not source.get("do_sample"):
        problems.append("do_sample is true, which the source does not say")
    for key, spare in (("bos_token_id", None), ("pad_token_id", end)):
        allowed = (None, source.get(key), facts["defaults"].get(key), facts["ids"][key], spare)
        if found.get(key) not in allowed:
            problems.append(f"{key} is {found[key]!r}, not {next((v for v in allowed if v is not None), None)!r}")
    return [f"generation_config.json: {text}" for text in problems]


def config(found: Facts, source: Facts, facts: Facts, free: frozenset[str], end: int | None) -> list[str]:
    """Keys of config.json that the source leaves at their defaults or spells otherwise; Transformers.js' own table."""
    problems = [
        f"{key} is {value!r}, not {facts['defaults'][key]!r}, which the source leaves it at"
        for key, value in found.items()
        if key in facts["defaults"] and key not in {*source, *free} and value != facts["defaults"][key]
        and not (key == "pad_token_id" and value == end)
    ]  # fmt: skip
    problems += [CODE] if found.get("auto_map") and not source.get("auto_map") else []
    return [f"config.json: {text}" for text in (*problems, *_browsers(found.get("transformers.js_config")))]


def runtime_config(directory: Path, facts: Facts) -> list[str]:
    """genai_config.json, where it lies there: sizes, names of inputs and outputs, and the end token."""
    path = directory / genai_config.FILE
    if not path.is_file():
        return []
    found = object_of(path).get("model")
    return [f"{genai_config.FILE}: {text}" for text in _differing(found, facts["genai"], "model")]


def object_of(path: Path) -> dict[str, Any]:
    """A JSON object; InputError for anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=path, hint="restore the file from its source")
    return value


def _differing(found: Any, wanted: Facts, where: str) -> Iterator[str]:
    """Entries of a table that are missing or others, but for those that say which file is run, and how."""
    for key, value in wanted.items():
        own = found.get(key) if isinstance(found, dict) else None
        if key in {"filename", "session_options", "type"}:
            continue
        if isinstance(value, dict):
            yield from _differing(own, value, f"{where}.{key}")
        elif own != value:
            yield f"{where}.{key} is {own!r}, not {value!r}"


def _browsers(table: Any, where: str = "transformers.js_config") -> Iterator[str]:
    """Yield what Transformers.js would look for and not find, or feed and not be allowed to."""
    if table is None:
        return
    if not isinstance(table, dict):
        yield f"{where} is no object"
        return
    if table.get("use_external_data_format"):
        yield f"{where}.use_external_data_format asks for a data file, and all weights are in the graph's"
    for key, known in (("kv_cache_dtype", {CACHE}), ("dtype", {*FILES, "auto"})):
        value = table.get(key)
        for name in value.values() if isinstance(value, dict) else [value]:
            if name is not None and (not isinstance(name, str) or name not in known):
                yield f"{where}.{key} is {name!r}; possible: {', '.join(sorted(known))}"
    devices = table.get("device_config")
    for device, own in devices.items() if isinstance(devices, dict) else ():
        yield from _browsers(own, f"{where}.device_config.{device}")


def _cutting(content: Facts) -> dict[str, Any]:
    """Of a tokenizer.json: every token's id, the merges in order, added tokens, and settings; whatever their form."""
    model, added = content["model"], {token["content"]: token for token in content.get("added_tokens") or ()}
    return {
        "vocabulary": {**model["vocab"], **{text: token["id"] for text, token in added.items()}},
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]],
        "added": {text: [bool(token.get(key)) for key in ADDED] for text, token in sorted(added.items())},
        "normalizer": content.get("normalizer"),
        "settings": {key: model[key] for key in SETTINGS if model.get(key)},
    }


def _other(found: Facts, wanted: Facts) -> list[str]:
    """The first token with another id than the source's, and how many there are."""
    differing = [token for token in {**wanted, **found} if found.get(token) != wanted.get(token)]
    if not differing:
        return []
    token = differing[0]
    more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
    return [f"token {token[:30]!r} is {found.get(token, 'missing')}, not {wanted.get(token, 'there')}{more}"]


def _special(config: Facts, name: str, facts: Facts) -> Iterator[str]:
    """Special tokens that are others than the source's, or no tokens at all."""
    for key in TOKENS:
        wanted = facts["tokens"].get(key)
        if config.get(key) is not None and wanted is not None and _content(config[key]) != wanted:
            yield f"{name}: {key} is {_content(config[key])!r}, not {wanted!r}"
    pad = config.get("pad_token")
    if pad is not None and _content(pad) not in facts["vocabulary"]:
        yield f"{name}: pad_token {_content(pad)!r} is no token of the vocabulary"


def _template(directory: Path, config: Facts) -> Any:
    """The chat template, which has a file of its own or a key; several have names."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    value = config.get("chat_template")
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return {entry.get("name"): entry.get("template") for entry in value}
    return value


def _content(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _class(name: str) -> str:
    return name.removesuffix("Fast")
