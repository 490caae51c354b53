"""The tokenizer's files beside the graph: what transformers makes of the source's, in the form that loaders read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model import tokenizer as reader
from model import tokenizer_form
from model.contract import Dimensions
from model.tokenizer_form import Form
from pipeline.canonical import read_json, write_json
from pipeline.errors import InputError
from pipeline.warned import warn

# transformers 5 has this name for a tokenizer that has no class; neither transformers 4 nor Transformers.js knows it.
CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}
SIDES = {"add_bos_token": 0, "add_eos_token": -1}


def write(source: Path, target: Path, dims: Dimensions, *, allow_padded_vocabulary: bool) -> Any:
    """Write the files beside the config.json that lies in `target` already, and return the source's tokenizer.

    Raises InputError for a tokenizer that cannot be read (model.tokenizer), or does not fit the model. Says so where
    what is written is not what one of the source's files says, because transformers reads another.
    """
    tokenizer = reader.load(source)
    _check_vocabulary(tokenizer, dims, source, allow_padded=allow_padded_vocabulary)
    form = _write_table(source, target, tokenizer)
    _write_others(source, target, form)
    special = _special(tokenizer, source)
    write_json(target / reader.SPECIAL, special)
    write_json(target / reader.CONFIG, _settings(source, tokenizer, special, form, dims))
    if isinstance(tokenizer.chat_template, str) and (source / reader.TEMPLATE).is_file():
        shutil.copyfile(source / reader.TEMPLATE, target / reader.TEMPLATE)
    _say_templates(source, tokenizer)
    _check_written(target, form, source)
    return tokenizer


def _check_vocabulary(tokenizer: Any, dims: Dimensions, where: Path, *, allow_padded: bool) -> None:
    """InputError for tokens without a row of the embedding or of one id, or, unless it is padded, rows without one."""
    vocabulary, rows = tokenizer.get_vocab(), dims.vocabulary
    last = max(vocabulary, key=lambda text: vocabulary[text], default="")
    if last in tokenizer.get_added_vocab() or len(vocabulary) <= rows:
        beyond = sorted((index, token) for token, index in vocabulary.items() if index >= rows)
        if beyond:
            index, token = beyond[0]
            what = f"token {token!r} has id {index}, config key vocab_size is {rows}"
            raise InputError(what, where=where, hint=_how_to_fit(tokenizer, token, vocabulary[last] + 1, where))
    owner: dict[int, str] = {}
    for token, index in vocabulary.items():
        if owner.setdefault(index, token) != token:
            what = f"tokens {owner[index]!r} and {token!r} have the same id, {index}"
            raise InputError(what, where=where, hint=f"give each its own id in {reader.TABLE}, or remove one")
    if len(vocabulary) == rows or (allow_padded and len(vocabulary) < rows):
        return
    hint = "use the tokenizer that belongs to the model"
    if len(vocabulary) < rows:
        unread = _unread(tokenizer, where)
        hint += ", or set source.padded_vocabulary = true if the embedding is padded on purpose"
        hint = (
            f"list {unread} in added_tokens_decoder of {reader.CONFIG} too, which transformers reads"
            if unread
            else hint
        )
    raise InputError(f"tokenizer has {len(vocabulary)} tokens, config key vocab_size is {rows}", where=where, hint=hint)


def _unread(tokenizer: Any, where: Path) -> str:
    """Tokens that tokenizer.json adds and transformers does not read there, as a text of a few; empty without any."""
    if not (where / reader.TABLE).is_file():
        return ""
    known = tokenizer.get_vocab()
    tokens = [token for token in tokenizer_form.read(where / reader.TABLE)["added"] if token not in known]
    return ", ".join(map(repr, tokens[:3]))


def _how_to_fit(tokenizer: Any, token: str, rows: int, where: Path) -> str:
    """Return what to do about a token without a row, by what adds it."""
    quoted = json.dumps(token, ensure_ascii=False)
    names = (reader.TABLE, reader.CONFIG, reader.SPECIAL, reader.ADDED, "vocab.json")
    files = [name for name in names if (where / name).is_file() and quoted in (where / name).read_text("utf-8")]
    if not files:
        roles = [role for role, text in tokenizer.special_tokens_map.items() if text == token]
        if not roles:
            return (
                f"{type(tokenizer).__name__} adds it of itself: set tokenizer_class in {reader.CONFIG} to "
                f"PreTrainedTokenizerFast, if {reader.TABLE} is right without it"
            )
        return (
            f"{type(tokenizer).__name__} adds it as {' and '.join(roles)}, because {reader.CONFIG} does not name the "
            "model's own: name a token of the vocabulary there"
        )
    return (
        f"take the token out of {' and '.join(files)}, or give it a row where the model was trained "
        f"(resize_token_embeddings({rows})), and save the checkpoint again"
    )


def _write_table(source: Path, target: Path, tokenizer: Any) -> Form:
    """Write tokenizer.json, the source's own where the class changes nothing; the form of what is written."""
    from tokenizers import Tokenizer

    content = tokenizer.backend_tokenizer.to_str()
    form = tokenizer_form.form(content, source)
    own = source / reader.TABLE
    if own.is_file():
        stated, table = tokenizer_form.read(own), read_json(own)
        set_up = [key for key in ("truncation", "padding") if table.get(key) is not None]
        other = [*(key for key in form if form[key] != stated[key]), *set_up]
        if not other:
            shutil.copyfile(own, target / reader.TABLE)
            return form
        token = _first_other(form, stated)
        differing = ", ".join(other) + ("" if token is None else f" (of token {token!r})")
        what = f"{reader.TABLE} is written as {type(tokenizer).__name__} of transformers {version('transformers')}"
        warn(f"{what} reads it; the source's file has other: {differing}")
    Tokenizer.from_str(content).save(str(target / reader.TABLE))
    return form


def _first_other(form: Form, stated: Form) -> str | None:
    """The first token whose id, or way to be found in a text, differs."""
    tokens = ((key, token) for key in ("vocabulary", "added") for token in {**stated[key], **form[key]})
    return next((token for key, token in tokens if form[key].get(token) != stated[key].get(token)), None)


def _write_others(source: Path, target: Path, form: Form) -> None:
    """Copy the files that only Python's slow tokenizers read, where they say what tokenizer.json says."""
    vocabulary = form["vocabulary"]
    right = {"vocab.json": False, "merges.txt": False, reader.ADDED: True}
    if (source / "vocab.json").is_file() and (source / "merges.txt").is_file():
        own = read_json(source / "vocab.json")
        merges = tokenizer_form.merges(source / "merges.txt")
        whole = form["merges"] == merges and vocabulary.keys() - form["added"].keys() <= own.keys()
        right["vocab.json"] = right["merges.txt"] = whole and own.items() <= vocabulary.items()
    if (source / reader.ADDED).is_file():
        right[reader.ADDED] = read_json(source / reader.ADDED).items() <= vocabulary.items()
    for name, same in right.items():
        if same and (source / name).is_file():
            shutil.copyfile(source / name, target / name)
        elif (source / name).is_file():
            warn(f"{name} is left out: it says other things than {reader.TABLE}, which loaders read")


def _special(tokenizer: Any, source: Path) -> dict[str, Any]:
    """Special tokens by their names as plain strings, a padding token among them; InputError without an end token."""
    special: dict[str, Any] = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    for file in (reader.CONFIG, reader.SPECIAL):
        stated = read_json(source / file) if (source / file).is_file() else {}
        for name, token in special.items():
            own = stated.get(name)
            text = own.get("content") if isinstance(own, dict) else own
            if text is not None and text != token:
                warn(f"{name} is {token!r}, as transformers reads the source; its {file} says {text!r}")
    if tokenizer.extra_special_tokens:
        special["additional_special_tokens"] = [str(token) for token in tokenizer.extra_special_tokens]
    if "eos_token" not in special:
        hint = "add eos_token to tokenizer_config.json: generation could not end, ragged batches could not be padded"
        raise InputError("tokenizer has no eos_token", where=source, hint=hint)
    special.setdefault("pad_token", special["eos_token"])
    return special


def _settings(source: Path, tokenizer: Any, special: Mapping[str, Any], form: Form, dims: Dimensions) -> dict[str, Any]:
    """tokenizer_config.json as loaders want it: plain strings (an object throws in Transformers.js), the real context.

    Transformers.js reads chat templates here alone. transformers 4 lets add_prefix_space and added_tokens_decoder
    change what tokenizer.json says, so they say the same.
    """
    settings = reader.settings(source)
    own, loaded = settings.get("tokenizer_class"), type(tokenizer).__name__
    name = own if own and own.removesuffix("Fast") == loaded.removesuffix("Fast") else loaded
    settings |= {"tokenizer_class": CLASSES.get(name, name), **special, "model_max_length": dims.context}
    settings.setdefault("clean_up_tokenization_spaces", bool(tokenizer.clean_up_tokenization_spaces))
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = [{"name": name, "template": text} for name, text in template.items()]
    settings |= {"chat_template": template} if template is not None else {}
    spaced = (form["pre_tokenizer"] or {}).get("add_prefix_space")
    if spaced is not None and (spaced or "add_prefix_space" in settings):
        settings["add_prefix_space"] = spaced
    if "added_tokens_decoder" in settings:
        tokens = tokenizer.added_tokens_decoder
        settings["added_tokens_decoder"] = {
            str(index): {"content": token.content, **{flag: getattr(token, flag) for flag in tokenizer_form.FLAGS}}
            for index, token in tokens.items()
        }
    ids = tokenizer("a", verbose=False)["input_ids"]
    for key, place in SIDES.items():
        if key in settings:
            end = tokenizer.bos_token_id if place == 0 else tokenizer.eos_token_id
            settings[key] = len(ids) > 0 and ids[place] == end
    return settings


def _say_templates(source: Path, tokenizer: Any) -> None:
    """Say which of several chat templates is written, and which is none of the tokenizer's."""
    config = reader.settings(source).get("chat_template")
    if reader.templates(source) and config is not None and config != tokenizer.chat_template:
        what = f"the chat template of {reader.CONFIG} is left out"
        warn(f"{what}: transformers reads {reader.TEMPLATE} and {reader.TEMPLATES} before it")
    if (source / reader.PROCESSOR_TEMPLATE).is_file():
        what = f"{reader.PROCESSOR_TEMPLATE} is left out: transformers reads it for models of pictures and sound alone"
        warn(f"{what}; if it is this model's, save its text as {reader.TEMPLATE}")


def _check_written(target: Path, form: Form, source: Path) -> None:
    """InputError if the class, which changes what it reads, reads another tokenizer from its own files."""
    again = tokenizer_form.form(reader.load(target).backend_tokenizer.to_str(), source)
    other = [key for key in form if form[key] != again[key]]
    if other:
        what = f"the tokenizer's class changes {', '.join(other)} each time that its files are read"
        hint = f"set tokenizer_class in {reader.CONFIG} to PreTrainedTokenizerFast, if {reader.TABLE} is right"
        raise InputError(what, where=source, hint=hint)
