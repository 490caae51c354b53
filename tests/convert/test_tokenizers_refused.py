"""A tokenizer that cannot be right is refused in words of its files: what, in which file and key, and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model import tokenizer as reader
from pipeline.errors import InputError
from tests.support import tokenizer_sources as sources
from tests.support.tiny_checkpoints import EOS
from tests.support.tokenizer_sources import added, edit, remove, settings

Change = Callable[[Path], object]


def config(*drop: str, **keys: Any) -> Change:
    return lambda directory: settings(directory, drop, **keys)


def table(change: Callable[[Any], object], name: str = "GPT2Tokenizer") -> Change:
    def made(directory: Path) -> None:
        edit(directory, "tokenizer.json", change)
        settings(directory, tokenizer_class=name)

    return made


def only(*names: str, **keys: Any) -> Change:
    """Leave of the tokenizer's files these alone, and write what is not there."""

    def made(directory: Path) -> None:
        remove(directory, *(name for name in sources.OWN if name not in names))
        for name in names:
            if not (directory / name).is_file():
                (directory / name).write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
        settings(directory, **keys)

    return made


def content(name: str, change: Callable[[bytes], bytes]) -> Change:
    def made(directory: Path) -> None:
        path = directory / name
        path.write_bytes(change(path.read_bytes() if path.is_file() else b""))

    return made


def marked(name: str) -> Change:
    return content(name, lambda text: b"\xef\xbb\xbf" + text)


def renamed_but_not_said(directory: Path) -> None:
    for name in ("tokenizer.json", "vocab.json"):
        content(name, lambda text: text.replace(EOS.encode(), b"</end>"))(directory)
    settings(directory, drop=("bos_token", "unk_token"), eos_token="</end>")


def far_out_in_vocab(place: Path) -> None:
    sources.edit(place, "vocab.json", lambda t: t.update(zzz=2**31))
    sources.remove(place, "tokenizer.json")


FAST = "PreTrainedTokenizerFast"
REFUSED: dict[str, tuple[Change, str, str]] = {  # what is said, and where or what to do
    "sentencepiece's model alone": (
        only("spiece.model", tokenizer_class="T5Tokenizer"),
        "the tokenizer is in spiece.model alone, from which no fast form of T5Tokenizer can be made here",
        "where the package sentencepiece is installed",
    ),
    "Llama's model alone": (only("tokenizer.model", tokenizer_class="LlamaTokenizer"), "tokenizer.model alone", "save"),
    "no fast form": (only(tokenizer_class="ByT5Tokenizer"), "ByT5Tokenizer cannot be written", "tokenizer.json"),
    "no file": (only(), "no tokenizer: none of tokenizer.json, vocab.json, vocab.txt is there", "add tokenizer.json"),
    "no merges": (only("vocab.json"), "merges.txt is missing beside vocab.json", "add merges.txt of"),
    "no vocabulary": (only("merges.txt"), "vocab.json is missing beside merges.txt", "add vocab.json of"),
    "a class of nobody's": (only("vocab.json", "merges.txt", tokenizer_class="Fancy"), "as Fancy", "GPT2Tokenizer"),
    "a class of something else": (config(tokenizer_class="GPT2LMHeadModel"), "which is no tokenizer", "name the"),
    "no class's name": (config(tokenizer_class=3), "key tokenizer_class is 3", "tokenizer_config.json"),
    "a class of another kind": (config(tokenizer_class="T5Tokenizer"), "as T5Tokenizer", "PreTrainedTokenizerFast"),
    "an added token without a row": (
        lambda place: sources.add(place, added(67, "[PAD]")),
        "token '[PAD]' has id 67, config key vocab_size is 67",
        "take the token out of tokenizer.json, or give it a row where the model was trained",
    ),
    "an extra token without a row": (config(extra_special_tokens=["<img>"]), "token '<img>' has id 67", "take the"),
    "a class's own token": (
        renamed_but_not_said,
        f"token '{EOS}' has id 67",
        "GPT2Tokenizer adds it as bos_token and unk_token, because tokenizer_config.json does not name the model's own",
    ),
    "two tokens of one id": (
        table(lambda t: t["model"]["vocab"].update(zzz=5)), "have the same id, 5", "give each its own id"
    ),
    "a class that adds a hundred": (
        lambda place: sources.unigram(place, "T5Tokenizer"),
        "token '<extra_id_0>' has id 67", "T5Tokenizer adds it of itself: set tokenizer_class",
    ),
    "an empty token": (config(pad_token=""), "key pad_token is empty", "remove the key"),
    "a token far out": (
        table(lambda t: t["model"]["vocab"].update(zzz=2**31)), "'zzz' has id 2147483648", "remove the token"
    ),
    "a token far out in vocab.json": (
        far_out_in_vocab,
        "'zzz' has id 2147483648, more than any vocabulary has", "the number of its row",
    ),
    "a hole": (
        table(lambda t: (t["model"]["vocab"].pop("\u0120y"), t["model"]["merges"].pop())),
        "tokenizer has 66 tokens, config key vocab_size is 67",
        "source.padded_vocabulary",
    ),
    "a negative id": (table(lambda t: t["model"]["vocab"].update(zzz=-1)), "key model of type 'BPE'", "tokenizers"),
    "a model of tomorrow": (table(lambda t: t["model"].update(type="BPE2")), "key model of type 'BPE2'", "newer"),
    "a step of tomorrow": (
        table(lambda t: t.update(pre_tokenizer={"type": "Shiny"})),
        "key pre_tokenizer of type 'Shiny' cannot be read by tokenizers",
        "if a newer library wrote the file",
    ),
    "a version of tomorrow": (table(lambda t: t.update(version="2.0")), "Unknown tokenizer version '2.0'", "save"),
    "no model": (table(lambda t: t.update(model=None)), "key model is missing", "tokenizer.json"),
    "no added tokens": (table(lambda t: t.pop("added_tokens")), "key added_tokens is missing", '"added_tokens": []'),
    "a list": (content("tokenizer.json", lambda _: b"[]"), "not a tokenizer's table", "save_pretrained"),
    "an empty file": (content("tokenizer.json", lambda _: b""), "invalid JSON", "take the file again"),
    "a file cut off": (content("tokenizer.json", lambda text: text[:900]), "invalid JSON", "take the file again"),
    "a token twice": (
        content("tokenizer.json", lambda text: text.replace(b'"vocab": {', b'"vocab": {"a": 5,', 1)),
        "duplicate key 'a'", "tokenizer.json",
    ),
    "a pointer": (
        content("special_tokens_map.json", lambda _: b"version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer", "git lfs pull",
    ),
    "a mark in tokenizer.json": (marked("tokenizer.json"), "byte order mark", "without a byte order mark"),
    "a mark in merges.txt": (marked("merges.txt"), "byte order mark", "merges.txt"),
    "a random tokenizer": (table(lambda t: t["model"].update(dropout=0.1), FAST), "model.dropout is 0.1", "null"),
    "ids of nothing": (
        table(lambda t: t.update(post_processor={"type": "BertProcessing", "sep": ["x", 999], "cls": ["y", 998]})),
        "the tokenizer adds id 99", "post_processor",
    ),
    "no word for the unknown": (
        lambda place: sources.wordlevel(place, unknown="<none>"), "the tokenizer fails for the text", "unk_token"
    ),
    "special tokens split": (config(split_special_tokens=True), "split_special_tokens is true", "remove the key"),
    "tokens as bare objects": (
        config(eos_token={"content": EOS}), "key eos_token is an object", "correct the key"
    ),
    "a number as token": (config(pad_token=3), "key pad_token is 3, not a string", "tokenizer_config.json"),
    "no end": (config(eos_token=None), "tokenizer has no eos_token", "add eos_token to tokenizer_config.json"),
    "a text as length": (config(model_max_length="24"), "key model_max_length is '24'", "correct the key"),
    "a side of no batch": (config(padding_side="middle"), "key padding_side is 'middle'", "correct the key"),
    "ids as words": (config(added_tokens_decoder={"x": {"content": "a"}}), "key added_tokens_decoder", "correct"),
    "other versions of the table": (config(fast_tokenizer_files=["tokenizer.4.json"]), "names other files", "remove"),
    "a number as template": (config(chat_template=3), "key chat_template is no template", "string"),
    "a list of numbers as templates": (config(chat_template=[3]), "key chat_template is a list of other", "correct"),
    "a template in Latin-1": (
        content("chat_template.jinja", lambda _: "\u00e9".encode("latin-1")), "not UTF-8", "chat_template.jinja"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.checkpoint(tmp_path_factory.mktemp("plain") / "checkpoint")


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_what_to_do(name: str, plain: Path, tmp_path: Path) -> None:
    change, what, more = REFUSED[name]
    source = shutil.copytree(plain, tmp_path / "source")
    change(source)
    with pytest.raises(InputError) as caught:
        sources.write(source, tmp_path / "target")
    message = str(caught.value)
    assert what in message
    assert more in message
    assert str(source) in caught.value.where
    assert "fetch" not in message


def test_a_token_that_only_tokenizer_json_adds_is_named(tmp_path: Path) -> None:
    source = sources.checkpoint(tmp_path / "source", rows=68)
    sources.add(source, added(67, "<m>"))
    settings(source, added_tokens_decoder={"66": {"content": EOS, **sources.PLAIN, "special": True}})
    with pytest.raises(InputError) as caught:
        sources.write(source, tmp_path / "target")
    assert "list '<m>' in added_tokens_decoder of tokenizer_config.json too" in caught.value.hint


def test_the_reader_takes_no_file_of_this_machine(plain: Path, tmp_path: Path) -> None:
    source = shutil.copytree(plain, tmp_path / "source")
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"other": 0}))
    settings(source, vocab_file=str(other), merges_file=str(other), name_or_path=str(tmp_path))
    assert reader.load(source).get_vocab() == reader.load(plain).get_vocab()
