"""The six benchmarks of the source's card, by lm-evaluation-harness: reference and variants, item by item."""
