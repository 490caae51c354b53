"""The block that faults scale under a condition must have a reader other than the last norm, which divides by scale."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from verify.faults.families.conditions import block


@pytest.mark.parametrize(("layers", "wanted"), [(12, "h.2"), (6, "h.2"), (4, "h.2"), (3, "h.1"), (2, "h.0")])
def test_the_scaled_block_is_never_the_last(layers: int, wanted: str) -> None:
    blocks = [SimpleNamespace(block=f"h.{number}") for number in range(layers)]
    at: Any = SimpleNamespace(layers=blocks, layer=lambda number: blocks[number])
    assert block(at) == wanted
