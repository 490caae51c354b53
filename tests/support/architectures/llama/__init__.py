"""Llama, in the parts that model/architecture.py states: rotary positions, RMS norms, heads that share keys, SwiGLU."""

MODEL_TYPES = ("llama",)
