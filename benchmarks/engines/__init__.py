"""One module per engine; its file name is its name."""
