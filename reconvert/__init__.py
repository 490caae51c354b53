"""Scheduled reconversion: runs the stages, here or on a Ray cluster."""
