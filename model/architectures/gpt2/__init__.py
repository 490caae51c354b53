"""GPT-2, in the parts that model/architecture.py states."""

MODEL_TYPES = ("gpt2",)
