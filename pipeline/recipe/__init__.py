"""The recipe: what to convert, into which variants, and what a variant may deviate from the reference."""
