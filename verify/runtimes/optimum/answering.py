"""Answer the questions in Optimum's environment: with its model and tokenizer, and transformers' generate()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer, GenerationConfig

from model.session import NO_SPINNING, options
from pipeline.variants import FILES
from verify.check import Array
from verify.interop import lengths
from verify.interop.likeliest import top_of
from verify.interop.runtime import Answers, Task
from verify.runtimes.optimum import loadable

if TYPE_CHECKING:
    from verify.runtimes.optimum import Settings


def answer(task: Task, settings: Settings) -> Answers:
    """Greedy, sampled and beam-searched text, and the tokens of hard strings."""
    if loadable.reason(task.repository / "config.json") is not None:
        return {}
    quiet = options()
    quiet.add_session_config_entry(*NO_SPINNING)
    loader: Any = AutoTokenizer
    tokenizer = loader.from_pretrained(task.repository, padding_side="left", local_files_only=True)
    model = ORTModelForCausalLM.from_pretrained(
        task.repository,
        subfolder="onnx",
        file_name=FILES[task.variant],
        local_files_only=True,
        session_options=quiet,
    )
    questions = task.questions
    with torch.inference_mode():
        sampling = questions["sampling"]
        rules = {key: sampling[key] for key in ("temperature", "top_p", "top_k")}
        torch.manual_seed(sampling["seed"])
        sampled = _generate(model, tokenizer, sampling["texts"], questions, do_sample=True, **rules)
        parts = {
            "texts": [_greedy(model, tokenizer, group["texts"], questions) for group in task.groups("any")],
            "strings": [_encode(tokenizer, text) for text in questions["strings"]],
            "sampling": {"tokens": sampled["tokens"], "logits": sampled["logits"]},
            "beams": [_beam(model, tokenizer, text, questions) for text in questions["beams"]["texts"]],
            "lengths": [
                lengths.answer(question, tokenizer.pad_token_id, partial(_forward, model))
                for question in task.lengths("any")
            ],
        }
    return {"any": parts}


def _greedy(model: Any, tokenizer: Any, texts: Sequence[str], questions: Mapping[str, Any]) -> dict[str, Any]:
    found = _generate(model, tokenizer, texts, questions, do_sample=False)
    top = [top_of(logits) for logits in found["logits"]]
    return {"ids": found["ids"], "tokens": found["tokens"], "top": top}


def _forward(model: Any, ids: Array, mask: Array, positions: Array, cache: Any) -> tuple[Array, Any]:
    """One call of the model, as generate() makes it."""
    feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    output = model(**{name: torch.from_numpy(array) for name, array in feeds.items()}, past_key_values=cache)
    return np.asarray(output.logits.to(torch.float32)), output.past_key_values


def _beam(model: Any, tokenizer: Any, text: str, questions: Mapping[str, Any]) -> list[int]:
    """The new tokens of the best beam, up to and including the end token."""
    beams = questions["beams"]
    rules = {"num_beams": beams["number"], "max_new_tokens": beams["new_tokens"]}
    found = _generate(model, tokenizer, [text], questions, do_sample=False, **rules)
    tokens: list[int] = found["tokens"][0]
    last = next((at for at, token in enumerate(tokens) if token in questions["ends"]), len(tokens))
    return tokens[: last + 1]


def _generate(
    model: Any, tokenizer: Any, texts: Sequence[str], questions: Mapping[str, Any], **rules: Any
) -> dict[str, Any]:
    """The prompts' ids without padding, new tokens by row, logits float32 [rows, steps, vocabulary]."""
    inputs = tokenizer(list(texts), return_tensors="pt", padding=len(texts) > 1)
    config = GenerationConfig(
        eos_token_id=questions["ends"] or None,
        pad_token_id=tokenizer.pad_token_id,
        output_logits=True,
        return_dict_in_generate=True,
        **{"max_new_tokens": questions["new_tokens"], **rules},
    )
    result = model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        generation_config=config,
        use_model_defaults=False,  # as the reference: what a caller may add is not the model
    )
    pairs = zip(inputs.input_ids, inputs.attention_mask, strict=True)
    return {
        "ids": [row[mask == 1].tolist() for row, mask in pairs],
        "tokens": result.sequences[:, inputs.input_ids.shape[1] :].tolist(),
        "logits": np.asarray(torch.stack(result.logits, dim=1).to(torch.float32)),
    }


def _encode(tokenizer: Any, text: str) -> list[int] | None:
    try:
        return [int(token) for token in tokenizer(text, verbose=False)["input_ids"]]
    except (UnicodeEncodeError, TypeError):
        return None
