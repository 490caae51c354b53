"""Tell which models ORTModelForCausalLM (optimum-onnx 0.1.0) cannot feed: it takes hidden / heads for a head's width.

It reads `head_dim` of few types alone (optimum/onnxruntime/modeling_decoder.py). The empty cache that it feeds
another model with heads of a width of their own is refused by onnxruntime, for its own export as well.
"""

from __future__ import annotations

import json
from pathlib import Path


def reason(config: Path) -> str | None:
    """Return why a model with this config.json cannot be run; None if it can, or if the file says nothing of it."""
    table = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    width, hidden, heads = (table.get(key) for key in ("head_dim", "hidden_size", "num_attention_heads"))
    if not (isinstance(width, int) and isinstance(hidden, int) and isinstance(heads, int) and heads > 0):
        return None
    if width == hidden // heads:
        return None
    return f"its loader takes hidden_size / num_attention_heads = {hidden // heads} for head_dim, which is {width}"
