"""Two major versions of transformers say the same of a checkpoint: a verdict does not depend on which one judged."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.conftest import ROOT
from tests.support import stock_export
from verify.candidate.session import positions_of
from verify.reference.model import Reference
from verify.runtimes.optimum import environment

PROGRAM = ROOT / "tests" / "support" / "older_reference.py"
LENGTHS = (40, 9, 1)
NEW_TOKENS = 24


@stock_export.missing
def test_logits_and_generations_agree(tmp_path: Path) -> None:
    source = ROOT / "recipes" / "embedded"
    reference = Reference(source, allow_pickle=False)
    ids = np.random.default_rng(3).integers(0, reference.dimensions.vocabulary, (len(LENGTHS), max(LENGTHS)))
    mask = (np.arange(max(LENGTHS)) >= max(LENGTHS) - np.array(LENGTHS)[:, None]).astype(np.int64)
    questions, answers = tmp_path / "questions.npz", tmp_path / "answers.npz"
    np.savez(questions, input_ids=ids, attention_mask=mask, position_ids=positions_of(mask))
    command = [str(environment.program("python")), str(PROGRAM), *map(str, (source, reference.end, questions, answers))]
    subprocess.run(command, env=environment.variables(), check=True, timeout=120)
    older = np.load(answers)
    assert str(older["version"]).startswith("4."), "the same transformers twice shows nothing"
    assert version("transformers").startswith("5.")
    real = mask == 1
    logits = reference.forward(ids, mask, positions_of(mask)).logits
    assert np.abs(logits - older["logits"])[real].max() <= 1e-5
    tokens, _ = reference.greedy(ids, mask, NEW_TOKENS)
    assert np.array_equal(tokens, older["tokens"][:, ids.shape[1] :])
