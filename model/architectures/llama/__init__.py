"""The Llama family: rotary positions, RMS norms, heads that share keys and values, a gated feed-forward.

In the parts that model/architecture.py states. Mistral differs in defaults, and may have a window of attention.
"""

MODEL_TYPES = ("llama", "mistral")
