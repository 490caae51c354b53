"""Qwen2 and Qwen3, which are Llama but for biases, and for norms of each head's queries and keys.

In the parts that model/architecture.py states; most of each is Llama's.
"""

MODEL_TYPES = ("qwen2", "qwen3")
