"""Test that what people bring is converted, and verify's reader agrees; or refused in helpful words. Never exit 70."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support import brought
from tests.support.brought import (
    END,
    HEAD,
    TABLE,
    Change,
    config,
    content,
    edited,
    generation,
    metadata,
    packed,
    prefixed,
    renamed,
    shards,
    tensors,
    together,
    without,
)
from tests.support.tiny_checkpoints import convert, deviation, open_session, write_checkpoint
from verify.candidate.session import Candidate
from verify.checks import tokenizer
from verify.reference.model import Reference

NO_END = "names no end token (eos_token_id)"
OUTSIDE = "50256 lies outside the vocabulary of 67"
KEPT = "the head is kept"
SEVERAL: dict[str, Any] = {"eos_token_id": [END, 5]}
BEYOND: dict[str, Any] = {"eos_token_id": 50256, "bos_token_id": 50256}
NOTHING: dict[str, Any] = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
QUOTED: dict[str, Any] = {"eos_token_id": "66"}
ALONE = without("generation_config.json")

# input -> what is changed, a warning that is printed (or none), entries of generation_config.json as written
CONVERTED: dict[str, tuple[Change, str | None, dict[str, Any]]] = {
    "two end tokens": (generation(**SEVERAL), None, {"eos_token_id": [END, 5], "pad_token_id": END}),
    "two end tokens, another first": (generation(eos_token_id=[5, END]),
        None, {"eos_token_id": [5, END], "pad_token_id": 5}),
    "a list of one end token": (generation(eos_token_id=[END, END]), None, {"eos_token_id": END}),
    "an empty list": (generation(eos_token_id=[]), NO_END, {"eos_token_id": None, "pad_token_id": END}),
    "two end tokens in config.json": (together(config(**SEVERAL), ALONE), None, {"eos_token_id": [END, 5]}),
    "two, and one in the other file": (config(**SEVERAL), None, {"eos_token_id": END}),
    "GPT-2's ids in config.json": (config(**BEYOND), f"config.json: eos_token_id {OUTSIDE}", {"eos_token_id": END}),
    "GPT-2's ids in both files": (together(config(**BEYOND), generation(**BEYOND)), OUTSIDE, {"eos_token_id": None}),
    "one id beyond": (generation(eos_token_id=[50256, END]), OUTSIDE, {"eos_token_id": END}),
    "ids of null": (generation(**NOTHING), NO_END, {"bos_token_id": None, "eos_token_id": None, "pad_token_id": END}),
    "no ids in generation_config.json": (generation(*NOTHING), NO_END, {"eos_token_id": None}),
    "no ids anywhere": (together(config(*NOTHING), ALONE), NO_END, {"eos_token_id": None, "pad_token_id": END}),
    "no ids in config.json": (config(*NOTHING), None, {"eos_token_id": END}),
    "no generation_config.json": (ALONE, None, {"eos_token_id": END, "pad_token_id": END}),
    "padded with -1": (generation(pad_token_id=-1), "pad_token_id -1 lies outside", {"pad_token_id": END}),
    "padded with -1 in config.json": (config(pad_token_id=-1), "pad_token_id -1 lies outside", {"pad_token_id": END}),
    "padded beyond": (generation(pad_token_id=67), "pad_token_id 67 lies outside", {"pad_token_id": END}),
    "padded by a token": (generation(pad_token_id=3), None, {"pad_token_id": 3}),
    "sampled": (generation(do_sample=True, temperature=0.7, top_k=9),
        None, {"do_sample": True, "temperature": 0.7, "top_k": 9}),
    "sampled, said in config.json": (together(config(do_sample=True, temperature=0.7), ALONE),
        None, {"do_sample": True, "temperature": 0.7}),
    "temperature without sampling": (generation(temperature=0.7, min_p=0.1, typical_p=0.5),
        None, {"temperature": None, "min_p": None}),
    "a beam's key without beams": (generation(length_penalty=0.5), None, {"length_penalty": None}),
    "several beams": (generation(num_beams=4, early_stopping=True), None, {"num_beams": 4, "early_stopping": True}),
    "outputs asked for": (generation(output_scores=True), None, {"output_scores": None}),
    "no metadata": (metadata(None), None, {}),
    "metadata without a format": (metadata({"made_by": "a merge script"}), None, {}),
    "format np": (metadata({"format": "np"}), None, {}),
    "format tf": (metadata({"format": "tf"}), None, {}),
    "format mlx": (metadata({"format": "mlx"}), None, {}),
    "another head": (tensors(lambda t: t.update({HEAD: t[TABLE] + torch.rand(t[TABLE].shape)})), KEPT, {}),
    "the head rounded": (tensors(lambda t: t.update({HEAD: t[TABLE].half()})), KEPT, {}),
    "the head twice": (tensors(lambda t: t.update({HEAD: t[TABLE].clone()})), None, {}),
    "the head alone": (tensors(lambda t: t.update({HEAD: t.pop(TABLE)})), None, {}),
    "old masks": (tensors(brought.buffers), None, {}),
    "types mixed": (together(brought.cast(torch.bfloat16, among=3), brought.cast(torch.float16, among=4)), None, {}),
    "shards": (shards(), None, {}),
    "a total that is wrong": (shards(total="much"), None, {}),
    "a pickle beside": (lambda d: torch.save({"a": torch.ones(1)}, d / "pytorch_model.bin"), None, {}),
    "an attention by name": (config(_attn_implementation="flash_attention_2"),
        "key _attn_implementation is ignored", {}),
    "an internal attention by name": (config(_attn_implementation_internal="sdpa"),
        "key _attn_implementation_internal is ignored", {}),
    "trust_remote_code": (config(trust_remote_code=True), "key trust_remote_code is ignored", {}),
    "trust_remote_code of a tokenizer": (edited("tokenizer_config.json", trust_remote_code=True),
        "key trust_remote_code is ignored", {}),
    "auto_map of a tokenizer": (edited("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.X", None]}),
        "tokenizer_config.json: key auto_map is ignored", {}),
    "custom pipelines": (config(custom_pipelines={"x": {"impl": "x.X"}}), "key custom_pipelines is ignored", {}),
    "quantized, as a tokenizer says": (edited("tokenizer_config.json", quantization_config={"a": 1}),
        "tokenizer_config.json: key quantization_config is ignored", {}),
    "trust_remote_code within": (config(inner=[{"trust_remote_code": True}]), "key trust_remote_code is ignored", {}),
    "a custom generate": (generation(custom_generate="someone/x"),
        "key custom_generate is ignored", {"custom_generate": None}),
    "experts": (config(experts_implementation="someone/x"), "key experts_implementation is ignored", {}),
    "a fusion": (config(fusion_config={"x": True}), "key fusion_config is ignored", {}),
    "tuples asked for": (config(return_dict=False, output_hidden_states="all"), None, {}),
    "n_ctx of another length": (config(n_ctx=1024), None, {}),
}  # fmt: skip

GPTQ = {".qweight": torch.int32, ".qzeros": torch.int32, ".scales": torch.float16}
NF4 = {".absmax": torch.float32, ".quant_map": torch.float32}
MLX = {".scales": torch.float16, ".biases": torch.float16}
PICKLED = "source.allow_pickle = true"
ELSEWHERE = "model.safetensors"
ADAPTER = without("config.json", ELSEWHERE)

# input -> what is changed, words of the message, words of its hint
REFUSED: dict[str, tuple[Change, str, str]] = {
    "end token as text": (generation(**QUOTED), "key eos_token_id is '66'", "or a list of such"),
    "end token as a fraction": (generation(eos_token_id=66.0), "key eos_token_id is 66.0", "the number of a token"),
    "end token true": (generation(eos_token_id=True), "key eos_token_id is True", "the number of a token"),
    "null among end tokens": (generation(eos_token_id=[END, None]), "key eos_token_id is [66, None]", "or a list"),
    "a list that begins": (generation(bos_token_id=[END]), "key bos_token_id is [66]", "the number of a token"),
    "end token as text in config.json": (config(**QUOTED), "field 'eos_token_id'", "correct the key"),
    "temperature 0": (generation(do_sample=True, temperature=0.0), "key temperature is 0.0", "a number above 0"),
    "no beams": (generation(num_beams=0), "key num_beams is 0", "a whole number from 1"),
    "settings that contradict": (generation(num_return_sequences=3), "`num_return_sequences`", "correct the key"),
    "no tokens to make": (generation(max_new_tokens=-1), "`max_new_tokens` must be greater than 0", "correct the key"),
    "settings as a list": (content("generation_config.json", b"[]"), "not a JSON object", "it must be an object"),
    "a head of another shape": (tensors(lambda t: t.update({HEAD: torch.ones(70, 32)})),
        "lm_head.weight of shape (70, 32) beside transformer.wte.weight of shape (67, 32)", "remove lm_head.weight"),
    "a head of integers": (tensors(lambda t: t.update({HEAD: t[TABLE].to(torch.int8)})),
        "tensor lm_head.weight is I8", "float32"),
    "no head though untied": (config(tie_word_embeddings=False),
        "tensor lm_head.weight is missing", "the same checkpoint"),
    "compiled": (prefixed("_orig_mod."),
        "begin with '_orig_mod.', which comes from torch.compile", "model._orig_mod.save_pretrained"),
    "DDP": (prefixed("module."), "begin with 'module.'", "model.module.save_pretrained"),
    "DDP of a compiled one": (prefixed("module._orig_mod."), "begin with 'module.'", "model.module.save_pretrained"),
    "FSDP": (prefixed("_fsdp_wrapped_module."), "which comes from FSDP", "full state dict"),
    "Lightning": (prefixed("model."), "begin with 'model.'", "module.model.save_pretrained"),
    "PEFT, merged": (prefixed("base_model.model."), "which comes from PEFT", "merge_and_unload"),
    "PEFT, not merged": (tensors(brought.unmerged), "is an adapter's (PEFT), not merged", "merge_and_unload"),
    "a value head": (tensors(lambda t: t.update({"v_head.summary.weight": torch.ones(1, 32)})),
        "tensor v_head.summary.weight is a value head (TRL)", "without it"),
    "a classification head": (tensors(lambda t: t.update({"score.weight": torch.ones(2, 32)})),
        "tensor score.weight is a classification head", "without it"),
    "float8": (brought.cast(torch.float8_e4m3fn), "weights are float8", "before quantization"),
    "MLX": (packed(MLX, keep=torch.uint32), "is of MLX", "before quantization"),
    "GPTQ": (packed(GPTQ), "is of GPTQ or AWQ", "before quantization"),
    "GPTQ, said so": (config(quantization_config={"quant_method": "gptq"}),
        "quantized weights (quant_method 'gptq')", "before quantization"),
    "MLX, said so": (config(quantization={"bits": 4}), "config key quantization is {'bits': 4}", "before quantization"),
    "bitsandbytes": (packed(NF4, keep=torch.uint8), "is of bitsandbytes, 4 bits", "before quantization"),
    "float64": (brought.cast(torch.float64), "is F64", "float32"),
    "complex numbers": (brought.cast(torch.complex64), "is C64", "float32"),
    "an adapter": (together(brought.adapter, ADAPTER),
        "its base is 'someone/base'", "merge it into its base 'someone/base'"),
    "an adapter beside its base": (brought.adapter,
        "an adapter lies beside the model", "move adapter_config.json away"),
    "pickled shards": (shards(pickled=True), "weights are pickled shards", PICKLED),
    "weights that the cache lost": (brought.dangling(ELSEWHERE),
        "a link to ../../blobs/0123456789abcdef", "download it again"),
    "settings that the cache lost": (brought.dangling("generation_config.json"), "a link to", "download it again"),
    "code": (config(auto_map={"AutoModelForCausalLM": "modeling_x.X"}, model_type="x"),
        "asks to run code from the repository: modeling_x.X of model_type 'x'", "a folder in model/architectures"),
    "code within": (config(text_config={"auto_map": {"AutoConfig": "x.X"}}),
        "key auto_map asks to run code", "never run"),
    "code of the settings": (generation(auto_map={"x": "y"}), "key auto_map asks to run code", "never run"),
    "a kernel": (config(_attn_implementation_internal="someone/kernel"),
        "key _attn_implementation_internal asks for the kernel", "remove _attn_implementation_internal"),
    "a kernel of another key": (config(_attn_implementation="someone/kernel"),
        "key _attn_implementation asks for the kernel", "remove"),
    "a type that is none": (config(dtype="evil"), "config key dtype is 'evil'", "a type of PyTorch"),
    "heads by layer": (config(per_layer_config={"0": {"n_head": 2}}),
        "per_layer_config is {'0': {'n_head': 2}}, which gpt2", "remove per_layer_config"),
    "use_cache as text": (config(use_cache="yes"), "Field 'use_cache' expected bool", "correct the key"),
    "labels as a list": (config(id2label=["x"]), "transformers refuses this config", "correct the key"),
    "a config of a list": (content("config.json", b"[1]"), "not a JSON object", "it must be an object"),
    "a byte order mark": (brought.begun("config.json", b"\xef\xbb\xbf"), "byte order mark", "as UTF-8 without"),
    "NaN": (brought.inserted('"x": NaN'), "NaN is not a JSON number", "correct that place in the file"),
    "infinity": (brought.inserted('"x": 1e999'), "not JSON compliant", "correct that place in the file"),
    "a key twice": (brought.inserted('"n_head": 2'), "duplicate key 'n_head'", "correct that place in the file"),
    "a number of 5,000 digits": (brought.inserted('"x": ' + "9" * 5000), "4300 digits", "take the file again"),
    "a page for a config": (content("config.json", brought.PAGE), "invalid JSON", "this is a web page"),
    "no config": (without("config.json"), "config.json is missing", "download config.json too"),
    "all in a directory below": (brought.inside, "not here, but in a directory below", "checkpoint-500"),
    "a pointer": (content(ELSEWHERE, brought.POINTER), "Git LFS pointer", "git lfs pull"),
    "a page": (content(ELSEWHERE, brought.PAGE), "it is a web page", "download the file itself"),
    "an error of the Hub": (content(ELSEWHERE, b"Entry not found"),
        "it is an error of the Hub", "may not have this file"),
    "a pickle by another name": (content(ELSEWHERE, b"PK\x03\x04" + bytes(99)), "a zip archive", "pytorch_model.bin"),
    "a file cut off": (lambda d: (d / ELSEWHERE).write_bytes((d / ELSEWHERE).read_bytes()[:-9]),
        "the file has", "fetch the checkpoint again"),
    "a download that broke off": (renamed(ELSEWHERE, f"{ELSEWHERE}.incomplete"),
        "a download that broke off", "to its end"),
    "consolidated": (renamed(ELSEWHERE, "consolidated.safetensors"), "under their first authors' names", "script"),
    "a variant": (renamed(ELSEWHERE, "model.fp16.safetensors"), "a variant of the weights", "rename it"),
    "another name": (renamed(ELSEWHERE, "weights.safetensors"), "weights by another name", "rename the file"),
    "TensorFlow": (renamed(ELSEWHERE, "tf_model.h5"), "weights for TensorFlow", "save_pretrained"),
    "Flax": (renamed(ELSEWHERE, "flax_model.msgpack"), "weights for Flax", "save_pretrained"),
    "llama.cpp": (renamed(ELSEWHERE, "model-q4.gguf"), "weights for llama.cpp", "made from"),
    "a shard without its index": (renamed(ELSEWHERE, "model-00001-of-00002.safetensors"),
        "without their index", "model.safetensors.index.json"),
    "a shard that is gone": (shards(gone=True), "is missing", "download 'model-0000"),
    "a tensor in two shards": (shards(twice=True), "is not listed there", "the index that was saved with these shards"),
    "a pointer for an index": (together(shards(), content("model.safetensors.index.json", brought.POINTER)),
        "Git LFS pointer", "git lfs pull"),
    "no tensors": (tensors(lambda t: t.clear()), "is missing", "the same checkpoint"),
    "a tensor by two names": (tensors(lambda t: t.update({"wpe.weight": t["transformer.wpe.weight"].clone()})),
        "is stored twice, as", "remove one"),
    "not a number": (tensors(lambda t: t[TABLE].fill_(float("nan"))), "holds NaN or Inf", "an earlier checkpoint"),
    "n_ctx alone": (config("n_positions", n_ctx=24), "config.json asks for (1024, 32)", "the same checkpoint"),
    "another inner width": (config(n_inner=64), "config.json asks for (32, 64)", "the same checkpoint"),
    "no model_type": (config("model_type"), "key model_type is missing", 'add "model_type"'),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("plain") / "checkpoint")


@pytest.fixture
def checkpoint(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "checkpoint"))


@pytest.mark.parametrize(("change", "warning", "wanted"), CONVERTED.values(), ids=CONVERTED.keys())
def test_what_is_converted_verify_reads_as_convert_does(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    warning: str | None,
    wanted: dict[str, Any],
) -> None:
    change(checkpoint)
    assert convert(checkpoint, tmp_path / "build") == 0
    said = capsys.readouterr().err
    home = tmp_path / "build" / "tiny"
    kept = json.loads((home / "fp32" / "manifest.json").read_text())["facts"].get("warnings", [])
    assert re.findall("^WARNING: (.*)", said, re.MULTILINE) == kept
    assert (bool(kept), (warning or "") in said) == (warning is not None, True)
    written = json.loads((home / "fp32" / "generation_config.json").read_text())
    assert ({key: written.get(key) for key in wanted}, differences(home)) == (wanted, [])


def differences(home: Path) -> list[str]:
    """Return what verify's reader finds otherwise in what convert has written: files, logits, the model."""
    reference = Reference(home / "source", allow_pickle=True)
    graph = home / "fp32" / "onnx" / "model.onnx"
    case = next(tokenizer.cases(reference, SimpleNamespace(text="the hat"), tokenizer.Settings()))
    partial = tokenizer.judge(Candidate(graph, "enable_all"), case)
    measures = tokenizer.summarize([partial], None, reference)
    found = [f"{measure.name}: {measure.detail}" for measure in measures if measure.value]
    gap = deviation(reference.model, open_session(graph, "ORT_ENABLE_ALL"), [9, 4], [9])
    manifest = json.loads((home / "source" / "manifest.json").read_text())
    stated = manifest["facts"]["dimensions"]
    found += [] if gap <= 1e-5 else [f"logits differ by {gap}"]
    return found + ([] if stated["tied"] == reference.dimensions.tied else ["tied"])


@pytest.mark.parametrize(("change", "what", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_named_with_what_to_do(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, what: str, hint: str
) -> None:
    change(checkpoint)
    assert convert(checkpoint, tmp_path / "build") == 3
    said = capsys.readouterr().err
    error, _, advice = said.partition("  to do: ")
    assert what in error
    assert hint in advice
    assert ("fetch the checkpoint again" in advice) is (hint == "fetch the checkpoint again")  # bytes are damaged
    assert not (tmp_path / "build" / "tiny" / "fp32").exists()


def test_pickled_shards_are_read_when_the_recipe_allows_it(checkpoint: Path, tmp_path: Path) -> None:
    shards(pickled=True)(checkpoint)
    assert convert(checkpoint, tmp_path / "build", "allow_pickle = true") == 0
    assert differences(tmp_path / "build" / "tiny") == []


def test_a_head_that_is_kept_is_stated_in_the_config(checkpoint: Path, tmp_path: Path) -> None:
    tensors(lambda table: table.update({HEAD: table[TABLE] + 1}))(checkpoint)
    assert convert(checkpoint, tmp_path / "build") == 0
    written = json.loads((tmp_path / "build" / "tiny" / "fp32" / "config.json").read_text())
    assert written["tie_word_embeddings"] is False


def test_genai_is_told_no_null(checkpoint: Path, tmp_path: Path) -> None:
    generation(**NOTHING)(checkpoint)
    assert convert(checkpoint, tmp_path / "build") == 0
    model = json.loads((tmp_path / "build" / "tiny" / "fp32" / "genai_config.json").read_text())["model"]
    assert {key: model[key] for key in NOTHING if key in model} == {"pad_token_id": END}
