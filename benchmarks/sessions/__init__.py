"""How a loaded model is run and timed: one module per library, imported only in an engine's own process."""
