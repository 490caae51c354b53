"""Read a checkpoint's tokenizer as transformers' AutoTokenizer does: one reader for convert and for verify's reference.

The class is built from a copy of the files without what names other files or code, because a checkpoint's settings may
point anywhere on this machine.
"""

from __future__ import annotations

import codecs
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from model import guard, tokenizer_form
from model.checkpoint import read_config, read_object, refuse_pointer
from pipeline.canonical import read_json
from pipeline.errors import InputError

TABLE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"  # folder of further templates, each NAME.jinja
PROCESSOR_TEMPLATE = "chat_template.json"  # of a model that reads pictures: no tokenizer reads it
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
JSON = (TABLE, CONFIG, SPECIAL, ADDED, "vocab.json")
FILES = (*JSON, "merges.txt", "vocab.txt", TEMPLATE, PROCESSOR_TEMPLATE, *SENTENCEPIECE)
PATTERNS = (*FILES, f"{TEMPLATES}/*.jinja")
# What a machine left behind, what would run code, and (keys ending in _file) what names files anywhere on this one.
DROPPED = ("cache_dir", "local_files_only", "name_or_path", "is_local", "backend")
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Texts of which every tokenizer has to make ids: nothing, words, and characters that hardly a vocabulary has.
TRIAL = ("", "A few words.", " \u00e9\u65e5\U0001f44d\u0000\ue000")
SAVED = "with transformers, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes tokenizer.json"


def load(directory: Path) -> Any:
    """The tokenizer (transformers' object) of a checkpoint, without truncation and padding.

    Raises InputError for files that are damaged, that transformers cannot load, that come to no fast tokenizer, or
    whose tokenizer gives no ids for some text, or others each time.
    """
    stated = settings(directory)
    _check_files(directory)
    _check_class(directory, stated)
    with TemporaryDirectory() as place:
        _copy(directory, Path(place), stated)
        tokenizer = _loaded(Path(place), directory, stated)
    if not tokenizer.is_fast:  # such as ByT5's
        what = f"{type(tokenizer).__name__} cannot be written as tokenizer.json, which the loaders read"
        raise InputError(what, where=directory, hint="use a checkpoint whose tokenizer has a tokenizer.json of its own")
    _require_vocabulary(directory, type(tokenizer).__name__)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    _check_template(tokenizer.chat_template, directory)
    _try(tokenizer, directory, stated)
    return tokenizer


def settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json without DROPPED; empty where there is none. InputError if it is no JSON object."""
    path = directory / CONFIG
    config = read_object(path) if path.is_file() else {}
    table = guard.stripped(config)
    kept = {key: value for key, value in table.items() if key not in DROPPED and not key.endswith("_file")}
    if isinstance(kept.get("extra_special_tokens"), list):  # transformers 5's word, where 4 wants an object
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    return kept


def templates(directory: Path) -> list[Path]:
    """The files of chat templates: the one at the top first, then the folder's by name."""
    top = directory / TEMPLATE
    return [path for path in (top, *sorted((directory / TEMPLATES).glob("*.jinja"))) if path.is_file()]


def _check_files(directory: Path) -> None:
    """InputError for a file that is git's pointer, no JSON, or no tokenizer's table."""
    for path in [directory / name for name in FILES if (directory / name).is_file()]:
        refuse_pointer(path)
        if path.name == TABLE:
            tokenizer_form.read(path)
        elif path.name == "vocab.json":
            tokenizer_form.require_ids(read_object(path), path)
        elif path.name in JSON:
            read_object(path)
        elif path.suffix == ".txt":
            _refuse_mark(path)
    for path in templates(directory):
        refuse_pointer(path)
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8: {error}", where=path, hint="save the template as UTF-8") from error


def _check_class(directory: Path, stated: Mapping[str, Any]) -> None:
    """InputError for a class that is no tokenizer's: transformers would build whatever has this name."""
    from transformers import PreTrainedTokenizerBase
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    config = directory / "config.json"
    for path, table in ((directory / CONFIG, stated), (config, read_config(config))):
        name = table.get("tokenizer_class")
        if name is None:
            continue
        if not isinstance(name, str):
            what = f"key tokenizer_class is {name!r}, not the name of a class"
            raise InputError(what, where=path, hint="name the class, or remove the key")
        try:
            found = tokenizer_class_from_name(name)
        except (ImportError, AttributeError, ValueError, RuntimeError):  # it wants a package: loading says which
            continue
        if found is not None and not (isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase)):
            hint = "name the tokenizer's class, or PreTrainedTokenizerFast for what tokenizer.json says"
            raise InputError(f"key tokenizer_class is {name!r}, which is no tokenizer", where=path, hint=hint)
    versions = stated.get("fast_tokenizer_files")
    if versions is not None and versions != [TABLE]:
        hint = f"give the newest of them the name {TABLE}, and remove the key"
        raise InputError("key fast_tokenizer_files names other files", where=directory / CONFIG, hint=hint)


def _check_template(template: Any, directory: Path) -> None:
    named = template if isinstance(template, dict) else {"default": template or ""}
    if not all(isinstance(text, str) for text in named.values()):
        hint = "write the template as a string, or a list of objects with name and template"
        raise InputError("key chat_template is no template", where=directory / CONFIG, hint=hint)


def _copy(directory: Path, place: Path, stated: Mapping[str, Any]) -> None:
    """Lay out what transformers is to read: of config.json, only what chooses a class."""
    config = read_config(directory / "config.json")
    chosen = {key: config[key] for key in ("model_type", "tokenizer_class") if config.get(key) is not None}
    (place / "config.json").write_text(json.dumps(chosen), encoding="utf-8")
    if (directory / CONFIG).is_file():
        (place / CONFIG).write_text(json.dumps(stated), encoding="utf-8")
    for name in FILES:
        if name != CONFIG and (directory / name).is_file():
            shutil.copyfile(directory / name, place / name)
    for path in templates(directory):
        target = place / path.relative_to(directory)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)


def _loaded(place: Path, directory: Path, stated: Mapping[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers library raises bare Exception, and a panic in Rust, which is none
        raise _refusal(directory, stated, error) from error


def _refusal(directory: Path, stated: Mapping[str, Any], error: BaseException) -> InputError:
    """Say why transformers did not load it, in words of the files."""
    library = f"transformers {version('transformers')}"
    table = directory / TABLE
    if not table.is_file():
        _require_vocabulary(directory, str(stated.get("tokenizer_class") or "the tokenizer"))
    wrong = _wrong_setting(stated)
    if wrong is not None:
        return InputError(wrong, where=directory / CONFIG, hint="correct the key, or remove it")
    if table.is_file() and "added_tokens" not in read_json(table):
        return InputError("key added_tokens is missing", where=table, hint='add "added_tokens": []')
    name = stated.get("tokenizer_class")
    what = f"{library} cannot load the tokenizer{f' as {name}' if name else ''}: {type(error).__name__}: {error}"
    hint = (
        f"if no class of transformers has this name, set tokenizer_class in {CONFIG} to that of the model's kind, "
        "such as GPT2Tokenizer"
        if not table.is_file()
        else f"if {TABLE} is right and its class is not, set tokenizer_class in {CONFIG} to PreTrainedTokenizerFast; "
        "otherwise make AutoTokenizer.from_pretrained(DIR) work first"
    )
    return InputError(what, where=directory, hint=hint)


def _wrong_setting(stated: Mapping[str, Any]) -> str | None:
    """The first key of tokenizer_config.json whose value is of a kind that transformers does not take."""
    for key in NAMED:
        value = stated.get(key)
        if isinstance(value, dict) and value.get("__type") != "AddedToken":
            return f'key {key} is an object without "__type": "AddedToken"; write the token as a string'
        if value is not None and not isinstance(value, str | dict):
            return f"key {key} is {value!r}, not a string"
    template, longest = stated.get("chat_template"), stated.get("model_max_length")
    if longest is not None and not isinstance(longest, int | float):
        return f"key model_max_length is {longest!r}, not a number"
    added = stated.get("added_tokens_decoder", {})
    if not isinstance(added, dict) or not all(
        key.isdecimal() and isinstance(token, dict) and isinstance(token.get("content"), str)
        for key, token in added.items()
    ):
        return "key added_tokens_decoder does not map ids to tokens, each an object with content"
    if isinstance(template, list) and not all(
        isinstance(entry, dict) and {"name", "template"} <= entry.keys() for entry in template
    ):
        return "key chat_template is a list of other things than objects with name and template"
    side = stated.get("padding_side", "right")
    return None if side in ("left", "right") else f"key padding_side is {side!r}, not left or right"


def _require_vocabulary(directory: Path, name: str) -> None:
    """InputError where no file holds a vocabulary that can be read here: transformers would make an empty one up."""
    there = {file for file in FILES if (directory / file).is_file()}
    pieces = [file for file in SENTENCEPIECE if file in there]
    if TABLE in there or "vocab.txt" in there or {"vocab.json", "merges.txt"} <= there:
        return
    if pieces:
        what = f"the tokenizer is in {pieces[0]} alone, from which no fast form of {name} can be made here"
        hint = f"where the package sentencepiece is installed, load and save it: {SAVED}; then add that file"
        raise InputError(what, where=directory, hint=hint)
    half = there & {"vocab.json", "merges.txt"}
    if half:
        (missing,) = {"vocab.json", "merges.txt"} - half
        raise InputError(
            f"no {TABLE}, and {missing} is missing beside {half.pop()}",
            where=directory,
            hint=f"add {missing} of the same tokenizer, or a {TABLE}",
        )
    hint = f"add {TABLE}, or vocab.json and merges.txt, from the checkpoint that the model was trained from"
    raise InputError(f"no tokenizer: none of {TABLE}, vocab.json, vocab.txt is there", where=directory, hint=hint)


def _try(tokenizer: Any, directory: Path, stated: Mapping[str, Any]) -> None:
    """Refuse a tokenizer that fails for some text, gives ids that are no tokens', or does what no file can state."""
    table = json.loads(tokenizer.backend_tokenizer.to_str())
    if table["model"].get("dropout"):
        what = f"key model.dropout is {table['model']['dropout']}: the same text has other ids each time"
        raise InputError(what, where=directory / TABLE, hint="set it to null; it is meant for training")
    if tokenizer.split_special_tokens:
        what = f"key split_special_tokens is true, which no loader of {TABLE} does"
        raise InputError(
            what, where=directory / CONFIG, hint="remove the key, and split such tokens where texts come in"
        )
    empty = [role for role, token in tokenizer.special_tokens_map.items() if not str(token)]
    if empty:
        file = CONFIG if empty[0] in stated else SPECIAL
        raise InputError(
            f"key {empty[0]} is empty", where=directory / file, hint="name a token of the vocabulary, or remove the key"
        )
    known = set(tokenizer.get_vocab().values())
    for text in TRIAL:
        try:
            ids = tokenizer(text, verbose=False)["input_ids"]
            tokenizer.decode(ids)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # as in _loaded
            wrong = _wrong_setting(stated)
            if wrong is not None:
                raise InputError(wrong, where=directory / CONFIG, hint="correct the key, or remove it") from error
            hint = f"name an unk_token of the vocabulary in the table model of {TABLE}"
            raise InputError(
                f"the tokenizer fails for the text {text!r}: {error}", where=directory, hint=hint
            ) from error
        strange = [index for index in ids if index not in known]
        if strange:
            hint = f"correct the ids under post_processor in {TABLE}"
            raise InputError(f"the tokenizer adds id {strange[0]}, which no token has", where=directory, hint=hint)


def _refuse_mark(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            hint = "save the file as UTF-8 without the mark"
            raise InputError("begins with a byte order mark, which transformers does not read", where=path, hint=hint)
