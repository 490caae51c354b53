"""The one rule of near ties: what an error of the logits explains is counted, what it does not is a mismatch."""

from __future__ import annotations

import math

import numpy as np

from verify.scoring.near_ties import Difference, margin, measures, tied


def test_a_margin_up_to_the_error_is_a_tie_and_one_that_is_no_number_is_none() -> None:
    assert tied(0.5, 0.5)
    assert not tied(0.51, 0.5)
    assert not tied(math.nan, math.inf)


def test_mismatches_are_named_and_ties_are_a_share_of_all_choices() -> None:
    margins = {"near": margin(np.array([2, 1.75], np.float32), 1), "far": 3.0, "none": math.nan}
    differing = [Difference(where, size) for where, size in margins.items()]
    mismatch, ties = measures("greedy", differing, 10, "steps", ("tolerance", 0.25))
    assert (mismatch.name, mismatch.value, mismatch.detail) == ("greedy_mismatch", 2, "far margin 3; none margin nan")
    assert (ties.name, ties.value) == ("greedy_near_ties", 0.1)
    assert ties.detail == "1 of 10 steps; largest margin 3, tolerance 0.25"
    assert [measure.value for measure in measures("beam", [], 0, "searches", ("tolerance", 0.25))] == [0, 0]
