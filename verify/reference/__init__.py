"""Provide what candidates are held against: the PyTorch model, the text, and cases of padding."""
