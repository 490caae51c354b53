"""Refuse values of a config that no graph is written for: the checks that architectures share. Each names the key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from model.architecture import wrong_key
from pipeline.errors import InputError
from pipeline.typed import did_you_mean

LIMIT = 2**24  # no size of a model that fits a single ONNX file comes near
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")  # keys that name tokens, in either config file

Values = Mapping[str, Any]


def sizes(values: Values, keys: Iterable[str], where: object) -> None:
    """Raise InputError for a size that is no whole number from 1 to LIMIT - 1."""
    for key in keys:
        value = values.get(key)
        if type(value) is not int or not 0 < value < LIMIT:
            raise wrong_key(where, key, value, f"a whole number from 1 to {LIMIT - 1}")


def flags(values: Values, keys: Iterable[str], where: object) -> None:
    """Raise InputError for a flag that is neither true nor false."""
    for key in keys:
        if not isinstance(values[key], bool):
            raise wrong_key(where, key, values[key], "true or false")


def is_positive(value: Any, limit: int = LIMIT) -> bool:
    """Return whether a value is a number above 0 and below the limit; NaN is none, nor is true."""
    return type(value) in (int, float) and 0 < value < limit


def positive(key: str, value: object, where: object, limit: int = LIMIT) -> None:
    """Raise InputError for what is no number above 0 and below the limit."""
    if not is_positive(value, limit):
        raise wrong_key(where, key, value, "a positive number")


def head(values: Values, wanted: str, where: object) -> None:
    """Raise InputError for a model of another class of transformers than the one that generates text."""
    if (values.get("architectures") or [wanted]) != [wanted]:
        hint = f'["{wanted}"]: a model with another head generates no text'
        raise wrong_key(where, "architectures", values["architectures"], hint)


def activation(key: str, value: object, known: Collection[str], where: object) -> None:
    """Raise InputError for an activation that is not among the known ones."""
    if value not in known:
        what = f"config key {key} is {value!r}, which cannot be converted"
        raise InputError(what, where=where, hint=did_you_mean(str(value), known))


def unquantized(values: Values, where: object) -> None:
    """Raise InputError for weights that are packed."""
    if values.get("quantization_config"):
        hint = "absent: start from the checkpoint before quantization"
        raise wrong_key(where, "quantization_config", values["quantization_config"], hint)
