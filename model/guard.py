"""Keys of a checkpoint's JSON files that run code or choose an implementation: refused, or ignored by name.

Nothing of a checkpoint is code to this pipeline. Both sides, what is converted and the reference that judges it, read
a file after `refuse`, and hand transformers only what `plain` leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import InputError

# Names of kernels that transformers has itself. Any other may be a repository on the Hub, whose code it would load.
KERNELS = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "paged_attention")
ATTENTION = ("_attn_implementation_internal", "_attn_implementation", "attn_implementation")
QUANTIZED = ("quantization_config", "compression_config", "quantization")
# They ask for code, or for another implementation, and change nothing here: no loader of ours looks at them.
IGNORED = ("trust_remote_code", "custom_pipelines", "custom_generate", "use_kernels", "fusion_config",
           "distributed_config", "_experts_implementation", "_experts_implementation_internal",
           "experts_implementation", *ATTENTION)  # fmt: skip
FOREIGN = frozenset((*IGNORED, "auto_map", *QUANTIZED))
# What a caller of PyTorch's model wants to be given: no part of a model.
CALLERS = ("dtype", "torch_dtype", "return_dict", "use_return_dict", "output_attentions", "output_hidden_states")
OWN_CODE = (
    "code of a repository is never run: use a checkpoint whose model_type transformers has itself; for this one, "
    "somebody would have to read its code and write a folder in model/architectures"
)


def refuse(config: Mapping[str, Any], where: object) -> None:
    """Raise InputError, naming the key, for one that asks to run code or for weights in another form."""
    for key, value in _entries(config):
        if key == "auto_map" and value is not None:
            what = f"key auto_map asks to run code from the repository{_asked(value, config.get('model_type'))}"
            raise InputError(what, where=where, hint=OWN_CODE)
        if key in ATTENTION and value not in KERNELS:
            what = f"key {key} asks for the kernel {value!r}, which is code"
            raise InputError(what, where=where, hint=f"remove {key}: the model is the same without it")
        if key == "transformers_weights" and value is not None:
            hint = f"remove {key}, and name the file that it means model.safetensors"
            raise InputError(f"key {key} names other weights: {value!r}", where=where, hint=hint)
        if key in QUANTIZED and value:
            method = value.get("quant_method") if isinstance(value, dict) else None
            named = f" (quant_method {method!r})" if method else ""
            hint = "start from the checkpoint before quantization; `quantize` makes small variants of that"
            raise InputError(f"config key {key} is {value!r}: quantized weights{named}", where=where, hint=hint)


def _asked(code: Any, kind: Any) -> str:
    """Name the classes that auto_map asks for, and the kind of model that they are, where they are names."""
    entries = code.values() if isinstance(code, Mapping) else ()
    listed = [name for entry in entries for name in (entry if isinstance(entry, list) else [entry])]
    names = dict.fromkeys(name[:80] for name in listed if isinstance(name, str) and name.isprintable())
    model = f" of model_type {kind!r}" if isinstance(kind, str) and kind.isprintable() and len(kind) <= 80 else ""
    return f": {', '.join([*names][:3])}{model}" if names else ""


def foreign(config: Mapping[str, Any]) -> list[str]:
    """Return the keys, at any depth, that no converted model's files have: nobody here obeys them."""
    return sorted({key for key, value in _entries(config) if key in FOREIGN and value})


def stripped(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object without what asks for code or chooses an implementation, at any depth."""
    kept: dict[str, Any] = json.loads(json.dumps(table))
    for inner in _objects(kept):
        for key in FOREIGN & inner.keys():
            del inner[key]
    return kept


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config without what chooses an implementation and without a caller's wishes."""
    return {key: value for key, value in stripped(config).items() if key not in CALLERS}


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, those of inner objects too."""
    for inner in _objects(value):
        yield from inner.items()


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object within a JSON value, itself among them."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            yield inner
            waiting.extend(inner.values())
        elif isinstance(inner, list):
            waiting.extend(inner)
