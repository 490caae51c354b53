from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.search.allocate import Item, allocate

items = st.builds(Item, st.integers(1, 10**4), st.floats(1e-9, 1e-3))
slots = st.lists(st.lists(items, min_size=1, max_size=4), min_size=1, max_size=4)


def totals(rows: list[list[Item]], picks: tuple[int, ...]) -> tuple[int, float]:
    chosen = [row[pick] for row, pick in zip(rows, picks, strict=True)]
    return sum(item.bytes for item in chosen), sum(item.kld for item in chosen)


@given(rows=slots, share=st.floats(0, 1))
def test_no_other_choice_within_the_bytes_has_less_divergence(rows: list[list[Item]], share: float) -> None:
    least = sum(min(item.bytes for item in row) for row in rows)
    most = sum(max(item.bytes for item in row) for row in rows)
    budget = least + share * (most - least)
    picks = allocate(rows, "bytes", budget)
    assert picks is not None
    size, kld = totals(rows, picks)
    assert size <= budget
    everything = itertools.product(*(range(len(row)) for row in rows))
    best = min(totals(rows, other)[1] for other in everything if totals(rows, other)[0] <= budget)
    assert kld <= best * (1 + 1e-12)


@given(rows=slots, share=st.floats(0.01, 1))
def test_no_other_choice_within_the_divergence_has_fewer_bytes(rows: list[list[Item]], share: float) -> None:
    least = sum(min(item.kld for item in row) for row in rows)
    most = sum(max(item.kld for item in row) for row in rows)
    budget = least + share * (most - least)
    picks = allocate(rows, "kld", budget)
    if picks is None:  # the budget is the least itself, but for rounding
        assert budget <= least * (1 + 1e-6)
        return
    size, kld = totals(rows, picks)
    assert kld <= budget * (1 + 1e-12)
    everything = itertools.product(*(range(len(row)) for row in rows))
    fits = [totals(rows, other)[0] for other in everything if totals(rows, other)[1] <= budget]
    assert not fits or size <= min(fits)


def test_a_budget_that_nothing_keeps_has_no_answer() -> None:
    assert allocate([[Item(10, 1.0)], [Item(5, 1.0), Item(7, 0.5)]], "bytes", 14) is None
    assert allocate([[Item(10, 1.0)], [Item(5, 1.0), Item(7, 0.5)]], "bytes", 15) == (0, 0)
    assert allocate([[Item(10, 1.0)], [Item(5, 1.0), Item(7, 0.5)]], "bytes", 17) == (0, 1)


@pytest.mark.parametrize("kld", [1e-12, 1.0, 1e6])
def test_the_scale_of_divergences_changes_no_choice(kld: float) -> None:
    rows = [[Item(10, 4 * kld), Item(20, kld)], [Item(10, 3 * kld), Item(20, kld)]]
    assert allocate(rows, "bytes", 30) == (1, 0)


@given(rows=slots, share=st.floats(0, 1))
def test_large_sizes_are_rounded_and_the_budget_kept_all_the_same(rows: list[list[Item]], share: float) -> None:
    large = [[Item(item.bytes * 9973, item.kld) for item in row] for row in rows]
    least = sum(min(item.bytes for item in row) for row in large)
    most = sum(max(item.bytes for item in row) for row in large)
    budget = least + share * (most - least)
    picks = allocate(large, "bytes", budget)
    assert picks is not None
    size, kld = totals(large, picks)
    assert size <= budget
    everything = itertools.product(*(range(len(row)) for row in large))
    lost = len(rows) * (most - least) / 2**18 + len(rows)
    assert kld <= min(totals(large, o)[1] for o in everything if totals(large, o)[0] <= budget - lost or o == picks) * (
        1 + 1e-12
    )
