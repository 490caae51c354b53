"""Every tokenizer that transformers loads in fast form is written as transformers reads it, and verify passes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests.support import tokenizer_sources as sources
from tests.support.tiny_checkpoints import EOS
from tests.support.tokenizer_sources import ROWS, added, edit, remove, settings

Change = Callable[[Path], object]
TEXTS = (
    "",
    "the thin hat",
    " Hello,\n 42\t!",
    f"a {EOS} b<m> <m>c",
    "\u00e9\U0001f44d\u0000 [SEP] </s><s>",
    "w1 two words",
)
TOKEN = {"content": EOS, **sources.PLAIN}
STEP = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def table(change: Callable[[Any], object], name: str | None = None) -> Change:
    """A change of tokenizer.json, and of the class that reads it."""

    def made(directory: Path) -> None:
        edit(directory, "tokenizer.json", change)
        if name is not None:
            settings(directory, tokenizer_class=name)

    return made


def both(*changes: Change) -> Change:
    return lambda directory: [change(directory) for change in changes]


def config(*drop: str, **keys: Any) -> Change:
    return lambda directory: settings(directory, drop, **keys)


def without(*names: str) -> Change:
    return lambda directory: remove(directory, *names)


def extra(*tokens: dict[str, Any]) -> Change:
    return lambda directory: sources.add(directory, *tokens)


def file(name: str, content: Any) -> Change:
    return lambda directory: (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))


def pair(merge: Any) -> list[str]:
    return merge.split() if isinstance(merge, str) else list(merge)


def renamed(directory: Path) -> None:
    for name in sources.OWN:
        if (directory / name).is_file():
            path = directory / name
            path.write_text(path.read_text().replace(EOS, "</end>"))


def line_ends(end: str) -> Change:
    def change(directory: Path) -> None:
        path = directory / "merges.txt"
        path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))

    return change


FAST = "PreTrainedTokenizerFast"
NAMED = ("bos_token", "eos_token", "unk_token")
LISTED = {"66": {**TOKEN, "special": True}}
LIST = config(added_tokens_decoder=LISTED)
BOS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": EOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {EOS: {"id": EOS, "ids": [66], "tokens": [EOS]}},
}
PIECES = {"type": "WordPiece", "prefix": "##", "cleanup": True}
SAME = dict.fromkeys(("sep_token", "cls_token", "pad_token", "mask_token"), EOS)
PAD = {**TOKEN, "content": "[PAD]"}
CUT = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
FILLED = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 66, "pad_type_id": 0,
          "pad_token": EOS}  # fmt: skip

KEPT: dict[str, tuple[int, Change]] = {  # tokenizer.json is the source's, byte for byte
    "byte-level BPE": (ROWS, lambda _: None),
    "WordPiece": (ROWS, sources.wordpiece),
    "WordPiece without a class": (ROWS, lambda place: sources.wordpiece(place, FAST)),
    "Unigram": (ROWS, sources.unigram),
    "WordLevel": (ROWS, sources.wordlevel),
    "byte fallback without a class": (sources.BYTE_FALLBACK_ROWS, lambda place: sources.byte_fallback(place, FAST)),
    "a class of nobody's": (ROWS, config(tokenizer_class="FancyTokenizer")),
    "no class": (ROWS, config("tokenizer_class")),
    "null as class": (ROWS, config(tokenizer_class=None)),
    "saved by transformers 5": (
        ROWS,
        both(without("vocab.json", "merges.txt"), config(tokenizer_class="TokenizersBackend", backend="tokenizers")),
    ),
    "a list of extra tokens": (ROWS, config(extra_special_tokens=[EOS])),
    "extra tokens by names": (ROWS, config(extra_special_tokens={"image_token": EOS})),
    "merges as pairs": (ROWS, table(lambda t: t["model"].update(merges=[pair(m) for m in t["model"]["merges"]]))),
    "merges as texts": (
        ROWS,
        table(lambda t: t["model"].update(merges=[" ".join(pair(m)) for m in t["model"]["merges"]])),
    ),
    "a normalizer": (ROWS, table(lambda t: t.update(normalizer={"type": "Lowercase"}), FAST)),
    "several normalizers": (
        ROWS,
        table(
            lambda t: t.update(
                normalizer={
                    "type": "Sequence",
                    "normalizers": [
                        {"type": "Prepend", "prepend": "x"},
                        {"type": "Replace", "pattern": {"String": "a"}, "content": "b"},
                    ],
                }
            ),
            FAST,
        ),
    ),
    "a token at the beginning": (ROWS, table(lambda t: t.update(post_processor=BOS))),
    "no decoder": (ROWS, table(lambda t: t.update(decoder=None), FAST)),
    "another decoder": (ROWS, table(lambda t: t.update(decoder=PIECES), FAST)),
    "a space in front, without a class": (ROWS, table(lambda t: t.update(pre_tokenizer=STEP), FAST)),
    "added tokens with flags": (
        ROWS + 2,
        extra(added(67, "<m>", lstrip=True), added(68, "<n>", rstrip=True, normalized=True)),
    ),
    "odd added tokens": (ROWS + 3, extra(added(67, "two words"), added(68, "\U0001f44d"), added(69, "a\u0000b"))),
    "renamed tokens": (ROWS, renamed),
    "tokens as objects": (ROWS, config(**{name: {"__type": "AddedToken", **TOKEN} for name in NAMED})),
    "tokens in the map alone": (
        ROWS,
        both(
            config(*NAMED), file("special_tokens_map.json", dict.fromkeys(NAMED, EOS)), renamed
        ),
    ),
    "the map says another": (ROWS, both(LIST, file("special_tokens_map.json", {"eos_token": "t"}))),
    "no tokenizer_config.json": (ROWS, without("tokenizer_config.json")),
    "tokenizer.json alone": (ROWS, without(*sources.OWN[1:])),
    "a context without end": (ROWS, config(model_max_length=10**30)),
    "spaces cleaned up": (ROWS, config(clean_up_tokenization_spaces=True)),
    "a beginning that tokenizer.json does not add": (ROWS, config(add_bos_token=True)),
    "merges.txt from Windows": (ROWS, line_ends("\r\n")),
    "merges.txt of lines that no reader ends there": (ROWS, line_ends("\u2028")),
    "vocab.json of another": (ROWS, file("vocab.json", {"a": 1})),
    "added_tokens.json of another": (ROWS, both(LIST, file("added_tokens.json", {"<n>": 99}))),
    "files anywhere": (ROWS, config(vocab_file="/etc/passwd", tokenizer_file="/etc/passwd")),
    "keys of one class": (ROWS, config(legacy=True, use_default_system_prompt=False, sp_model_kwargs={})),
}  # fmt: skip

WRITTEN: dict[str, tuple[int, Change]] = {  # it is what the class makes of the source's
    "a token that the config adds": (ROWS + 1, config(added_tokens_decoder={**LISTED, "67": PAD})),
    "a token that added_tokens.json adds": (
        ROWS + 1,
        both(without("tokenizer.json"), file("added_tokens.json", {"<new>": 67})),
    ),
    "truncation": (ROWS, table(lambda t: t.update(truncation=CUT))),
    "padding": (ROWS, table(lambda t: t.update(padding=FILLED))),
    "a space in front, in tokenizer.json": (ROWS, table(lambda t: t.update(pre_tokenizer=STEP))),
    "a space in front, in the config": (ROWS, config(add_prefix_space=True)),
    "byte fallback": (sources.BYTE_FALLBACK_ROWS, sources.byte_fallback),
    "byte fallback, not legacy": (
        sources.BYTE_FALLBACK_ROWS,
        lambda place: sources.byte_fallback(place, "LlamaTokenizerFast", legacy=False),
    ),
    "vocab.json and merges.txt": (ROWS, without("tokenizer.json")),
    "vocab.json and merges.txt, with a beginning": (ROWS, both(without("tokenizer.json"), config(add_bos_token=True))),
    "dropout that the class drops": (ROWS, table(lambda t: t["model"].update(dropout=0.5))),
    "another class": (ROWS, config(tokenizer_class="RobertaTokenizer", **SAME)),
    "vocab.txt": (ROWS, sources.vocabulary_file),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Checkpoints by the rows of their embeddings."""
    home = tmp_path_factory.mktemp("checkpoints")
    return {
        rows: sources.checkpoint(home / str(rows), rows) for rows in {rows for rows, _ in (KEPT | WRITTEN).values()}
    }


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text to judge by."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("Fellow citizens, the thin hat is that thing.\n\nIt is 42, or so they say!\n" * 3)
    return path


@pytest.mark.parametrize("name", [*KEPT, *WRITTEN])
def test_what_is_written_is_what_transformers_reads(
    name: str, plain: dict[int, Path], short: Path, tmp_path: Path
) -> None:
    rows, change = (KEPT | WRITTEN)[name]
    source = shutil.copytree(plain[rows], tmp_path / "source")
    change(source)
    target = tmp_path / "target"
    sources.write(source, target, padded=rows > ROWS)
    loader: Any = AutoTokenizer
    wanted, again = (loader.from_pretrained(place, local_files_only=True) for place in (source, target))
    written = Tokenizer.from_file(str(target / "tokenizer.json"))
    for text in TEXTS:
        ids = wanted(text)["input_ids"]
        assert written.encode(text).ids == ids, text
        assert again(text)["input_ids"] == ids, text
        assert written.decode(ids) == wanted.decode(ids, skip_special_tokens=True), text
    assert sources.problems(source, target, short) == []
    own = source / "tokenizer.json"
    same = own.is_file() and own.read_bytes() == (target / "tokenizer.json").read_bytes()
    assert same == (name in KEPT)
