"""Say what transformers makes of a checkpoint's config: the one object that convert and the reference go by."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import guard
from model.architecture import wrong_key
from model.checkpoint import read_config
from pipeline.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# What transformers' general code acts on, whether the config's own class knows it or not.
STRUCTURE = ("attention_chunk_size", "head_dim", "layer_types", "num_key_value_heads", "per_layer_config",
             "sliding_window")  # fmt: skip
HINT = "correct the key that it names, or remove it if transformers' default is meant"


def configuration(config: Mapping[str, Any], where: object) -> PreTrainedConfig:
    """Return transformers' own object for a config.json, of which a model can be made with eager attention.

    Keys that choose an implementation are left out (model.guard). Raises InputError when transformers refuses the rest.
    Nothing is allocated.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for key in ("dtype", "torch_dtype"):
        named = str(config.get(key) or "float32").removeprefix("torch.")
        if named != "auto" and not isinstance(getattr(torch, named, None), torch.dtype):
            raise wrong_key(where, key, config[key], "a type of PyTorch, such as float32, or absent")
    try:
        kind = CONFIG_MAPPING[config["model_type"]]
        _refuse_foreign(config, kind, where)
        own = kind.from_dict(guard.plain(config))
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(deepcopy(own), attn_implementation="eager", trust_remote_code=False)
    except InputError:
        raise
    except Exception as error:  # its validation raises whatever a value meets first
        what = f"transformers refuses this config: {said(error)}"
        raise InputError(what, where=where, hint=HINT) from error
    result: PreTrainedConfig = own
    return result


def load(directory: Path) -> Any:
    """Return transformers' own model of a checkpoint, float32; InputError for a config that asks for code."""
    import torch
    from transformers import AutoModelForCausalLM

    path = directory / "config.json"
    own = configuration(read_config(path), path)
    return AutoModelForCausalLM.from_pretrained(
        directory, config=own, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )


def _refuse_foreign(config: Mapping[str, Any], kind: type[PreTrainedConfig], where: object) -> None:
    """InputError for a key of other architectures' that would change how transformers runs this one."""
    known = {field.name for field in fields(kind)} | {*kind.attribute_map}
    for key in STRUCTURE:
        if config.get(key) is not None and key not in known:
            what = f"config key {key} is {config[key]!r}, which {config['model_type']} does not have"
            raise InputError(what, where=where, hint=f"remove {key}, or use a checkpoint of the architecture it is of")


def said(error: BaseException) -> str:
    """Return a library's message on one line, no longer than a reader wants it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
