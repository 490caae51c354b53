"""This machine, one task at a time: the libraries below a stage use every core by themselves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from pipeline.errors import RecipeError
from reconvert.execution import execute, without_secrets
from reconvert.task import Command, Executor, Options


@dataclass(frozen=True)
class Local:
    """Runs commands with the environment given."""

    environment: Mapping[str, str]
    at_once: int = 1
    spreads: bool = False

    async def run(self, task: Command) -> int:
        """The command's exit code."""
        return await execute(task.command, task.log, self.environment, "this machine")


@contextlib.asynccontextmanager
async def open_executor(options: Options) -> AsyncIterator[Executor]:
    """An executor on this machine; RecipeError when an address is given."""
    if options.address is not None:
        hint = "leave it out, or add --executor ray"
        raise RecipeError("the local executor has no address", where="--address", hint=hint)
    yield Local(without_secrets(os.environ))
