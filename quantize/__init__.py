"""The stage that makes smaller variants of an fp32 graph: one file per scheme in `schemes`, named in the recipe."""
