"""Turn tables read from TOML or JSON into frozen dataclasses, refusing what the dataclass does not declare."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pipeline.errors import PipelineError, RecipeError

T = TypeVar("T")
A_TABLE = "write a table: [name] on a line of its own, or { key = value }"  # the hint where something else stands
LONGEST = 100  # characters of a value that an error message shows


def build(cls: type[T], table: object, *, where: str, error: type[PipelineError] = RecipeError) -> T:
    """An instance of the dataclass `cls` from a table.

    Raises `error`, naming the key's full path, for an unknown key, a missing key, a value of another type (an
    integer passes for a float, a boolean never passes for a number), NaN or infinity.
    """
    if not isinstance(table, Mapping):
        raise error(f"expected a table, found {_name(table)}", where=where, hint=A_TABLE)
    hints, fields = _declared(typing.cast(Any, cls))
    for key in table:
        if key not in fields:
            raise error(f"unknown key {key!r}", where=where, hint=did_you_mean(str(key), fields))
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = convert(hints[name], table[name], where=f"{where}: {name}", error=error)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise error(f"missing key {name!r}", where=where, hint=f"add {name} = ...")
    return cls(**values)


@functools.cache
def _declared(cls: Any) -> tuple[Mapping[str, Any], Mapping[str, dataclasses.Field[Any]]]:
    """Return a dataclass's types and fields by name; once, for Python compiles every annotation anew."""
    return typing.get_type_hints(cls), {field.name: field for field in dataclasses.fields(cls)}


def convert(hint: Any, value: Any, *, where: str, error: type[PipelineError] = RecipeError) -> Any:
    """One value as the annotated type; raises `error` when it is another."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where, error)
    if origin is typing.Literal:
        if not any(type(value) is type(arg) and value == arg for arg in args):  # True == 1 == 1.0, but not here
            raise error(
                f"{_show(value)} is not one of them", where=where, hint=did_you_mean(str(value), map(str, args))
            )
        return value
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(convert(args[0], item, where=f"{where}[{i}]", error=error) for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(k): convert(args[1], item, where=f"{where}.{k}", error=error) for k, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where=where, error=error)
    return _convert_scalar(hint, value, where, error)


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """A hint that lists the known names and the closest one."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"known: {', '.join(names)}" + (f"; did you mean {close[0]!r}?" if close else "")


def _convert_union(args: tuple[Any, ...], value: Any, where: str, error: type[PipelineError]) -> Any:
    if value is None and type(None) in args:
        return None
    choices = [arg for arg in args if arg is not type(None)]
    for choice in choices[:-1]:
        try:
            return convert(choice, value, where=where, error=error)
        except error:
            continue
    return convert(choices[-1], value, where=where, error=error)


def _convert_scalar(hint: Any, value: Any, where: str, error: type[PipelineError]) -> Any:
    is_bool = isinstance(value, bool)
    if hint is float and isinstance(value, int | float) and not is_bool:
        try:
            number = float(value)
        except OverflowError:  # an integer beyond the largest float
            number = math.inf
        if not math.isfinite(number):
            raise error(f"{_show(value)} is not a finite number", where=where, hint="write a finite number")
        return number
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not is_bool):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    what = f"expected {wanted}, found {_name(value)} {_show(value)}"
    raise error(what, where=where, hint=f"write a value of type {wanted}")


def _name(value: object) -> str:
    return type(value).__name__


def _show(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4300 digits, or a deep nesting
        return "(too long to show)"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
