"""The smallest input that still fails: fewer rows, shorter text, fewer calls; deterministic, in few runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from verify.candidate.input import Input

RUNS = 80  # trials at most; each is a pass of the reference and one of the candidate


@dataclass
class _Search:
    """Trials of a predicate, each input once, until the budget is spent: then nothing fails any more."""

    fails: Callable[[Input], bool]
    budget: int
    known: dict[bytes, bool] = field(default_factory=dict)

    def holds(self, trial: Input) -> bool:
        """Return whether this input still fails; False when no run is left to find out."""
        if trial.key not in self.known:
            if len(self.known) >= self.budget:
                return False
            self.known[trial.key] = self.fails(trial)
        return self.known[trial.key]


def minimise(start: Input, fails: Callable[[Input], bool], *, budget: int = RUNS) -> tuple[Input, int]:
    """The smallest input found that fails, and the number of runs. `start` must fail.

    Each way to shrink is tried until none helps: rows, the text's end, its start, the borders of its pieces. Ends and
    starts are bisected: for a causal model a text that fails still fails when what follows the failing token is cut,
    and where this does not hold the result is a smaller failing input all the same, if not the smallest.
    """
    search = _Search(fails, budget)
    best = start
    for _ in range(4):
        before = best
        for shrink in (_fewer_rows, _shorter_end, _fewer_pieces, _later_start, _fewer_pieces):
            best = shrink(best, search)
        if best.key == before.key:
            break
    return best, len(search.known)


def _first(trials: Iterator[Input], search: _Search) -> Input | None:
    return next((trial for trial in trials if search.holds(trial)), None)


def _fewer_rows(best: Input, search: _Search) -> Input:
    """One row alone if one fails alone; otherwise one row less as long as the rest fails."""
    count = len(best.ids)
    if count == 1:
        return best
    alone = _first((best.rows([row]) for row in range(count)), search)
    if alone is not None:
        return alone
    fewer = (best.rows([row for row in range(count) if row != left]) for left in range(count) if count > 2)
    found = _first(fewer, search)
    return best if found is None else _fewer_rows(found, search)


def _shorter_end(best: Input, search: _Search) -> Input:
    """The shortest beginning of the text that fails."""
    low, high = 1, best.ids.shape[1]
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _at(best, 0, middle, search) else (middle + 1, high)
    return best.between(0, high)


def _later_start(best: Input, search: _Search) -> Input:
    """The shortest end of the text that fails."""
    length = best.ids.shape[1]
    low, high = 0, length - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _at(best, middle, length, search) else (low, middle - 1)
    return best.between(low, length)


def _at(best: Input, start: int, end: int, search: _Search) -> bool:
    cut = best.between(start, end)
    return bool(cut.mask.any(axis=1).all()) and search.holds(cut)


def _fewer_pieces(best: Input, search: _Search) -> Input:
    """As few calls as possible: one, two with one token in the last, or one border less as long as that fails."""
    length, pieces = best.ids.shape[1], best.pieces
    if len(pieces) == 1:
        return best
    short = [(length,)] + ([(length - 1, 1), (1, length - 1)] if len(pieces) > 2 else [])
    found = _first((best.with_pieces(plan) for plan in short), search)
    if found is not None:
        return found
    merged = ((*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]) for at in range(len(pieces) - 1))
    found = _first((best.with_pieces(plan) for plan in merged), search)
    return best if found is None else _fewer_pieces(found, search)
