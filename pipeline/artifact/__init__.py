"""Artifacts: what one stage writes and the next one reads, with the manifest that says what it was made from."""
