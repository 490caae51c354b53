"""Publish what was verified to the Hub, and nothing else."""
