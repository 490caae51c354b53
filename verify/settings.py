"""Checks of the settings that recipes give to checks; all are made before any work."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.errors import RecipeError


def require_lengths(lengths: Collection[int], where: str, context: int, *, least: int = 1) -> None:
    """RecipeError unless there is at least one length, and each lies between `least` and the model's context."""
    if not lengths:
        raise RecipeError("nothing to run", where=where, hint="write at least one length in the list")
    for length in lengths:
        if not least <= length <= context:
            hint = f"use lengths from {least} to {context}"
            raise RecipeError(f"length {length} does not fit the check and the context", where=where, hint=hint)


def require_positive(value: float, where: str) -> None:
    """RecipeError unless the value is above zero."""
    if value <= 0:
        raise RecipeError(f"{value} is not possible", where=where, hint="write a positive number")
