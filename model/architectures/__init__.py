"""One file per architecture; the file name is the recipe's `architecture` and the checkpoint's model_type."""
