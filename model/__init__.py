"""What a converted model is, for every stage: its contract, its checkpoint, sessions and graphs. No torch at import."""
