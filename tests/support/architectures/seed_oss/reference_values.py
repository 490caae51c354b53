"""The true values inside a call of Seed-OSS."""

from model.architectures.llama.reference_values import named, scale, spelt_out

__all__ = ["named", "scale", "spelt_out"]
