"""State which modules are compared, in the order of the data's way, and what each reads and makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model.landmarks import Landmarks

NOT_FINITE = "what it makes is not finite"  # the one reason for a missing figure that fails a variant


@dataclass(frozen=True)
class ReportedModule:
    """One module: what it is called in reports, and the names of the true values that it reads and makes.

    `reads` is None where nothing comes before it. Values that stand in `makes` are looked for in this order.
    """

    name: str
    reads: str | None
    makes: tuple[str, ...]


def modules(at: Landmarks) -> Iterator[ReportedModule]:
    """Yield embedding, attention and MLP of every layer, final norm, head.

    What the embedding makes is what the first layer is given, positions included.
    """
    yield ReportedModule("embedding", None, (f"in.{at.layers[0].attention_norm}", f"out.{at.embedding}"))
    for number, layer in enumerate(at.layers):
        for part, norm, last in (
            ("attention", layer.attention_norm, layer.out),
            ("MLP", layer.feed_forward_norm, layer.down),
        ):
            yield ReportedModule(f"layer {number} {part}", f"in.{norm}", (f"out.{last}", f"{last}.product"))
    yield ReportedModule("final norm", f"in.{at.final_norm}", (f"out.{at.final_norm}",))
    yield ReportedModule("head", f"out.{at.final_norm}", (f"out.{at.head}",))
