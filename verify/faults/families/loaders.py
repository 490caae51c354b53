"""Faults in the files beside the graph that hardly a text shows: what one loader reads, and a tokenizer does not."""

from __future__ import annotations

from typing import Any

from verify.faults.fault import FILES, Subject, fault
from verify.faults.surgery import beside, edit, required


def _added(content: str, index: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, **flags, "special": True}


@fault(place=FILES)
def padding_token_added(subject: Subject) -> None:
    """The tokenizer has a token for padding that the table has no entry for."""
    token = _added("<pad>", subject.dims.vocabulary)
    edit(subject, "tokenizer.json", lambda table: table["added_tokens"].append(token))


@fault(place=FILES)
def padding_token_added_elsewhere(subject: Subject) -> None:
    """A token is added in added_tokens.json, which only Python's tokenizers read."""
    (subject.files / "added_tokens.json").write_text(f'{{"<pad>": {subject.dims.vocabulary}}}', encoding="utf-8")


@fault(place=FILES)
def token_listed_in_the_config(subject: Subject) -> None:
    """The tokenizer's config lists an added token that the table has no entry for."""
    token = {key: value for key, value in _added("<pad>", 0).items() if key != "id"}
    listed = {str(subject.dims.vocabulary): token}
    edit(subject, "tokenizer_config.json", lambda table: table.setdefault("added_tokens_decoder", {}).update(listed))


@fault(place=FILES)
def merges_swapped_in_both_files(subject: Subject) -> None:
    """Two neighbouring merges have changed places in tokenizer.json and in merges.txt alike."""

    def swap(merges: list[Any]) -> None:
        at = len(merges) // 2
        merges[at], merges[at + 1] = merges[at + 1], merges[at]

    path = beside(subject, "merges.txt")
    edit(subject, "tokenizer.json", lambda table: swap(table["model"]["merges"]))
    first, *merges = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    swap(merges)
    path.write_text("\n".join([first, *merges, ""]), encoding="utf-8")


@fault(place=FILES)
def rare_character_replaced(subject: Subject) -> None:
    """The tokenizer replaces a pair of characters that no string of the check holds."""
    change = {"type": "Replace", "pattern": {"String": "\u2603x"}, "content": "y"}
    edit(subject, "tokenizer.json", lambda table: table.update(normalizer=change))


@fault(place=FILES)
def spaces_cleaned_up(subject: Subject) -> None:
    """Decoding takes spaces before punctuation away, which the source's tokenizer keeps."""
    edit(subject, "tokenizer_config.json", lambda table: table.update(clean_up_tokenization_spaces=True))


@fault(place=FILES)
def tokenizer_of_another_class(subject: Subject) -> None:
    """The tokenizer's config names another model's class, which loaders then build."""
    edit(subject, "tokenizer_config.json", lambda table: table.update(tokenizer_class="LlamaTokenizer"))


@fault(place=FILES)
def padding_token_unknown(subject: Subject) -> None:
    """The tokenizer's config pads with a text that is no token."""
    edit(subject, "tokenizer_config.json", lambda table: table.update({"pad_token": "<pad>"}))


@fault(place=FILES)
def chat_template_of_another_model(subject: Subject) -> None:
    """A chat template lies there that the source does not have."""
    (subject.files / "chat_template.jinja").write_text("[INST] {{ messages }} [/INST]", encoding="utf-8")


@fault(place=FILES)
def wrong_end_among_the_special_tokens(subject: Subject) -> None:
    """special_tokens_map.json names another end token."""
    edit(subject, "special_tokens_map.json", lambda table: table.update({"eos_token": "!"}))


@fault(place=FILES)
def sampled_unasked(subject: Subject) -> None:
    """Generation samples where the source's is greedy."""
    edit(subject, "generation_config.json", lambda table: table.update(do_sample=True))


@fault(place=FILES)
def padded_with_text(subject: Subject) -> None:
    """Rows of a batch that have ended are filled up with an ordinary token, which decoding shows."""
    edit(subject, "generation_config.json", lambda table: table.update(pad_token_id=subject.unseen[0]))


@fault(place=FILES)
def default_changed_in_the_config(subject: Subject) -> None:
    """The config sets what the source's leaves at its default."""
    edit(subject, "config.json", lambda table: table.update(is_encoder_decoder=True))


@fault(place=FILES)
def heads_by_another_name(subject: Subject) -> None:
    """The config states another number of heads, under the name that other architectures use."""
    own = subject.own.config
    alias = next((alias for alias, key in own.ALIASES.items() if key == own.HEADS), None)
    name = required(alias, "other name for the number of heads")
    edit(subject, "config.json", lambda table: table.update({name: 2 * subject.dims.heads}))


@fault(place=FILES)
def code_to_run(subject: Subject) -> None:
    """The config names code to run in another repository."""
    edit(subject, "config.json", lambda table: table.update(auto_map={"AutoConfig": "somebody/else--code.Config"}))


@fault(place=FILES)
def kernel_to_load(subject: Subject) -> None:
    """The config names a kernel in another repository, whose code a loader would run."""
    edit(subject, "config.json", lambda table: table.update(_attn_implementation_internal="somebody/kernel"))


@fault(place=FILES)
def code_to_generate(subject: Subject) -> None:
    """The generation settings name a way to generate that is another repository's code."""
    edit(subject, "generation_config.json", lambda table: table.update(custom_generate="somebody/else"))


@fault(place=FILES)
def code_to_tokenize(subject: Subject) -> None:
    """The tokenizer's config names code to run in another repository."""
    edit(subject, "tokenizer_config.json", lambda table: table.update(auto_map={"AutoTokenizer": ["x--code.X", None]}))


@fault(place=FILES)
def weights_said_to_be_quantized(subject: Subject) -> None:
    """The config says that the weights are quantized, so a loader looks for another form of them."""
    edit(subject, "config.json", lambda table: table.update(quantization_config={"quant_method": "gptq", "bits": 4}))


@fault(place=FILES)
def temperature_without_sampling(subject: Subject) -> None:
    """The generation settings have a temperature and do not sample: transformers refuses to save such settings."""
    edit(subject, "generation_config.json", lambda table: table.update(temperature=0.5))


@fault(place=FILES)
def second_end(subject: Subject) -> None:
    """Generation ends at another token too."""

    def add(table: Any) -> None:
        table["eos_token_id"] = [table["eos_token_id"], subject.unseen[0]]

    edit(subject, "generation_config.json", add)


@fault(place=FILES)
def null_for_genai(subject: Subject) -> None:
    """genai_config.json has a null, which genai cannot read."""
    edit(subject, "genai_config.json", lambda table: table["model"].update(pad_token_id=None))


@fault(place=FILES)
def wrong_end_for_genai(subject: Subject) -> None:
    """genai_config.json names another end token."""
    edit(subject, "genai_config.json", lambda table: table["model"].update(eos_token_id=subject.unseen[0]))


def _for_browsers(subject: Subject, **settings: Any) -> None:
    edit(subject, "config.json", lambda table: table.setdefault("transformers.js_config", {}).update(settings))


@fault(place=FILES)
def browsers_told_of_a_data_file(subject: Subject) -> None:
    """Transformers.js is told to fetch a file of weights beside the graph, and there is none."""
    _for_browsers(subject, use_external_data_format=True)


@fault(place=FILES)
def browsers_told_of_a_narrow_cache(subject: Subject) -> None:
    """Transformers.js is told that the cache is float16, as it is in other people's conversions."""
    _for_browsers(subject, kv_cache_dtype={"q4f16": "float16", "fp16": "float16"})
