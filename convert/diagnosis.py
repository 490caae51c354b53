"""Say what a checkpoint is whose tensors its config does not ask for: wrapped, packed, or with other heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from model.checkpoint import BELONGS, FLOATS, Tensor
from pipeline.errors import InputError

# What a wrapper puts in front of every name: who does it, and how the model is saved without it.
WRAPPERS = {
    "_orig_mod.": ("torch.compile", "model._orig_mod.save_pretrained(DIRECTORY)"),
    "_fsdp_wrapped_module.": ("FSDP", "gather a full state dict and save that of the module inside"),
    "_forward_module.": ("Lightning or DeepSpeed", "model.module.save_pretrained(DIRECTORY)"),
    "module.": ("DataParallel or DistributedDataParallel", "model.module.save_pretrained(DIRECTORY)"),
    "base_model.model.": ("PEFT", "model.merge_and_unload().save_pretrained(DIRECTORY)"),
    "pretrained_model.": ("TRL's model with a value head", "model.pretrained_model.save_pretrained(DIRECTORY)"),
    "model.": ("a module that holds the model (Lightning)", "module.model.save_pretrained(DIRECTORY)"),
}
ADAPTED = (".lora_A.", ".lora_B.", ".lora_embedding_", ".base_layer.", ".modules_to_save.")
# Ends of names that only packed weights have: what packed them.
PACKED = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".absmax": "bitsandbytes, 4 bits",
    ".quant_map": "bitsandbytes, 4 bits",
    ".SCB": "bitsandbytes, 8 bits",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "float8 with scales",
    ".weight_scale_inv": "float8 with scales",
    ".scales": "MLX",
}
HEADS = {
    "v_head.": "a value head (TRL)",
    "score.": "a classification head",
    "classifier.": "a classification head",
    "qa_outputs.": "a question answering head",
    "multiple_choice_head.": "a multiple choice head",
}
FULL = "in float32, float16 or bfloat16, which float32 holds exactly"


def refuse_packed(tensors: Mapping[str, Tensor], where: Path) -> None:
    """InputError for weights that something has quantized, named by what only its files have."""
    hint = f"start from the checkpoint before quantization, or dequantize it and save it {FULL}"
    for end, who in PACKED.items():
        name = next((name for name in sorted(tensors) if name.endswith(end)), None)
        if name is not None:
            raise InputError(f"weights are packed: tensor {name} is of {who}", where=where, hint=hint)
    for name, tensor in sorted(tensors.items()):
        if tensor.dtype.startswith("F8"):
            raise InputError(f"weights are float8: tensor {name} is {tensor.dtype}", where=where, hint=hint)


def refuse_wrapped(stored: Collection[str], wanted: Collection[str], where: Path) -> None:
    """InputError for names that a wrapper has put something in front of, or an adapter that was not merged."""
    first = next((name for name in sorted(stored) if any(mark in name for mark in ADAPTED)), None)
    if first is not None:
        hint = "merge the adapter and save the result: model.merge_and_unload().save_pretrained(DIRECTORY)"
        raise InputError(f"tensor {first} is an adapter's (PEFT), not merged into the model", where=where, hint=hint)
    for prefix, (who, how) in WRAPPERS.items():
        under = {name.removeprefix(prefix) for name in stored if name.startswith(prefix)}
        if under and not any(name.startswith(prefix) for name in wanted) and len(under) > len(stored) // 2:
            what = f"names of tensors begin with {prefix!r}, which comes from {who}: {prefix}{min(under, key=len)}"
            raise InputError(what, where=where, hint=f"save the plain model: {how}")


def foreign(name: str, stored: str, where: Path) -> InputError:
    """Return the error for a tensor that the config has no place for; `stored` is how the file spells its name."""
    head = next((what for begin, what in HEADS.items() if stored.startswith(begin)), None)
    if head is None:
        return InputError(f"tensor {name} does not belong to this config", where=where, hint=BELONGS)
    what = f"tensor {stored} is {head}, which no graph of a language model has"
    return InputError(what, where=where, hint="save the language model without it, with save_pretrained of its class")


def refuse_dtype(name: str, tensor: Tensor, where: Path) -> None:
    """InputError for an element type that float32 does not hold exactly."""
    if tensor.dtype not in FLOATS:
        raise InputError(f"tensor {name} is {tensor.dtype}", where=where, hint=f"use a checkpoint {FULL}")
