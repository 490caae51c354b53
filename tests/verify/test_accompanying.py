"""The files beside a graph: what some loader reads is compared with the source; what says the same is let be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from transformers import AutoTokenizer

from model import architecture, generation
from model.contract import Dimensions
from pipeline.variants import model_file
from tests.conftest import EMBEDDED, ROOT, Stage
from tests.support.short_recipe import QWEN
from verify.candidate.session import Candidate
from verify.check import Case
from verify.checks import tokenizer
from verify.faults.fault import FILES, Fault, InapplicableError, Subject, catalogue
from verify.faults.surgery import edit
from verify.reference.corpus import Corpus
from verify.reference.model import Reference

SOURCE = ROOT / "recipes" / "embedded"
DIMS = Dimensions(
    layers=6, hidden=128, heads=4, kv_heads=4, head_dim=32, context=256, vocabulary=2000, parameters=1478656, tied=True
)
FAULTS = [entry for entry in catalogue().values() if entry.place == FILES]


@pytest.fixture(scope="module")
def case() -> Case:
    reference = Reference(SOURCE, allow_pickle=False)
    corpus = Corpus(EMBEDDED.parent / "text" / "inaugural_heldout.txt", reference.tokenizer, 0)
    (made,) = tokenizer.cases(reference, corpus, tokenizer.Settings())
    return Case(made.name, facts=json.loads(json.dumps(made.facts)))  # as it reaches the candidate's process


@pytest.fixture
def files(build: Path, tmp_path: Path) -> Subject:
    place = Path(
        shutil.copytree(build / "embedded" / "fp32", tmp_path / "candidate", ignore=shutil.ignore_patterns("*.onnx"))
    )
    (place / model_file("fp32")).hardlink_to(build / "embedded" / "fp32" / model_file("fp32"))
    own = architecture.find("gpt2")
    at = own.landmarks.landmarks(json.loads((SOURCE / "config.json").read_text()))
    return Subject("fp32", onnx.ModelProto(), place, DIMS, own, at, (2, 3, 4, 5))


def problems(files: Subject, case: Case) -> list[str]:
    found = tokenizer.judge(Candidate(files.files / model_file("fp32"), "enable_all"), case)
    refused = generation.refusal(found["generation"] or {})  # which `summarize` asks, where transformers is loaded
    return [*found["tokens"], *found["texts"], *found["files"], *([] if refused is None else [refused])]


@pytest.mark.parametrize("variant", ["fp32", "fp16", "q8", "int8", "uint8", "q4", "q4f16", "bnb4"])
def test_what_is_built_passes(variant: str, build: Path, case: Case) -> None:
    found = tokenizer.judge(Candidate(build / "embedded" / variant / model_file(variant), "enable_all"), case)
    assert [*found["tokens"], *found["texts"], *found["files"]] == []


@pytest.mark.parametrize("entry", FAULTS, ids=lambda entry: entry.name)
def test_a_fault_beside_the_graph_is_named(entry: Fault, files: Subject, case: Case) -> None:
    entry.plant(files)
    assert problems(files, case)


def test_faults_beside_another_models_graph_are_planted_or_say_why_not(stage: Stage, tmp_path: Path) -> None:
    stage("convert", QWEN, "--build", tmp_path)
    made = tmp_path / "embedded-qwen" / "fp32"
    config = json.loads((made / "config.json").read_text())
    own, dims = architecture.of_config(config, made)
    at, skipped = own.landmarks.landmarks(config), {}
    for number, entry in enumerate(FAULTS):
        place = Path(shutil.copytree(made, tmp_path / str(number), ignore=shutil.ignore_patterns("*.onnx")))
        try:
            entry.plant(Subject("fp32", onnx.ModelProto(), place, dims, own, at, (2, 3, 4, 5)))
        except InapplicableError as error:
            skipped[entry.name] = str(error)
    assert skipped == {
        "merges_file_stale": "no merges.txt lies beside the graph",
        "merges_swapped_in_both_files": "no merges.txt lies beside the graph",
        "heads_by_another_name": "no other name for the number of heads",
    }


def fewer_statements(table: Any) -> None:
    for key in ("unk_token", "tokenizer_class", "added_tokens_decoder"):
        table.pop(key)


SAME: dict[str, tuple[str, Callable[[Any], object]]] = {
    "fast class": ("tokenizer_config.json", lambda table: table.update(tokenizer_class="GPT2TokenizerFast")),
    "padding on the left": ("tokenizer_config.json", lambda table: table.update(padding_side="left")),
    "greedy, said so": ("generation_config.json", lambda table: table.update(do_sample=False)),
    "no padding token": ("generation_config.json", lambda table: table.pop("pad_token_id")),
    "a default, said so": ("config.json", lambda table: table.update(is_encoder_decoder=False, pad_token_id=1999)),
    "an alias": ("config.json", lambda table: table.update(num_attention_heads=4, hidden_size=128)),
    "nothing for browsers": ("config.json", lambda table: table.pop("transformers.js_config")),
    "a dtype for browsers": ("config.json", lambda table: table.update({"transformers.js_config": {"dtype": "q4"}})),
    "merges as texts": (
        "tokenizer.json",
        lambda table: table["model"].update(merges=[" ".join(pair) for pair in table["model"]["merges"]]),
    ),
    "special token outside the vocabulary": (
        "tokenizer.json",
        lambda table: table["model"]["vocab"].pop("<|endoftext|>"),
    ),
    "empty affixes": ("tokenizer.json", lambda table: table["model"].update(end_of_word_suffix="")),
}


@pytest.mark.parametrize("name", SAME)
def test_what_says_the_same_passes(name: str, files: Subject, case: Case) -> None:
    edit(files, *SAME[name])
    assert problems(files, case) == []


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(files: Subject, case: Case) -> None:
    (files.files / "tokenizer.json").unlink()
    os.mkfifo(files.files / "tokenizer.json")
    assert "tokenizer.json is missing" in problems(files, case)


def test_files_that_the_library_has_saved_again_pass(files: Subject, case: Case) -> None:
    loader: Any = AutoTokenizer
    loader.from_pretrained(SOURCE).save_pretrained(files.files)
    assert problems(files, case) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer.json", lambda table: table["model"].update(vocab=[])),
        ("tokenizer.json", lambda table: table.update(added_tokens=[{}])),
        ("tokenizer_config.json", lambda table: table.update(added_tokens_decoder=[1], chat_template=[3])),
        ("tokenizer_config.json", lambda table: table.update(pad_token=[], tokenizer_class={})),
        ("special_tokens_map.json", lambda table: table.update(eos_token=None, pad_token={"a": 1})),
        ("config.json", lambda table: table.update({"transformers.js_config": {"device_config": {"wasm": 3}}})),
        ("config.json", lambda table: table.update({"transformers.js_config": {"dtype": {"model": ["q4"]}}})),
        ("generation_config.json", lambda table: table.update(pad_token_id=[1])),
        ("vocab.json", lambda table: table.update({"!": None})),
        ("genai_config.json", lambda table: table.update(model=3)),
    ],
)
def test_nonsense_is_named_and_stops_nothing(
    name: str, change: Callable[[Any], object], files: Subject, case: Case
) -> None:
    edit(files, name, change)
    assert problems(files, case)
