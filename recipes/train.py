"""Train a small model that comes with the project, and its tokenizer, from scratch, on a CPU.

    python -m recipes.train recipes/embedded-llama.toml [--output DIR] [--overwrite]

Run it from the project's root. The recipe says which architecture, of which sizes (`source.expect`), and where the
checkpoint lies. Progress and held-out perplexity go to stderr, the output path to stdout; exit code 2 is a usage error.
A run with the defaults gives the files committed here, up to the rounding of the machine's arithmetic.

The way of training is that of codelion/gpt-2-70m in small: AdamW (betas 0.9/0.95, weight decay 0.1), a cosine from 5e-4
to 5e-5 after 2 % of warm-up, bfloat16, gradient accumulation, clipping at 1.0, and a 50/30/20 mix of three sources. A
source is an era of the training speeches (early, middle, modern: a third of the speeches each), a document is a
paragraph, and ``<|endoftext|>`` follows every document, so that the model learns to end.

The text is the inaugural addresses of the presidents of the United States, 1789 to 2021 (public domain). The copy they
were taken from does not mark where a speech begins, so the 59 openings were found by reading. Of the speeches in order,
the 3rd, 8th, 13th ... 58th (1797, 1817, 1837 ... 2017: every twentieth year; a fifth of the text) are
``inaugural_heldout.txt``, the other 47 are ``inaugural_train.txt``. Neither the tokenizer nor the model is trained on
the held-out speeches. In both files one empty line separates paragraphs and two separate speeches; dashes, quotes and
ellipses that were wrongly encoded in the copy are ASCII. The steps are what a quarter of an hour allows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import run
from pipeline.errors import PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import GPT2Tokenizer, PreTrainedModel

    from model.contract import Dimensions

TEXT = Path("recipes/text")
END = "<|endoftext|>"
MIX = (0.5, 0.3, 0.2)  # early, middle, modern
WARM_UP = 0.02
# Of residuals and embeddings, where an architecture has it, while training; the stored configuration says 0.0. None on
# attention, which would double the time of a step.
DROPOUT = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.0}
MICRO_BATCH, ACCUMULATION = 2, 2  # contexts a step: 1024 tokens for a context of 256
EVALUATE_EVERY = 200
THREADS, SEED = 1, 0  # one thread: no sum depends on the number of cores, and the model is too small to gain much
PROMPTS = ("My fellow citizens,", "The Constitution of the United States", "We must")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.train", description="Train a recipe's small model.")
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe with the model's architecture and sizes")
    parser.add_argument("--output", type=Path, metavar="DIR", help="directory (where the recipe has its checkpoint)")
    parser.add_argument("--overwrite", action="store_true", help="replace the model's files in an existing directory")
    parser.add_argument("--steps", type=int, default=2400, metavar="N", help="optimizer steps (%(default)s)")
    parser.add_argument("--rate", type=float, default=5e-4, metavar="R", help="peak of the learning rate (%(default)s)")
    options = parser.parse_args(arguments)
    if not TEXT.is_dir():
        parser.error(f"no {TEXT} here: run this from the project's root")
    return options


def read_speeches(path: Path) -> list[list[str]]:
    """Return the speeches of a file, each as the list of its paragraphs."""
    text = path.read_text(encoding="utf-8").strip()
    return [speech.split("\n\n") for speech in text.split("\n\n\n")]


def split_eras(speeches: list[list[str]]) -> list[list[str]]:
    """Return the paragraphs of the early, the middle and the modern third of the speeches."""
    bounds = [round(len(speeches) * third / 3) for third in range(4)]
    return [list(chain.from_iterable(speeches[start:stop])) for start, stop in pairwise(bounds)]


def train_tokenizer(documents: Iterable[str], dims: Dimensions) -> GPT2Tokenizer:
    """Train a byte-level BPE; the end-of-text token takes the vocabulary's last place, as in GPT-2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import GPT2Tokenizer

    draft = Tokenizer(models.BPE())
    draft.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=dims.vocabulary - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    draft.train_from_iterator(documents, trainer)
    learned = json.loads(draft.to_str())["model"]
    vocabulary = {**learned["vocab"], END: dims.vocabulary - 1}
    final = Tokenizer(models.BPE(vocab=vocabulary, merges=[(left, right) for left, right in learned["merges"]]))
    final.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    final.decoder = decoders.ByteLevel()
    final.post_processor = processors.ByteLevel(trim_offsets=False)
    names = {"bos_token": END, "eos_token": END, "unk_token": END}
    return GPT2Tokenizer(tokenizer_object=final, model_max_length=dims.context, **names)


def encode(tokenizer: GPT2Tokenizer, documents: Iterable[str]) -> list[Tensor]:
    """Return each document's tokens, the end-of-text token after them."""
    import torch

    encoded = (tokenizer.encode(document, verbose=False) for document in documents)
    return [torch.tensor([*tokens, tokenizer.eos_token_id]) for tokens in encoded]


def stream(documents: Sequence[Tensor], context: int) -> Iterator[Tensor]:
    """Yield full contexts without end: all documents in random order, one after another, then in another order."""
    import torch

    rest = documents[0][:0]
    while True:
        order: list[int] = torch.randperm(len(documents)).tolist()
        *blocks, rest = torch.cat([rest, *(documents[index] for index in order)]).split(context)
        yield from blocks


def draw(sources: Sequence[Iterator[Tensor]]) -> Tensor:
    """Return a micro-batch of full contexts, each from a source drawn by the mix."""
    import torch

    drawn: list[int] = torch.multinomial(torch.tensor(MIX), MICRO_BATCH, replacement=True).tolist()
    return torch.stack([next(sources[index]) for index in drawn])


def sizes(recipe: Recipe) -> Dimensions:
    """Return the sizes that a recipe expects; each head has keys and values of its own unless it says otherwise."""
    from model.contract import Dimensions

    wanted = {key: value for key, value in asdict(recipe.source.expect).items() if value is not None}
    del wanted["license"]
    alike = {"kv_heads": wanted["heads"], "head_dim": wanted["hidden"] // wanted["heads"]}
    return Dimensions(**{**alike, **wanted})


def build_model(recipe: Recipe, dims: Dimensions, end: int) -> PreTrainedModel:
    """Return the untrained model, in float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from model import architecture

    tiny = architecture.find(recipe.architecture).tiny
    if tiny is None:
        what = f"nobody has written how a small {recipe.architecture} is made"
        raise RecipeError(what, where=f"{recipe.path}: architecture", hint="add the architecture's part `tiny`")
    config = AutoConfig.for_model(**tiny.config(dims, end))
    for key in DROPOUT.keys() & config.to_dict().keys():
        setattr(config, key, DROPOUT[key])
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def mean_loss(model: PreTrainedModel, batch: Tensor) -> Tensor:
    """Return the mean cross-entropy of every token but the first of each row, given those before it."""
    from torch.nn.functional import cross_entropy

    logits = model(batch, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def perplexity(model: PreTrainedModel, tokens: Tensor) -> float:
    """Return the perplexity per token over consecutive windows of one context, in the weights' own precision."""
    import torch

    windows = [window for window in tokens.split(model.config.max_position_embeddings) if len(window) > 1]
    model.eval()
    with torch.inference_mode():
        total = sum(mean_loss(model, window[None]).item() * (len(window) - 1) for window in windows)
    return math.exp(total / sum(len(window) - 1 for window in windows))


def rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine down to a tenth."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - 1 - warm_up)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def take_step(model: PreTrainedModel, optimizer: Optimizer, sources: Sequence[Iterator[Tensor]]) -> float:
    """Do one optimizer step over several micro-batches and return their mean loss."""
    import torch

    model.train()
    total = 0.0
    for _ in range(ACCUMULATION):
        batch = draw(sources)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = mean_loss(model, batch) / ACCUMULATION
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total


def train(
    model: PreTrainedModel, sources: Sequence[Iterator[Tensor]], heldout: Tensor, steps: int, peak: float
) -> None:
    """Train the model in place, reporting held-out perplexity before, at intervals and after."""
    import torch
    from tqdm import tqdm

    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.1)
    tqdm.write(f"step 0: held-out perplexity {perplexity(model, heldout):.2f}", sys.stderr)
    with tqdm(range(steps), unit="step") as bar:
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps, peak)
            bar.set_postfix(loss=f"{take_step(model, optimizer, sources):.3f}")
            if (step + 1) % EVALUATE_EVERY == 0 or step + 1 == steps:
                tqdm.write(f"step {step + 1}: held-out perplexity {perplexity(model, heldout):.2f}", sys.stderr)


def greedy(model: PreTrainedModel, tokenizer: GPT2Tokenizer, prompt: str) -> str:
    """Return a prompt and its greedy continuation, up to its end or the context's."""
    inputs = tokenizer(prompt, return_tensors="pt")
    generate: Any = model.generate  # transformers declares it for a module that may not have it
    tokens = generate(
        **inputs, max_length=model.config.max_position_embeddings, do_sample=False, pad_token_id=tokenizer.eos_token_id
    )
    return str(tokenizer.decode(tokens[0]))


def store(model: PreTrainedModel, tokenizer: GPT2Tokenizer, heldout: Tensor, output: Path) -> None:
    """Write the model in bfloat16 and without dropout, report on what was written, and move it into place at once."""
    from transformers import AutoModelForCausalLM

    for key in DROPOUT.keys() & model.config.to_dict().keys():
        setattr(model.config, key, 0.0)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".train-", dir=output.parent) as scratch:
        staged = Path(scratch) / "model"
        model.bfloat16().save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        stored = AutoModelForCausalLM.from_pretrained(staged).float()
        print(f"stored: {stored.num_parameters():,} parameters", file=sys.stderr)
        print(f"stored: held-out perplexity {perplexity(stored, heldout):.2f}", file=sys.stderr)
        for prompt in PROMPTS:
            print(f"greedy: {greedy(stored, tokenizer, prompt)}", file=sys.stderr)
        for file in staged.iterdir():
            file.chmod(0o644)  # safetensors writes 0600
        if output.exists():
            for file in sorted(staged.iterdir()):
                file.replace(output / file.name)
        else:
            staged.rename(output)


def place(options: argparse.Namespace, recipe: Recipe) -> Path:
    """Return where the model goes; a path that exists is refused unless overwriting is asked for."""
    output: Path = options.output or recipe.path.parent / (recipe.source.path or "")
    if output.exists() and not (options.overwrite and output.is_dir()):
        hint = "--overwrite replaces the model's files in a directory"
        raise RecipeError("exists already", where=output, hint=hint)
    return output


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, store, and print where."""
    options = parse(arguments)
    recipe = read_recipe(options.recipe)
    output = place(options, recipe)
    import torch

    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)
    eras = split_eras(read_speeches(TEXT / "inaugural_train.txt"))
    dims = sizes(recipe)
    tokenizer = train_tokenizer(chain.from_iterable(eras), dims)
    sources = [stream(encode(tokenizer, era), dims.context) for era in eras]
    heldout = torch.cat(encode(tokenizer, chain.from_iterable(read_speeches(TEXT / "inaugural_heldout.txt"))))
    model = build_model(recipe, dims, tokenizer.eos_token_id)
    train(model, sources, heldout, options.steps, options.rate)
    store(model, tokenizer, heldout, output)
    print(output)
    return PASSED


if __name__ == "__main__":
    sys.exit(run(main))
