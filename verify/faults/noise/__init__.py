"""By how much a variant may differ from itself on another processor: measured, for the bounds of the check `twin`."""
