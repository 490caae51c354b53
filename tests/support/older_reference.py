"""Write what the transformers of Optimum's environment says of a checkpoint: `SOURCE END QUESTIONS ANSWERS`.

Logits and greedy tokens. A program for that environment; questions and answers are .npz files.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig


def main(source: str, end: str, questions: str, answers: str) -> None:
    asked = {name: torch.from_numpy(array) for name, array in np.load(questions).items()}
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    with torch.inference_mode():
        logits = model(**asked).logits
        model.generation_config = GenerationConfig()
        tokens = model.generate(
            input_ids=asked["input_ids"],
            attention_mask=asked["attention_mask"],
            generation_config=GenerationConfig(
                max_new_tokens=24, do_sample=False, eos_token_id=int(end), pad_token_id=int(end)
            ),
        )
    np.savez(answers, logits=logits.numpy(), tokens=tokens.numpy(), version=np.array(transformers.__version__))


if __name__ == "__main__":
    main(*sys.argv[1:])
