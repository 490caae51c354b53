"""Record what the reference computes inside: each module's input and output, per call, by PyTorch's forward hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.candidate.input import Input
from verify.check import Array, Case

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference


def calls(reference: Reference, given: Input, keep: int = 0) -> Iterator[Case]:
    """One case per piece: what is fed, with the reference's own cache as past, and the true value of every tensor.

    Arrays: `ids`, `mask`, `positions`, `past.<layer>.<part>`, `present.<layer>.<part>`, and `in.<module>`,
    `out.<module>` float32 by PyTorch's module paths. `keep` asks for the logits of the last positions only (0: all).
    """
    cache: Any = None
    own = {"architecture": reference.architecture.name, "config": reference.config}
    past: dict[str, Array] = {}
    at = 0
    for number, size in enumerate(given.pieces):
        end = at + size
        feed = {
            "ids": given.ids[:, at:end],
            "mask": given.mask[:, :end],
            "positions": given.positions[:, at:end],
        }
        with _watched(reference.model) as seen:
            answer = reference.forward(feed["ids"], feed["mask"], feed["positions"], cache, keep=keep)
        present = {f"present.{name}": value.copy() for name, value in answer.present().items()}
        yield Case(f"call {number}", {**feed, **past, **present, **seen}, {**own, "call": number, "keep": keep})
        past = {name.replace("present.", "past."): value for name, value in present.items()}
        cache, at = answer.cache, end


def save_parameters(reference: Reference, directory: Path) -> None:
    """Every parameter once, float32, as `<name>.npy`, for another process to map."""
    directory.mkdir()
    for name, parameter in reference.model.named_parameters():
        np.save(directory / f"{name}.npy", parameter.detach().numpy(), allow_pickle=False)


@contextlib.contextmanager
def _watched(model: Any) -> Iterator[dict[str, Array]]:
    """Collects inputs and outputs of every module that is called with a tensor and returns one (or one first)."""
    seen: dict[str, Array] = {}

    def watch(name: str) -> Any:
        def hook(_: Any, arguments: tuple[Any, ...], result: Any) -> None:
            first = result[0] if isinstance(result, tuple) else result
            sides: dict[str, Any] = {"in": arguments[0] if arguments else None, "out": first}
            for side, value in sides.items():
                if hasattr(value, "numpy") and value.is_floating_point():
                    seen[f"{side}.{name}"] = value.numpy()

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
