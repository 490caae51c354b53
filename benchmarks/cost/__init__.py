"""Measure what the pipeline itself costs: time and memory of its stages, against what they cannot do without."""
