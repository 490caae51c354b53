"""State what a converted model is: its contract, checkpoint, sessions and graphs. No torch at import."""
