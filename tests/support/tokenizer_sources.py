"""Tiny checkpoints with tokenizers of every kind; written as by convert and judged as by verify, without a graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from convert import repository
from model.architectures.gpt2 import config as gpt2
from model.checkpoint import read_config
from tests.conftest import EMBEDDED
from tests.support.tiny_checkpoints import random_model, write_tokenizer
from verify.candidate.session import Candidate
from verify.check import Case
from verify.checks import tokenizer as check
from verify.reference.corpus import Corpus
from verify.reference.model import Reference

ROWS = 67  # of the embedding, where nothing else is asked for
PLAIN = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
LETTERS = [chr(code) for code in range(97, 123)]
OWN = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
SPACE = "\u2581"  # how sentencepiece writes a space
Table = dict[str, Any]


def checkpoint(directory: Path, rows: int = ROWS) -> Path:
    """A checkpoint of one layer with `rows` rows in its embedding, and a byte-level BPE of 67 tokens in all files."""
    random_model(n_layer=1, vocab_size=rows, bos_token_id=66, eos_token_id=66).save_pretrained(directory)
    write_tokenizer(directory, ROWS)
    return directory


def edit(directory: Path, name: str, change: Callable[[Table], object]) -> None:
    """Change a JSON file; one that is not there begins empty."""
    path = directory / name
    table = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    change(table)
    path.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")


def settings(directory: Path, drop: Sequence[str] = (), **keys: Any) -> None:
    """Drop and set keys of tokenizer_config.json."""

    def change(table: Table) -> None:
        for key in drop:
            table.pop(key, None)
        table.update(keys)

    edit(directory, "tokenizer_config.json", change)


def remove(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).unlink(missing_ok=True)


def added(index: int, content: str, **flags: bool) -> Table:
    """An entry of added_tokens in tokenizer.json."""
    return {"id": index, "content": content, **PLAIN, "special": False, **flags}


def add(directory: Path, *tokens: Table) -> None:
    """Add tokens in tokenizer.json."""
    edit(directory, "tokenizer.json", lambda table: table["added_tokens"].extend(tokens))


def _replace(directory: Path, made: Tokenizer, **keys: Any) -> None:
    remove(directory, *OWN)
    made.save(str(directory / "tokenizer.json"))
    settings(directory, **keys)
    ids = {f"{name}_id": made.token_to_id(keys[name]) for name in ("bos_token", "eos_token")}
    for name in ("config.json", "generation_config.json"):
        edit(directory, name, lambda table: table.update(ids))


def _filled(words: Sequence[str], mark: str = "") -> list[str]:
    return [*words, *(f"{mark}w{number}" for number in range(ROWS - len(words)))]


def wordpiece(directory: Path, name: str = "BertTokenizer") -> None:
    """As Chinese GPT-2s have it: BERT's, with the ends of a text added, and [SEP] as the end token."""
    words = _filled(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)])
    made = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(words[:5])
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    named = {f"{key}_token": f"[{key.upper()}]" for key in ("unk", "pad", "cls", "sep", "mask")}
    _replace(directory, made, tokenizer_class=name, bos_token="[CLS]", eos_token="[SEP]", **named)


def vocabulary_file(directory: Path) -> None:
    """BERT's as its first releases had it: a line for each token, and no tokenizer.json."""
    wordpiece(directory)
    words = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    remove(directory, "tokenizer.json")


def unigram(directory: Path, name: str = "PreTrainedTokenizerFast") -> None:
    words = _filled(["<pad>", "</s>", "<unk>", SPACE, *LETTERS], SPACE)
    made = Tokenizer(models.Unigram([(word, -float(at % 17) - 1) for at, word in enumerate(words)], unk_id=2))
    made.normalizer, made.pre_tokenizer, made.decoder = (
        normalizers.NFKC(),
        pre_tokenizers.Metaspace(),
        decoders.Metaspace(),
    )
    made.add_special_tokens(words[:3])
    named = {"eos_token": "</s>", "bos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    _replace(directory, made, tokenizer_class=name, **named)


def wordlevel(directory: Path, unknown: str = "<unk>") -> None:
    words = _filled(["<unk>", "<s>", "</s>"])
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(words[:3])
    _replace(directory, made, tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>", eos_token="</s>")


def byte_fallback(directory: Path, name: str = "LlamaTokenizer", **keys: Any) -> None:
    """As transformers 4 saved Llama's: bytes for what no token has, a space and a token in front."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256)), SPACE, *LETTERS]
    merges = [(SPACE, letter) for letter in LETTERS]
    words += ["".join(pair) for pair in merges]
    vocabulary = {word: index for index, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    made.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(words[:3])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    _replace(directory, made, tokenizer_class=name, **{**named, "add_bos_token": True, "add_eos_token": False, **keys})


BYTE_FALLBACK_ROWS = 3 + 256 + 1 + 26 + 26


def write(source: Path, target: Path, *, padded: bool = False) -> None:
    """Write the files beside the graph as convert does, into a new directory."""
    target.mkdir()
    config = read_config(source / "config.json")
    dims = gpt2.dimensions(config, source / "config.json")
    repository.write(source, target, config, dims, allow_padded_vocabulary=padded)


def problems(source: Path, target: Path, text: Path = EMBEDDED.parent / "text" / "inaugural_heldout.txt") -> list[str]:
    """Return what verify's check `tokenizer` finds in the files beside a graph."""
    reference = Reference(source, allow_pickle=False)
    corpus = Corpus(text, reference.tokenizer, 0)
    (case,) = check.cases(reference, corpus, check.Settings(piece=5000))
    case = Case(case.name, facts=json.loads(json.dumps(case.facts)))  # as it reaches the candidate's process
    found = check.judge(Candidate(target / "onnx" / "model.onnx", "enable_all"), case)
    return [*found["tokens"], *found["texts"], *found["files"]]
