"""Faults beside the graph: tokenizer, configuration, generation settings."""

from __future__ import annotations

from typing import Any

from verify.faults.fault import FILES, Subject, fault
from verify.faults.surgery import beside, edit


def _merges(table: Any) -> list[Any]:
    merges: list[Any] = table["model"]["merges"]
    return merges


@fault(place=FILES)
def merges_in_wrong_order(subject: Subject) -> None:
    """Two frequent merges of the tokenizer have changed places."""

    def swap(table: Any) -> None:
        merges = _merges(table)
        merges[0], merges[40] = merges[40], merges[0]

    edit(subject, "tokenizer.json", swap)


@fault(place=FILES)
def neighbouring_merges_swapped(subject: Subject) -> None:
    """Two neighbouring merges in the middle of the list have changed places: hardly a text shows it."""

    def swap(table: Any) -> None:
        merges = _merges(table)
        at = len(merges) // 2
        merges[at], merges[at + 1] = merges[at + 1], merges[at]

    edit(subject, "tokenizer.json", swap)


@fault(place=FILES)
def merge_lost(subject: Subject) -> None:
    """The last merge is missing."""
    edit(subject, "tokenizer.json", lambda table: _merges(table).pop())


@fault(place=FILES)
def merges_file_stale(subject: Subject) -> None:
    """merges.txt, which only the Python tokenizer reads, is of another tokenizer."""
    path = beside(subject, "merges.txt")
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[5], lines[6] = lines[6], lines[5]
    path.write_text("\n".join(lines), encoding="utf-8")


@fault(place=FILES)
def two_tokens_exchanged(subject: Subject) -> None:
    """Two rare tokens of the vocabulary have each other's ids."""

    def swap(table: Any) -> None:
        vocabulary = table["model"]["vocab"]
        first, second = (next(key for key, index in vocabulary.items() if index == at) for at in subject.unseen[:2])
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]

    edit(subject, "tokenizer.json", swap)


@fault(place=FILES)
def prefix_space_added(subject: Subject) -> None:
    """The tokenizer puts a space before every text."""
    edit(subject, "tokenizer.json", lambda table: table["pre_tokenizer"].update(add_prefix_space=True))


@fault(place=FILES)
def text_in_lower_case(subject: Subject) -> None:
    """The tokenizer turns all text into lower case."""
    edit(subject, "tokenizer.json", lambda table: table.update(normalizer={"type": "Lowercase"}))


@fault(place=FILES)
def text_truncated(subject: Subject) -> None:
    """The tokenizer cuts every text off after 64 tokens."""
    cut = {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
    edit(subject, "tokenizer.json", lambda table: table.update(truncation=cut))


@fault(place=FILES)
def decoder_missing(subject: Subject) -> None:
    """The tokenizer turns text into the right tokens, and tokens into the wrong text."""
    edit(subject, "tokenizer.json", lambda table: table.update(decoder=None))


@fault(place=FILES)
def special_token_ordinary(subject: Subject) -> None:
    """The end token is an ordinary token, which a text may hold and which decoding does not leave out."""

    def ordinary(table: Any) -> None:
        for token in table["added_tokens"]:
            token["special"] = False

    edit(subject, "tokenizer.json", ordinary)


@fault(place=FILES)
def tokenizer_of_another_model(subject: Subject) -> None:
    """A token of the vocabulary is spelt otherwise."""

    def rename(table: Any) -> None:
        vocabulary = table["model"]["vocab"]
        old = next(key for key, index in vocabulary.items() if index == subject.unseen[0])
        vocabulary[f"{old}{old}"] = vocabulary.pop(old)

    edit(subject, "tokenizer.json", rename)


@fault(place=FILES)
def wrong_end(subject: Subject) -> None:
    """Generation ends at another token than the model's."""
    edit(subject, "generation_config.json", lambda table: table.update(eos_token_id=13))


@fault(place=FILES)
def sampling_by_default(subject: Subject) -> None:
    """The generation settings sample, and punish repetition, where the source's do not."""
    edit(subject, "generation_config.json", lambda table: table.update(do_sample=True, repetition_penalty=1.3))


@fault(place=FILES)
def wrong_end_in_the_tokenizers_config(subject: Subject) -> None:
    """The tokenizer's config names another end token."""
    edit(subject, "tokenizer_config.json", lambda table: table.update({"eos_token": "!"}))


@fault(place=FILES)
def token_as_object(subject: Subject) -> None:
    """The end token is an object, which the loaders' templates print as such."""
    token = {"content": "<|endoftext|>"}
    edit(subject, "tokenizer_config.json", lambda table: table.update(eos_token=token))


@fault(place=FILES)
def wrong_length_in_the_tokenizers_config(subject: Subject) -> None:
    """The tokenizer's config allows texts of twice the context."""
    longest = 2 * subject.dims.context
    edit(subject, "tokenizer_config.json", lambda table: table.update(model_max_length=longest))


@fault(place=FILES)
def other_epsilon_in_the_config(subject: Subject) -> None:
    """The config states another epsilon than the source's."""
    edit(subject, "config.json", lambda table: table.update({subject.own.config.EPSILON: 1e-6}))


@fault(place=FILES)
def other_heads_in_the_config(subject: Subject) -> None:
    """The config states twice the heads: a loader would build a cache of another shape."""
    edit(subject, "config.json", lambda table: table.update({subject.own.config.HEADS: 2 * subject.dims.heads}))


@fault(place=FILES)
def config_missing(subject: Subject) -> None:
    """There is no generation_config.json."""
    (subject.files / "generation_config.json").unlink()
