"""Judge what the files beside a graph tell its loaders: the source's vocabulary, special tokens and settings.

Texts alone cannot say it. A token that is added, a merge that no text needs, or a key that a loader reads and a
tokenizer does not, shows only to the user who meets it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from model import guard, tokenizer_form
from model.checkpoint import read_object
from model.transformersjs_config import DATA, SECTION, asked
from pipeline.errors import InputError
from pipeline.variants import FILES, data_file
from verify.candidate import chat_templates
from verify.candidate.untrusted import external

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

JUDGED = ("vocabulary", "merges", "scores", "added", "normalizer", "settings")
CLASSES = {"TokenizersBackend": "PreTrainedTokenizer"}  # one class, renamed by transformers 5
TOKENS = ("bos_token", "eos_token", "unk_token")
CODE = "{} asks for code or for another implementation"
CACHE = "float32"  # of every graph, by the loaders' contract

Facts = Mapping[str, Any]


def stated(reference: Reference) -> dict[str, Any]:
    """Return what the source's own files come to, as transformers has loaded them."""
    tokenizer, config = reference.tokenizer, reference.loaded_config
    form = tokenizer_form.form(tokenizer.backend_tokenizer.to_str(), reference.directory)
    ids = tokenizer("a", verbose=False)["input_ids"]
    aliases = {alias: getattr(config, name, None) for alias, name in type(config).attribute_map.items()}
    return {
        **{key: form[key] for key in JUDGED},
        "prefix": (form["pre_tokenizer"] or {}).get("add_prefix_space"),
        "adds": {
            "add_bos_token": ids[:1] == [tokenizer.bos_token_id],
            "add_eos_token": ids[-1:] == [tokenizer.eos_token_id],
        },
        "class": _class(type(tokenizer).__name__),
        "tokens": dict(tokenizer.special_tokens_map),
        "template": tokenizer.chat_template,
        "clean_up": bool(tokenizer.clean_up_tokenization_spaces),
        "defaults": json.loads(json.dumps({**config.to_dict(), **aliases}, default=str)),
    }


def vocabulary(directory: Path, facts: Facts) -> list[str]:
    """tokenizer.json; and vocab.json, merges.txt and added_tokens.json, which only Python's tokenizers read."""
    try:
        found = tokenizer_form.read(directory / "tokenizer.json")
    except InputError as error:
        return [f"tokenizer.json: {error.what}"]
    problems = [f"tokenizer.json: {text}" for text in _other(found["vocabulary"], facts["vocabulary"])]
    if found["merges"] != facts["merges"]:
        at = next((i for i, pair in enumerate(zip(found["merges"], facts["merges"], strict=False)) if len({*pair}) > 1),
                  min(len(found["merges"]), len(facts["merges"])))  # fmt: skip
        problems.append(f"tokenizer.json: merges differ from the source's from number {at} on")
    problems += [
        f"tokenizer.json: {name} is {json.dumps(found[name])[:60]}, not {json.dumps(facts[name])[:60]}"
        for name in ("scores", "added", "normalizer", "settings")
        if found[name] != facts[name]
    ]
    if (directory / "vocab.json").is_file():
        other = read_object(directory / "vocab.json")
        whole = found["vocabulary"].keys() - found["added"].keys() <= other.keys()
        problems += [f"vocab.json: {text}" for text in _other({**facts["vocabulary"], **other}, facts["vocabulary"])]
        problems += [] if whole else ["vocab.json lacks tokens of tokenizer.json"]
    path = directory / "merges.txt"
    if path.is_file() and tokenizer_form.merges(path) != facts["merges"]:
        problems.append("merges.txt differs from the source's merges")
    if (directory / "added_tokens.json").is_file():
        more = {**facts["vocabulary"], **read_object(directory / "added_tokens.json")}
        problems += [f"added_tokens.json: {text}" for text in _other(more, facts["vocabulary"])]
    return problems


def tokenizer_config(directory: Path, source: Facts, facts: Facts) -> list[str]:
    """Keys of tokenizer_config.json and special_tokens_map.json that change tokens, or the text that they become."""
    config, name = read_object(directory / "tokenizer_config.json"), "tokenizer_config.json"
    problems = [*_special(config, name, facts)]
    map_file = directory / "special_tokens_map.json"
    if map_file.is_file():
        problems += _special(read_object(map_file), map_file.name, facts)
    classes = (facts["class"], _class(str(source.get("tokenizer_class"))))
    if "tokenizer_class" in config and _class(str(config["tokenizer_class"])) not in classes:
        problems.append(f"{name}: tokenizer_class is {config['tokenizer_class']!r}, not {facts['class']!r}")
    for key, does in facts["adds"].items():
        if bool(config.get(key)) not in (bool(source.get(key)), does):
            problems.append(f"{name}: {key} is {config.get(key)!r}, not {source.get(key)!r}")
    if facts["prefix"] is not None and bool(config.get("add_prefix_space")) != facts["prefix"]:
        problems.append(f"{name}: add_prefix_space is {config.get('add_prefix_space')!r}, not {facts['prefix']!r}")
    key = "clean_up_tokenization_spaces"  # Transformers.js: true, if nothing is said
    if config.get(key) not in (source.get(key), facts["clean_up"]):
        problems.append(f"{name}: {key} is {config.get(key)!r}, not {facts['clean_up']!r}")
    added = config.get("added_tokens_decoder")
    listed = {_content(token): _number(index) for index, token in added.items()} if isinstance(added, dict) else {}
    problems += [f"{name}: {text}" for text in _other({**facts["vocabulary"], **listed}, facts["vocabulary"])]
    problems += [f"{name}: {CODE.format(key)}" for key in guard.foreign(config)]
    return [*problems, *chat_templates.problems(directory, config, facts["template"], facts["tokens"])]


def config(found: Facts, source: Facts, facts: Facts, free: frozenset[str], end: int | None) -> list[str]:
    """Keys of config.json that the source leaves at their defaults or spells otherwise; Transformers.js' own table."""
    problems = [
        f"{key} is {value!r}, not {facts['defaults'][key]!r}, which the source leaves it at"
        for key, value in found.items()
        if key in facts["defaults"] and key not in {*source, *free} and value != facts["defaults"][key]
        and not (key == "pad_token_id" and value == end)
    ]  # fmt: skip
    problems += [CODE.format(key) for key in guard.foreign(found)]
    return [f"config.json: {text}" for text in (*problems, *_browsers(found.get(SECTION)))]


def data_files(found: Facts, graph: Path) -> Iterator[str]:
    """Yield what is wrong with the number of a graph's data files that Transformers.js fetches by config.json."""
    section = found.get(SECTION)
    count = asked(section if isinstance(section, dict) else {}, graph.name)
    if not count and not data_file(graph).exists():
        return
    files = external.files(onnx.load(graph, load_external_data=False), graph.parent)
    where = f"config.json: {SECTION}.{DATA}"
    if count and not files:
        yield f"{where} asks for a data file, and all weights are in the graph's"
    elif data_file(graph) in files and count != len(files):
        yield f"{where} asks for {count} data files of {graph.name}, and its weights lie in {len(files)}"


def _browsers(table: Any, where: str = SECTION) -> Iterator[str]:
    """Yield what Transformers.js would look for and not find, or feed and not be allowed to."""
    if table is None:
        return
    if not isinstance(table, dict):
        yield f"{where} is no object"
        return
    for key, known in (("kv_cache_dtype", {CACHE}), ("dtype", {*FILES, "auto"})):
        value = table.get(key)
        for name in value.values() if isinstance(value, dict) else [value]:
            if name is not None and (not isinstance(name, str) or name not in known):
                yield f"{where}.{key} is {name!r}; possible: {', '.join(sorted(known))}"
    devices = table.get("device_config")
    for device, own in devices.items() if isinstance(devices, dict) else ():
        yield from _browsers(own, f"{where}.device_config.{device}")


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


def _content(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _class(name: str) -> str:
    """The name without what differs between the major versions of transformers."""
    return CLASSES.get(name, name).removesuffix("Fast")
