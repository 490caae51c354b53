"""Bounds that follow from arithmetic: what other orders of sums and roundings may make, and no fault."""
