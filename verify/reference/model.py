"""The reference: the source checkpoint in raw PyTorch, float32, transformers' own eager attention. Never patched."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig

from model import checkpoint, generation, guard, pytorch, tokenizer
from model.architecture import Architecture, of_model_type
from model.contract import Dimensions
from model.landmarks import Landmarks
from pipeline.errors import InputError
from verify.check import Array


@dataclass(frozen=True)
class Answer:
    """Logits float32 [batch, sequence, vocabulary] and the cache after the call (transformers' own object)."""

    logits: Array
    cache: Any

    def present(self) -> dict[str, Array]:
        """Cache tensors as "<layer>.key" / "<layer>.value", float32 [batch, heads, length, head_dim]."""
        named = {}
        for index, layer in enumerate(self.cache.layers):
            named[f"{index}.key"] = layer.keys.numpy()
            named[f"{index}.value"] = layer.values.numpy()
        return named


class Reference:
    """The loaded source; raises InputError if it does not load completely."""

    def __init__(self, directory: Path, *, allow_pickle: bool, context: int | None = None) -> None:
        self.directory, self._context = directory, context
        settings = generation.stated(directory)
        self._model, told = pytorch.load(directory, allow_pickle=allow_pickle)
        self.tokenizer: Any = tokenizer.load(directory)
        self._require_all(told)
        tied = self.model.get_output_embeddings().weight is self.model.get_input_embeddings().weight
        self.model.config.tie_word_embeddings = tied  # a stored head of other values is kept, whatever the config says
        self.ends = generation.ids(settings.get("eos_token_id"), self.model.config.vocab_size)
        # A repetition penalty of the source's is a caller's choice, not the model; generate() would take it from here.
        self.model.generation_config = GenerationConfig(eos_token_id=generation.spelt(self.ends))

    def _require_all(self, info: Mapping[str, Any]) -> None:
        """InputError for tensors that transformers has made up or dropped, but for those that hold nothing new."""
        tied = bool(self.model.config.tie_word_embeddings)
        names = self.architecture.config.canonical_name
        problems = [str(name) for part in ("missing_keys", "mismatched_keys") for name in info[part]]
        problems += [str(name) for name in info["unexpected_keys"] if names(str(name), tied=tied) is not None]
        if problems:
            what = f"tensors do not match the config: {', '.join(sorted(problems))}"
            raise InputError(what, where=self.directory, hint=checkpoint.BELONGS)

    @property
    def model(self) -> Any:
        """The PyTorch model, whole."""
        return self._model

    @property
    def loaded_config(self) -> Any:
        """The checkpoint's config, as transformers has loaded it."""
        return self.model.config

    def by_entry(self) -> Array:
        """All token ids, int64 [vocabulary], from the smallest to the largest entry (norm) in the embedding's table."""
        table = self.model.get_input_embeddings().weight.detach().numpy()
        return np.argsort(np.linalg.norm(table, axis=1), kind="stable").astype(np.int64)

    @functools.cached_property
    def architecture(self) -> Architecture:
        """The architecture that the config's model_type names."""
        return of_model_type(self.loaded_config.model_type, self.directory / "config.json")

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The config as plain data, with all that its author left at a default."""
        table: dict[str, Any] = json.loads(json.dumps(self.loaded_config.to_dict(), default=str))
        return table

    @functools.cached_property
    def landmarks(self) -> Landmarks:
        """Return what the model's parts are called."""
        return self.architecture.landmarks.landmarks(self.config)

    @property
    def dimensions(self) -> Dimensions:
        """Sizes as the loaded model has them."""
        config = self.model.config
        heads = config.num_attention_heads
        return Dimensions(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            context=config.max_position_embeddings,
            vocabulary=config.vocab_size,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            tied=bool(config.tie_word_embeddings),
        )

    @property
    def context(self) -> int:
        """Positions of the longest texts that checks run: the model's own, or the fewer that a recipe says."""
        own = self.dimensions.context
        return own if self._context is None else min(own, self._context)

    @property
    def end(self) -> int | None:
        """The first of the tokens that end a text, with which batches are padded; None if there is none."""
        return self.ends[0] if self.ends else None

    @property
    def stated(self) -> dict[str, Any]:
        """The source's config.json as a converted model has it: no implementation chosen, tied as it is."""
        table = guard.plain(checkpoint.read_config(self.directory / "config.json"))
        known = {"tie_word_embeddings": self.dimensions.tied} if "tie_word_embeddings" in table else {}
        return {**table, **known}

    @torch.inference_mode()
    def forward(self, ids: Array, mask: Array, positions: Array, cache: Any = None, *, keep: int = 0) -> Answer:
        """One pass over int64 ids [batch, sequence], mask [batch, past + sequence], positions [batch, sequence].

        `keep` asks for the logits of the last positions only, 0 for all. The cache keeps every token, as a converted
        model's does; transformers' own would drop what lies before a window of attention.
        """
        result = self.model(
            input_ids=torch.from_numpy(np.asarray(ids)),
            attention_mask=torch.from_numpy(np.asarray(mask)),
            position_ids=torch.from_numpy(np.asarray(positions)),
            cache=DynamicCache() if cache is None else cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        return Answer(result.logits.numpy(), result.cache)

    @torch.inference_mode()
    def greedy(self, ids: Array, mask: Array, new_tokens: int) -> tuple[Array, Array]:
        """Transformers' own greedy generation of a left-padded batch, until every row ended or `new_tokens`.

        Returns the new tokens int64 [batch, steps] and the logits float32 [batch, steps, vocabulary] behind them.
        """
        return self._generate(ids, mask, max_new_tokens=new_tokens, do_sample=False)

    @torch.inference_mode()
    def sampled(
        self, ids: Array, mask: Array, new_tokens: int, sampling: Mapping[str, Any], seed: int
    ) -> tuple[Array, Array]:
        """Transformers' own sampling with torch's random numbers of `seed`; as `greedy`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._generate(ids, mask, max_new_tokens=new_tokens, do_sample=True, **sampling)

    def _generate(self, ids: Array, mask: Array, **options: Any) -> tuple[Array, Array]:
        plain = GenerationConfig(
            num_beams=1,
            eos_token_id=generation.spelt(self.ends),
            pad_token_id=self.end or 0,
            output_logits=True,
            return_dict_in_generate=True,
            **options,
        )
        result = self.model.generate(
            input_ids=torch.from_numpy(np.asarray(ids)),
            attention_mask=torch.from_numpy(np.asarray(mask)),
            generation_config=plain,
        )
        return result.sequences[:, ids.shape[1] :].numpy(), torch.stack(result.logits, dim=1).numpy()
