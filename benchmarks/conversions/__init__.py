"""Conversions that other programs make of the models that come with the project, and what verify says of each."""
