"""What the pipeline itself costs: time and memory of convert and verify, against what they cannot do without."""
