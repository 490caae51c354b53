"""The recipe's table verify.runtimes: in which programs the artifact must say what the reference says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import plugins
from pipeline.errors import RecipeError
from pipeline.typed import A_TABLE, build, did_you_mean
from pipeline.variants import FILES, base

FOLDER = "verify/runtimes"
POSITIVE = "write prompts = [...], and 1 or more for lengths, batch, new_tokens, timeout_s and memory_gb"


@dataclass(frozen=True)
class Extent:
    """State what is asked: tokens of the longest prompt that is read in one pass.

    `longest` is read alone, `padded` also in a left-padded batch with a shorter one.

    `texts`: how many groups of texts are continued, from the first: each of `prompts` is one, `batch` is the last.
    """

    longest: int = sys.maxsize
    padded: int = sys.maxsize
    texts: int = sys.maxsize

    @property
    def nothing(self) -> bool:
        """Return whether nothing is asked at all."""
        return self.longest == 0 and self.texts == 0


@dataclass(frozen=True)
class Fewer:
    """State where a runtime that is slow is asked fewer of the prompts that are read in one pass (0: none), and why.

    `texts`: it also continues fewer of the texts, the first ones. With `longest` and `texts` 0 it is not run at all.
    `configurations` are beginnings of their names. An empty list means all; so does an empty list of variants.
    """

    runtime: str
    reason: str
    longest: int = sys.maxsize
    padded: int = sys.maxsize
    texts: int = sys.maxsize
    configurations: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()

    @property
    def extent(self) -> Extent:
        """Return what is still asked."""
        return Extent(self.longest, self.padded, self.texts)


@dataclass(frozen=True)
class Runtimes:
    """State what every runtime is asked; a key named like a runtime holds that runtime's settings.

    `run` are the runtimes to ask, `require` those of them without which there is no pass; or one configuration of a
    runtime that has several, as reports write it: "browser, webgpu".
    """

    run: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    prompts: tuple[int, ...] = (24, 7)  # tokens of each text that is continued alone
    batch: tuple[int, ...] = (19, 5, 11, 40, 8, 27, 14, 33)  # and of those continued together, padded on the left
    new_tokens: int = 12
    lengths: tuple[int, ...] | None = None  # tokens of prompts read in one pass; None: all that kernels tell apart
    padded: tuple[int, ...] | None = None  # those that are also read beside a shorter one; None: all of them
    fewer: tuple[Fewer, ...] = ()
    timeout_s: float = 120.0  # for one runtime and one variant
    memory_gb: float = 8.0  # of data of one runtime's process
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def concerning(self, runtime: str, variant: str, configuration: str) -> list[Fewer]:
        """Return the entries of `fewer` for a runtime, a variant and a configuration."""
        return [
            entry
            for entry in self.fewer
            if entry.runtime == runtime
            and (not entry.variants or variant in entry.variants)
            and (not entry.configurations or configuration.startswith(entry.configurations))
        ]

    def extent(self, runtime: str, variant: str, configuration: str) -> Extent:
        """Return how much a runtime is asked of a variant in a configuration."""
        here = self.concerning(runtime, variant, configuration)
        all_of_them = sys.maxsize
        return Extent(
            min((entry.longest for entry in here), default=all_of_them),
            min((entry.padded for entry in here), default=all_of_them),
            min((entry.texts for entry in here), default=all_of_them),
        )

    def requires(self, runtime: str, configuration: str | None = None) -> bool:
        """Return whether there is no pass without a runtime, or without one configuration of it."""
        if configuration is None:
            return any(runtime_of(entry) == runtime for entry in self.require)
        return runtime in self.require or f"{runtime}, {configuration}" in self.require


def runtime_of(required: str) -> str:
    """Return the runtime that an entry of `require` names, with or without one of its configurations."""
    return required.partition(", ")[0]


def read_runtimes(table: object, where: str) -> Runtimes:
    """The table as data; RecipeError for a runtime that does not exist and for numbers that cannot be."""
    if not isinstance(table, Mapping):
        raise RecipeError("expected a table", where=where, hint=A_TABLE)
    known = plugins.names(FOLDER)
    if "settings" in table:
        raise RecipeError("unknown key 'settings'", where=where, hint=f"name the runtime itself: {', '.join(known)}")
    settings = {key: value for key, value in table.items() if key in known}
    rest = {key: value for key, value in table.items() if key not in known}
    runtimes = build(Runtimes, {**rest, "settings": settings}, where=where)
    required = tuple(map(runtime_of, runtimes.require))
    for key, names in {"run": runtimes.run, "require": required}.items():
        for name in names:
            plugins.require(FOLDER, name, where=f"{where}: {key}")
    for name in required:
        if name not in runtimes.run:
            raise RecipeError(f"{name} is required but not run", where=where, hint=f"add {name} to run")
    if len(set(runtimes.run)) != len(runtimes.run):
        raise RecipeError("a runtime is named twice", where=f"{where}: run", hint="name each once")
    if len(set(runtimes.batch)) < 2:
        hint = "name at least two different lengths, so that something is padded"
        raise RecipeError("the batch is not ragged", where=f"{where}: batch", hint=hint)
    lengths = (*(runtimes.lengths or ()), *(runtimes.padded or ()))
    numbers = (
        *runtimes.prompts,
        *runtimes.batch,
        *lengths,
        runtimes.new_tokens,
        runtimes.timeout_s,
        runtimes.memory_gb,
    )
    if not runtimes.prompts or min(numbers) <= 0:
        raise RecipeError("prompts are missing, or a number is not positive", where=where, hint=POSITIVE)
    _check_fewer(runtimes, f"{where}: fewer")
    return runtimes


def _check_fewer(runtimes: Runtimes, where: str) -> None:
    for entry in runtimes.fewer:
        plugins.require(FOLDER, entry.runtime, where=where)
        for variant in entry.variants:
            if base(variant) not in FILES:
                raise RecipeError(f"{variant!r} is not a variant", where=where, hint=did_you_mean(variant, FILES))
        if min(entry.longest, entry.padded, entry.texts) < 0:
            raise RecipeError("a negative number", where=where, hint="write 0 where none is to be read")
        if entry.extent.nothing and not entry.configurations:
            hint = "name the configurations that are not to be run, or take the runtime out of run"
            raise RecipeError("nothing is asked", where=where, hint=hint)
        if not entry.reason.strip():
            raise RecipeError("no reason", where=where, hint='add reason = "..." that says why fewer are asked')
