"""State what GPT-2's parts are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.landmarks import Kind, Landmarks, Layer, Projection

from .config import DEFAULTS

MODULES: Mapping[str, Kind] = {"Conv1D": Kind.LINEAR}
NORM_EPSILON = "eps"


def landmarks(config: Mapping[str, Any]) -> Landmarks:
    """Return the names of a model's parts by their role."""
    values = {**DEFAULTS, **config}
    layers = tuple(_layer(f"transformer.h.{number}", values["n_embd"]) for number in range(values["n_layer"]))
    return Landmarks(
        embedding="transformer.wte",
        head="lm_head",
        final_norm="transformer.ln_f",
        placed="transformer.wpe",
        positions="transformer.wpe",
        layers=layers,
    )


def _layer(name: str, hidden: int) -> Layer:
    def part(place: int, value: str) -> Projection:
        return Projection(f"{name}.attn.c_attn", range(place * hidden, (place + 1) * hidden), f"{name}.attn.{value}")

    return Layer(
        block=name,
        middle=f"{name}.middle",
        attention_norm=f"{name}.ln_1",
        feed_forward_norm=f"{name}.ln_2",
        query=part(0, "query"),
        key=part(1, "key"),
        value=part(2, "value"),
        scaled=f"{name}.attn.query.scaled",
        scores=f"{name}.attn.scores",
        attended=f"{name}.attn.heads",
        out=f"{name}.attn.c_proj",
        up=f"{name}.mlp.c_fc",
        down=f"{name}.mlp.c_proj",
        activation=f"{name}.mlp.act",
    )
