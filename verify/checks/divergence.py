"""divergence: over held-out text, how far is the candidate's next-token distribution from the reference's?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.divergence import diverge, log_probability, softmax
from verify.candidate.input import Input, fed
from verify.candidate.session import Candidate, positions_of
from verify.check import FEWEST, Array, Case, Ease, Explaining, Measure, Partial, Prompt, Prompting, standard_error
from verify.settings import require_lengths, require_positive

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS: tuple[str, ...] = ()
PER_LEVEL = False  # a statistic of the weights; what a level may change, the check `logits` sees at every position
TOLERATED = {"mean_kld": "max", "p999_kld": "max", "same_top": "min", "ln_ppl_ratio": "max"}
JUDGES = "graph"
SEEDED = False
BRIEF: Mapping[str, Any] = {"chunks": 4}
# Edges of the report's histogram, in nats: the same for every variant and every run, so that they can be laid over
# each other. What lies outside is counted in the first and the last bin.
EDGES = tuple(float(f"{10 ** (step / 4):.6g}") for step in range(-64, 9))
SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Settings:
    """Chunks of the text, each run alone; the second half of each is scored, as llama.cpp does."""

    chunk: int = 512
    chunks: int = 16

    def check(self, where: str, context: int) -> None:
        """RecipeError for chunks that cannot be run or whose second halves score nothing."""
        require_lengths((self.chunk,), where, context, least=4)
        require_positive(self.chunks, f"{where}: chunks")


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """A case per chunk: its ids, and the reference's logits and probabilities of its second half."""
    for number, ids in enumerate(corpus.chunks(settings.chunk, settings.chunks)):
        yield case_of(f"chunk {number}", reference, ids, len(ids) // 2)


def case_of(name: str, reference: Reference, ids: Array, half: int) -> Case:
    """One chunk of int64 ids [length]: its ids, and the reference's logits and probabilities from place `half` on."""
    mask = np.ones((1, len(ids)), np.int64)
    logits = reference.forward(ids[None], mask, positions_of(mask), keep=len(ids) - half).logits[0, :-1]
    truth = log_probability(logits, ids[half + 1 :])
    arrays = {"ids": ids[None], "logits": logits, "probability": softmax(logits), "truth": truth}
    return Case(name, arrays, {"half": half})


def judge(candidate: Candidate, case: Case) -> Partial:
    """Per scored token: divergence, both log-probabilities of the true token, and whether the top token agrees."""
    ids, logits, half = case.arrays["ids"], case.arrays["logits"], case.facts["half"]
    mask = np.ones_like(ids)
    scored = ids.shape[1] - half
    found = candidate.forward(ids, mask, positions_of(mask), keep=scored).logits[0, -scored:-1]
    target = ids[0, half + 1 :]
    truth = np.asarray(case.arrays["truth"])
    result = diverge(logits, case.arrays["probability"], truth, found, target)
    return {"kld": result.kld, "same": result.same_top, "candidate": result.log_probability, "reference": truth}


def summarize(partials: Sequence[Partial], observed: Any, reference: Reference) -> list[Measure]:
    """Mean, 99.9 % and largest divergence, agreement of the top token, and the log ratio of perplexities."""
    return _measures(partials, FEWEST)


def _measures(partials: Sequence[Partial], fewest: int) -> list[Measure]:
    """All figures; of fewer tokens than `fewest` nothing counts as compared."""
    kld, same, ours, theirs = (
        np.concatenate([partial[key] for partial in partials]) for key in ("kld", "same", "candidate", "reference")
    )
    if not (np.isfinite(kld).all() and np.isfinite(ours).all()):
        kld, ours = np.full_like(kld, np.inf), np.full_like(ours, -np.inf)
    count = len(kld) if len(kld) >= fewest else 0
    agreement = float(same.mean())
    ratio = float(theirs.mean() - ours.mean())
    return [
        Measure("mean_kld", float(kld.mean()), count, unit="nat", error=standard_error(kld)),
        Measure("p999_kld", float(np.percentile(kld, 99.9)), count, unit="nat"),
        Measure("max_kld", float(kld.max()), count, unit="nat", judged=False),
        Measure(
            "same_top",
            agreement,
            count,
            error=math.sqrt(agreement * (1 - agreement) / max(len(same), 1)),
        ),
        # Paired: the error of the mean of differences on the same tokens, far smaller than either perplexity's own.
        Measure("ln_ppl_ratio", abs(ratio), count, unit="nat", error=standard_error(theirs - ours)),
        Measure("perplexity", _perplexity(ours), count, judged=False),
        Measure("reference_perplexity", _perplexity(theirs), count, judged=False),
    ]


def series(partials: list[Partial], observed: Any, reference: Reference) -> dict[str, Any]:
    """Histogram of the divergence of single tokens in fixed logarithmic bins, and some quantiles."""
    kld = np.concatenate([partial["kld"] for partial in partials])
    finite = kld[np.isfinite(kld)]
    counts, _ = np.histogram(np.clip(finite, EDGES[0], EDGES[-1]), bins=EDGES)
    quantiles = np.quantile(finite, SHARES).tolist() if len(finite) else []
    return {
        "histogram": {"edges": list(EDGES), "counts": counts.tolist(), "not_finite": len(kld) - len(finite)},
        "quantiles": dict(zip(map(str, SHARES), quantiles, strict=False)),
    }


def _perplexity(log_probabilities: Array) -> float:
    return float(np.exp(-log_probabilities.mean()))


def _inputs(case: Case) -> Iterator[tuple[str, Input]]:
    yield "", fed(case)


def _case_on(reference: Reference, given: Input) -> Case:
    return case_of("minimised", reference, given.ids[0], given.ids.shape[1] // 2)


EXPLAINING: Explaining | None = Explaining(
    measures=dict.fromkeys(("mean_kld", "p999_kld", "ln_ppl_ratio", "same_top"), Ease.MEAN),
    inputs=_inputs,
    case=_case_on,
    shortest=4,  # of a shorter chunk the second half scores nothing
)


def _asked(reference: Reference, prompts: Sequence[Prompt], settings: Settings) -> Iterator[Case]:
    """Every token of a prompt after its first, and the one that the reference answers with."""
    for prompt in prompts:
        mask = np.ones((1, len(prompt.ids)), np.int64)
        answer = reference.forward(prompt.ids[None], mask, positions_of(mask), keep=1).logits[0, -1].argmax()
        yield case_of(prompt.name, reference, np.append(prompt.ids, answer), 0)


def _of_prompts(partials: Sequence[Partial], observed: Any, reference: Reference) -> list[Measure]:
    return _measures(partials, 1)


PROMPTING: Prompting | None = Prompting(
    cases=_asked, summarize=_of_prompts, figures=("max_kld",), averages=("mean_kld", "same_top", "ln_ppl_ratio")
)
