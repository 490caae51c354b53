"""One module per engine whose files must be made first; its file name is the engine's."""
