"""Graphs' divergences from the first of them, on several texts: what a change of quantization gains, and where."""
