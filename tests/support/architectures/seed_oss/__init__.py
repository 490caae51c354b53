"""Seed-OSS without biases, Llama by other names: an architecture outside the project that builds on one in it."""

MODEL_TYPES = ("seed_oss",)
