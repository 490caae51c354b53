"""An architecture keeps its contract, and nothing outside its folder knows what is only its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from model import architecture
from model.architecture import Configuration, FusedWriter, Gguf, Naming, ReferenceValues, Tiny, Writer
from model.architectures.gpt2 import config, fused, gguf, landmarks, reference_values, standard, tiny
from model.architectures.llama import config as llama_config
from model.architectures.llama import fused as llama_fused
from model.architectures.llama import gguf as llama_gguf
from model.architectures.llama import landmarks as llama_landmarks
from model.architectures.llama import reference_values as llama_reference_values
from model.architectures.llama import standard as llama_standard
from model.architectures.llama import tiny as llama_tiny
from model.architectures.neox import config as neox_config
from model.architectures.neox import fused as neox_fused
from model.architectures.neox import gguf as neox_gguf
from model.architectures.neox import landmarks as neox_landmarks
from model.architectures.neox import reference_values as neox_reference_values
from model.architectures.neox import standard as neox_standard
from model.architectures.neox import tiny as neox_tiny
from model.architectures.qwen import config as qwen_config
from model.architectures.qwen import fused as qwen_fused
from model.architectures.qwen import gguf as qwen_gguf
from model.architectures.qwen import landmarks as qwen_landmarks
from model.architectures.qwen import reference_values as qwen_reference_values
from model.architectures.qwen import standard as qwen_standard
from model.architectures.qwen import tiny as qwen_tiny
from model.contract import Dimensions
from pipeline import plugins
from pipeline.errors import InputError, RecipeError
from tests.conftest import ROOT
from tests.support.random_source import RandomSource

# What mypy holds to the contracts, part by part.
CONFIGURATIONS: tuple[Configuration, ...] = (config, llama_config, neox_config, qwen_config)
STANDARDS: tuple[Writer, ...] = (standard, llama_standard, neox_standard, qwen_standard)
FUSED: tuple[FusedWriter, ...] = (fused, llama_fused, neox_fused, qwen_fused)
NAMINGS: tuple[Naming, ...] = (landmarks, llama_landmarks, neox_landmarks, qwen_landmarks)
VALUES: tuple[ReferenceValues, ...] = (
    reference_values,
    llama_reference_values,
    neox_reference_values,
    qwen_reference_values,
)
GGUF: tuple[Gguf, ...] = (gguf, llama_gguf, neox_gguf, qwen_gguf)
TINIES: tuple[Tiny, ...] = (tiny, llama_tiny, neox_tiny, qwen_tiny)

DIMS = Dimensions(
    layers=3, hidden=24, heads=6, kv_heads=6, head_dim=4, context=16, vocabulary=30, parameters=0, tied=True
)
PRODUCT = ("benchmarks", "convert", "model", "pipeline", "publish", "quantize", "reconvert", "verify")
# Words that tensors' names and configs share with the whole field.
COMMON = {"weight", "bias", "h", "attn", "mlp", "model_type", "vocab_size", "bos_token_id", "eos_token_id"}
COMMON |= {"attention", "dense", "tie_word_embeddings", "lm_head", "model", "layers", "norm", "head_dim"}
# transformers' own spellings, which its config objects answer to whatever the architecture; genai's file has some.
COMMON |= {"hidden_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "num_key_value_heads"}


def test_sizes_follow_from_the_config_that_is_made_of_them() -> None:
    for own, made in zip(CONFIGURATIONS, TINIES, strict=True):
        found = asdict(own.dimensions(made.config(DIMS, 29), "config.json"))
        assert found.pop("parameters") > 0
        assert found == {key: value for key, value in asdict(DIMS).items() if key != "parameters"}


@pytest.mark.parametrize(
    ("own", "names", "made", "writer"),
    [
        (config, landmarks, tiny, fused),
        (llama_config, llama_landmarks, llama_tiny, llama_fused),
        (llama_config, llama_landmarks, llama_tiny, llama_standard),
        (neox_config, neox_landmarks, neox_tiny, neox_fused),
        (neox_config, neox_landmarks, neox_tiny, neox_standard),
        (qwen_config, qwen_landmarks, qwen_tiny, qwen_fused),
    ],
    ids=["gpt2", "llama", "llama-standard", "neox", "neox-standard", "qwen"],
)
def test_the_graph_has_every_landmark(own: Configuration, names: Naming, made: Tiny, writer: Writer) -> None:
    table = made.config(DIMS, 29)
    values = {str(value.name) for node in writer.build(RandomSource(own, table)).graph for value in node.outputs}
    tensors, at = own.tensors(table), names.landmarks(table)
    assert len(at.layers) == DIMS.layers
    modules = {at.embedding, at.final_norm, at.placed}
    for layer in at.layers:
        parts = (layer.query, layer.key, layer.value)
        facts = {key: value for key, value in vars(layer).items() if isinstance(value, str)}
        modules |= {*facts.values(), *(part.value for part in parts)}
        assert {f"{part.module}.weight" for part in parts} <= tensors.keys()
        norms = (layer.attention_norm, layer.feed_forward_norm)
        assert {f"{module}.weight" for module in (layer.up, layer.down, layer.out, *norms)} <= tensors.keys()
    assert modules <= values
    assert f"{at.embedding}.weight" in tensors


def own_words(name: str) -> Iterator[str]:
    """Words that only this architecture has: its types, classes, tensors, and keys of its config."""
    found = architecture.find(name)
    assert found.tiny is not None
    table = found.tiny.config(DIMS, 29)
    yield from (*found.model_types, *found.landmarks.MODULES)
    yield found.config.EPSILON
    yield from table
    yield from (word for tensor in found.config.tensors(table) for word in tensor.split(".") if not word.isdecimal())


def test_nothing_outside_its_folder_knows_an_architectures_words() -> None:
    for name in plugins.names(plugins.ARCHITECTURES):
        words = sorted({*own_words(name)} - COMMON)
        assert "c_attn" in words or name != "gpt2"
        spelt = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))}|gpt-?2)\b", re.IGNORECASE)
        for path in product_files():
            # The name of a recipe's file, in a hint, is no knowledge; nor is that of a program.
            text = re.sub(r"recipes/[\w.-]+\.toml|llama[.-]cpp", "", path.read_text(encoding="utf-8"))
            found = spelt.search(text)
            assert found is None, f"{path.relative_to(ROOT)} knows {found and found[0]!r} of {name}"


def product_files() -> Iterator[Path]:
    """Yield every file of code outside the architectures' folders."""
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*"):
            ours = path.suffix in (".py", ".mjs", ".j2", ".html", ".css") and "node_modules" not in path.parts
            if ours and not path.is_relative_to(ROOT / plugins.ARCHITECTURES):
                yield path


def test_facts_are_read_without_torch_and_without_any_writer_of_graphs() -> None:
    """The judge must not learn what is right from what it judges."""
    code = """
import sys
from model import architecture
import verify.explain.known, verify.faults.fault
own = architecture.find("gpt2")
own.config, own.landmarks, own.reference_values, own.gguf, own.tiny
print(*(name for name in sys.modules if name.endswith((".fused", ".standard")) or name in ("model.builder", "torch")))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_model_type_names_its_architecture() -> None:
    assert architecture.of_model_type("gpt2", "config.json").name == "gpt2"
    with pytest.raises(InputError, match="'gtp2', which no architecture stands for"):
        architecture.of_model_type("gtp2", "config.json")


def test_further_places_of_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(*folders: Any) -> None:
        monkeypatch.setenv("PIPELINE_ARCHITECTURES", ":".join(map(str, folders)))

    before = plugins.code_of("convert")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text('MODEL_TYPES = ("mine",)\n')
    place(tmp_path)
    assert plugins.names(plugins.ARCHITECTURES) == ("gpt2", "llama", "mine", "neox", "qwen")
    assert plugins.names("quantize/schemes") == plugins.names("quantize/schemes")
    assert plugins.code_of("convert") != before, "what it makes must be made again when it changes"
    for wrong in (tmp_path / "nowhere", "relative/path"):
        place(tmp_path, wrong)
        with pytest.raises(RecipeError, match="is no folder"):
            plugins.names(plugins.ARCHITECTURES)
    place(tmp_path, tmp_path)
    with pytest.raises(RecipeError, match="mine exists twice"):
        plugins.names(plugins.ARCHITECTURES)
