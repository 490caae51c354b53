"""The recipe's table [publish]: where the verified model goes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import RecipeError
from pipeline.typed import build

REPOSITORY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Publish:
    """State where the verified model goes: a Hub repository, in the token's own namespace if it names no owner."""

    repository: str
    private: bool = False
    tag: str = "verified-"  # what a tag begins with; the first digits of the published manifest's digest follow
    require: tuple[str, ...] = ()  # checks or runtimes that every variant must have passed, besides verify.checks


def read_publish(table: object, where: str) -> Publish:
    """The table; RecipeError for a repository or tag that cannot be."""
    publish = build(Publish, table, where=where)
    if not REPOSITORY.fullmatch(publish.repository):
        hint = "write OWNER/NAME, or NAME for the token's own namespace; letters, digits, . _ -"
        raise RecipeError(f"{publish.repository!r} is no repository", where=f"{where}: repository", hint=hint)
    if not TAG.fullmatch(publish.tag):
        hint = "write letters, digits, . _ -, at most 40"
        raise RecipeError(f"no tag can begin with {publish.tag!r}", where=f"{where}: tag", hint=hint)
    return publish
