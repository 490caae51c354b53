"""GGUF files: float32 written here from the checkpoint, the rest quantized from it by llama.cpp itself."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

from model import settings
from model.architecture import of_model_type

BASE: str | None = "f32"
TOOLS = ("llama-cpp-python", "gguf", "transformers", "torch")


def make(name: str, source: Path, base: Path, target: Path) -> None:
    """Write `model.gguf`: float32 from `source`, or the file type `name` from the float32 file in `base`."""
    if name == "f32":
        write(source, target / "model.gguf")
    else:
        quantize(base / "model.gguf", target / "model.gguf", name)


def quantize(source: Path, target: Path, name: str) -> None:
    """Quantize a float32 GGUF file with llama.cpp's own mixture for that file type; RuntimeError if it refuses."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(options))
    if code != 0:
        raise RuntimeError(f"llama_model_quantize returned {code}")


def write(source: Path, path: Path) -> None:
    """Write a checkpoint as a float32 GGUF file, with the tokenizer that its reader asks for.

    ValueError for a model that llama.cpp's graph does not compute, or that nobody has said how to write.
    """
    import gguf

    model = settings.load(source)
    config = model.config.to_dict()
    own = of_model_type(config["model_type"], source / "config.json")
    if own.gguf is None:
        raise ValueError(f"nobody has written how llama.cpp names the tensors of {own.name}")
    reason = own.gguf.unsupported(config)
    if reason is not None:
        raise ValueError(reason)
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    writer = own.gguf.writer(config, weights, path)
    writer.add_name(source.parent.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model(own.gguf.TOKENIZER[0])
    writer.add_tokenizer_pre(own.gguf.TOKENIZER[1])
    _add_tokenizer(writer, source, config["vocab_size"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, source: Path, vocabulary: int) -> None:
    """Tokens by id, their kinds and the merges; ids without a token (a padded embedding) get a name of their own."""
    import gguf
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(vocabulary)]
    kinds = [
        gguf.TokenType.CONTROL
        if index in special
        else gguf.TokenType.NORMAL
        if index in by_id
        else gguf.TokenType.UNUSED
        for index in range(vocabulary)
    ]
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    if tokenizer.eos_token_id is not None:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
