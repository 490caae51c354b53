"""Mutants of whole checkpoint directories, through convert and then through verify's readers of what it wrote.

`python -m tests.fuzz_checkpoints --files N --seed S`. A mutant is known by its seed and number alone. What is found: an
exception that is no refusal, a refusal without words or about another file than the source's, a process that dies or
hangs, a checkpoint that convert takes and verify refuses or fails, or whose graph answers otherwise than PyTorch. With
TMPDIR in memory it takes a third less.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from pipeline import command
from pipeline.command import say
from pipeline.errors import PipelineError
from verify.run_checks import interval
from verify.sandbox import limits
from verify.sandbox.spawned import NoAnswerError, Spawned, answer_all

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.candidate.session import Candidate
    from verify.reference.model import Reference

LONGEST_S = 60.0  # for one mutant, on a busy machine; usually a second
MEMORY_GB = 12.0
HUGE = 1e9  # a weight from which products of several leave float32: each order of them then ends elsewhere
NEAR = 1e-4  # of the largest logit: what rounding in another order may change
TEXT = "A text of some words, 42 numbers and more.\n" * 40
DEEP = 40  # levels of nesting that one edit may add
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 66, 67, 2**31, 2**63, 2**70, 0.5, 1e308, float("nan"), float("inf"), "", "a",
    "gpt2", "é\u0000\ud800", "<|endoftext|>", [], {}, [0], [None], [66, 65], {"a": 1}, {"content": "<|endoftext|>"},
    [[]],
)  # fmt: skip
KEYS = (
    "auto_map", "quantization_config", "tie_word_embeddings", "eos_token_id", "bos_token_id", "pad_token_id", "dtype",
    "torch_dtype", "activation_function", "scale_attn_weights", "n_inner", "n_ctx", "architectures", "chat_template",
    "added_tokens_decoder", "model_max_length", "add_prefix_space", "add_bos_token", "tokenizer_class",
    "special_tokens", "repetition_penalty", "max_length", "suppress_tokens", "truncation", "padding", "normalizer",
    "unk_token", "pad_token", "trust_remote_code", "_attn_implementation", "_attn_implementation_internal",
    "vocab_size", "n_layer",
)  # fmt: skip


def mutate(directory: Path, chance: random.Random) -> str:
    """Change one file of a checkpoint (rarely two); which ones."""
    names = sorted(path.name for path in directory.iterdir() if path.is_file() and path.suffix != ".md")
    chosen = chance.sample(names, k=1 + (chance.random() < 0.2))
    for name in chosen:
        path = directory / name
        if name.endswith(".safetensors"):
            path.write_bytes(_weights(path.read_bytes(), chance))
        elif name.endswith(".json") and chance.random() < 0.85:
            path.write_text(json.dumps(_edited(json.loads(path.read_bytes()), chance)), encoding="utf-8")
        else:
            path.write_bytes(_bytes(path.read_bytes(), chance))
    return ", ".join(chosen)


def _weights(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return _bytes(content[:4096], chance) + content[4096:]
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(_edited(json.loads(content[8 : 8 + length]), chance)).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _bytes(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[at : at + chance.randrange(32)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randrange(64)]
        elif chance.random() < 0.1:
            del data[at:]
    return bytes(data)


def _edited(table: Any, chance: random.Random) -> Any:
    """A JSON value with one to three edits: a place removed, replaced, wrapped, or given another place's value."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(table))
        if not places or chance.random() < 0.15:
            if isinstance(table, dict):
                table[chance.choice(KEYS)] = chance.choice(VALUES)
            continue
        shallow = [place for place in places if place[0] is table]
        holder, key = chance.choice(shallow if shallow and chance.random() < 0.5 else places)
        kind = chance.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, name = chance.choice(places)
            holder[key] = json.loads(json.dumps(other[name]))
        elif kind == 2:
            for _ in range(chance.randint(1, DEEP)):
                holder[key] = [holder[key]]
        else:
            holder[key] = chance.choice(VALUES)
    return table


def _places(table: Any) -> Iterator[tuple[Any, Any]]:
    """Every place within a JSON value, as what holds it and its key; of long lists and tables the first ones."""
    entries = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in list(entries)[:64]:
        yield table, key
        yield from _places(value)


class Reader(Spawned):
    """A process that reads mutants, started anew after one that it did not survive."""

    _memory_gb = MEMORY_GB

    def __init__(self, bases: Sequence[Path], home: Path, seed: int) -> None:
        self._given = ([str(base) for base in bases], str(home), seed)

    def read(self, number: int) -> tuple[str, str]:
        """Return what became of a mutant, and in words what it is."""
        try:
            found: tuple[str, str] = self._request(self._spawn(_serve, *self._given), number, LONGEST_S)
        except NoAnswerError as error:
            return "FOUND", f"mutant {number}: {error}"
        return found


def _serve(pipe: Connection, bases: list[str], home: str, seed: int) -> None:
    limits.die_with_parent()
    os.environ["HF_HUB_OFFLINE"] = "1"
    place = Path(home) / f"{os.getpid()}"
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.redirect_stdout(nowhere),
    ):
        answer_all(pipe, lambda number: _outcome([Path(base) for base in bases], place, seed, number))


def _outcome(bases: Sequence[Path], place: Path, seed: int, number: int) -> tuple[str, str]:
    from convert.__main__ import main
    from tests.support.fuzzed_checkpoints import recipe

    chance = random.Random(f"{seed}-{number}")  # noqa: S311  # a mutant that can be made again
    shutil.rmtree(place, ignore_errors=True)
    base = chance.choice(list(bases))
    source = Path(shutil.copytree(base, place / "source"))
    what = f"mutant {number} ({mutate(source, chance)} of {base.name})"
    stage = "convert"
    try:
        main([str(recipe(place, base)), "--source", str(source), "--build", str(place / "build")])
        stage = "verify"
        complaint = _judged(place / "build" / "tiny")
    except PipelineError as error:
        if not (error.what and error.where and error.hint):
            return "FOUND", f"{what}: {stage}: a refusal without words: {error}"
        if stage == "convert" and not error.where.startswith(str(source)):
            return "FOUND", f"{what}: a refusal about what is not its owner's: {error}"
        if stage == "verify":
            return "FOUND", f"{what}: convert took it, verify refuses: {error}"
        return "refused", what
    except BaseException as error:  # noqa: BLE001  # a finding of any kind: a panic in Rust is no Exception
        last = "".join(traceback.format_exception(error, limit=-3))[-1500:]
        return "FOUND", f"{what}: {stage}: {last}"
    return ("FOUND", f"{what}: convert took it, verify fails: {complaint}") if complaint else ("passed", what)


def _judged(home: Path) -> str:
    """Return what verify's readers say of what convert wrote: the reference loads, files beside the graph are right."""
    from verify.candidate.session import Candidate
    from verify.checks import tokenizer
    from verify.reference.corpus import Corpus
    from verify.reference.model import Reference

    reference = Reference(home / "source", allow_pickle=False)
    text = home / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    (case,) = tokenizer.cases(reference, Corpus(text, reference.tokenizer, 0), tokenizer.Settings())
    candidate = Candidate(home / "fp32" / "onnx" / "model.onnx", "disable_all", threads=1)
    partial = tokenizer.judge(candidate, case)
    wrong = [measure for measure in tokenizer.summarize([partial], {}, reference) if measure.value > 0]
    said = [f"{measure.name} {measure.value:g} ({measure.detail})" for measure in wrong]
    return "; ".join([*said, *_answers(reference, candidate)])


def _answers(reference: Reference, candidate: Candidate) -> list[str]:
    """Say how far the graph's logits are from PyTorch's, if they are; nothing where float32 may end on the way."""
    from verify.candidate.session import positions_of

    if max(float(weight.detach().abs().max()) for weight in reference.model.parameters()) > HUGE:
        return []
    length = min(9, reference.dimensions.context)
    ids = np.arange(2 * length, dtype=np.int64).reshape(2, length) * 5 % reference.dimensions.vocabulary
    mask = np.ones_like(ids)
    mask[1, : length // 2] = 0
    positions = positions_of(mask)
    wanted = reference.forward(ids, mask, positions).logits[mask == 1]
    found = candidate.forward(ids, mask, positions).logits[mask == 1]
    bound = NEAR * max(1.0, float(np.abs(wanted).max()))
    if not np.isfinite(wanted).all() or np.abs(wanted - found).max() <= bound:
        return []
    return [f"logits differ by {np.abs(wanted - found).max():g}, of {np.abs(wanted).max():g}"]


def run(files: int, seed: int, home: Path, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Read so many mutants, one per core; how many were refused, passed and FOUND, and the findings in words.

    Progress goes to stderr, each finding as soon as it is made: a run that is stopped was not for nothing.
    """
    from tests.support.fuzzed_checkpoints import bases as write

    bases = write(home / "bases")
    own = threading.local()
    readers: list[Reader] = []

    def begin() -> None:
        own.reader = Reader(bases, home, seed)
        readers.append(own.reader)

    def read(number: int) -> tuple[str, str]:
        found: tuple[str, str] = own.reader.read(number)  # of the thread that this runs in
        return found

    counts, findings = Counter[str](), list[str]()
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=begin) as threads,
        tqdm(total=files, unit=" mutants", dynamic_ncols=True, mininterval=interval()) as progress,
    ):
        for kind, words in threads.map(read, range(first, first + files)):
            counts[kind] += 1
            progress.set_postfix(counts, refresh=False)
            progress.update()
            if kind == "FOUND":
                findings.append(words)
                progress.write(words, file=sys.stderr)
    for reader in readers:
        reader.stop()
    return counts, findings


def kinds(findings: Sequence[str]) -> Iterator[str]:
    """Yield one finding of each kind, which are those alike but for names and numbers, with how many there are."""
    found: dict[str, list[str]] = {}
    for words in findings:
        kind = re.sub(r"'[^']*'|\[[^]]*\]+|[\d.]+", "", words.partition("): ")[2] or words)
        found.setdefault(kind, []).append(words)
    yield from (f"{len(same)} x {same[0]}" for same in found.values())


def main(argv: Sequence[str] | None) -> int:
    """Read mutants and say what was found; exit code 1 after a finding."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz_checkpoints", description="Convert mutated checkpoints."
    )
    parser.add_argument("--files", type=int, default=1000, metavar="N", help="how many mutants (1000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first one's number (0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all of them (0)")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    from tests.fuzz_checkpoints import run  # by the name that the processes know, which __main__ is not

    with tempfile.TemporaryDirectory() as home:
        counts, findings = run(arguments.files, arguments.seed, Path(home), arguments.first)
    for words in kinds(findings):
        say(words)
    say(f"{arguments.files} mutants, {dict(counts)}, {time.monotonic() - started:.0f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(command.run(main))
