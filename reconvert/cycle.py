"""One cycle: every recipe is looked up, and converted, verified and published where something has changed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from pipeline import command
from pipeline.command import say
from pipeline.errors import (
    BROKEN_INPUT,
    INTERRUPTED,
    PASSED,
    UNAVAILABLE,
    ArtifactError,
    PipelineError,
    UnavailableError,
)
from pipeline.recipe.recipe import Recipe
from reconvert.folder import REPORT, Folder, keep, members, read_as_looked_up, verified
from reconvert.key import content_key
from reconvert.origin import Origin, look_up
from reconvert.pruning import stamped
from reconvert.retry import Patience
from reconvert.state import Done, Published, State, Way, read_state, write_state
from reconvert.task import Command, Executor, StageError, last_words, plan, publication

# A stage that was stopped: it says so, or it had no time to.
STOPPED = (INTERRUPTED, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
UNWRITABLE = {os.strerror(number) for number in command.WRITE_ERRORS}  # what a stage says of a place it cannot write
AGAIN = "a change of source, recipe or converter tries it again, and so does --release"
Action = Literal["skipped", "converted", "published", "failed", "quarantined", "busy"]


@dataclass(frozen=True)
class Job:
    """State the settings that all recipes' cycles share. `publisher` runs the one command that may see the token."""

    build: Path
    executor: Executor
    publisher: Executor
    way: Way | None = None
    attempts: int = 3  # failures in a row after which a key is quarantined
    release: bool = False  # try quarantined keys too
    patience: Patience = field(default_factory=Patience)
    source: Callable[[Recipe], Origin] = look_up
    time: str = field(default_factory=lambda: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))


@dataclass(frozen=True)
class Row:
    """State what became of one recipe."""

    recipe: str
    action: Action
    reason: str
    seconds: float = 0.0
    commit: str | None = None
    key: str | None = None

    @property
    def good(self) -> bool:
        """Return whether nobody needs to look at it."""
        return self.action in ("skipped", "converted", "published")


async def cycle(recipes: Sequence[Recipe], job: Job) -> list[Row]:
    """A row for every recipe, in their order. One that fails does not keep the others from their turn."""
    turn = asyncio.Semaphore(job.executor.at_once)
    publishing = asyncio.Lock()  # one at a time, so also one at a time for each repository

    with tqdm(total=len(recipes), desc="reconvert", unit="recipe", file=sys.stderr, leave=False, disable=None) as bar:

        async def one(recipe: Recipe) -> Row:
            async with turn:
                row = await Course(recipe, job, publishing).run()
            bar.update()
            return row

        return list(await asyncio.gather(*map(one, recipes)))


@dataclass
class Course:
    """One recipe's way through a cycle."""

    recipe: Recipe
    job: Job
    publishing: asyncio.Lock
    commit: str | None = None
    key: str | None = None

    async def run(self) -> Row:
        """Look the source up, decide, and do what is to do; failures become a row."""
        started = time.monotonic()
        try:
            action, reason = await self._course()
        except (PipelineError, OSError) as error:  # a bug stays an exception, and ends the run
            text = f"{error.what} ({error.where})" if isinstance(error, PipelineError) else str(error)
            action, reason = "failed", text
            if isinstance(error, PipelineError):
                say(f"{self.recipe.name}: to do: {error.hint}")
        say(f"{self.recipe.name}: {action}: {reason}")
        return Row(self.recipe.name, action, reason, round(time.monotonic() - started, 1), self.commit, self.key)

    async def _course(self) -> tuple[Action, str]:
        recipe, job, folder = self.recipe, self.job, self._folder
        origin = await job.patience.persist(recipe.name, partial(asyncio.to_thread, job.source, recipe))
        self.commit, self.key = origin.commit, content_key(recipe, origin)
        state = read_state(folder.state)
        if state.quarantined(self.key, job.attempts) and not job.release and state.failing is not None:
            failing = state.failing
            log = f"log: {failing.log}; " if failing.log else ""
            return "quarantined", f"failed {failing.count} times: {failing.reason} ({log}{AGAIN})"
        why = await asyncio.to_thread(self._stale, state)
        if why is None and (job.way is None or state.is_published(self.key, job.way)):
            return "skipped", self._note_commit(state)
        folder.logs.mkdir(parents=True, exist_ok=True)
        if why is not None:
            state = await self._convert(state, origin, why)
        if job.way is not None and not state.is_published(self.key, job.way):
            await self._publish(state, job.way)
        return ("published", "verified before, not published yet") if why is None else ("converted", why)

    def _stale(self, state: State) -> str | None:
        """Return why the artifacts must be made or judged again; None if they need not."""
        if state.done is None:
            return "never converted"
        if state.done.key != self.key:
            return "source, recipe, environment or converter changed"
        try:
            return None if verified(self.recipe, self._folder.home) == state.done.report else "another report is there"
        except ArtifactError as error:
            return f"{error.what} ({error.where})"

    def _note_commit(self, state: State) -> str:
        done = state.done
        if done is None or done.commit == self.commit:
            return "unchanged"
        write_state(self._folder.state, replace(state, done=replace(done, commit=self.commit)))
        return f"a new commit, {str(self.commit)[:12]}, changes no file that is read"

    async def _convert(self, before: State, origin: Origin, why: str) -> State:
        """Convert, quantize, verify; the state with it done. What fails for the key's own sake is counted."""
        folder, key = self._folder, self.key or ""
        say(f"{self.recipe.name}: converting: {why}")
        state = before.begun(key)
        write_state(folder.state, state)
        prefix = folder.logs / stamped(self.job.time, key)
        try:
            for step in plan(self.recipe, origin, self.job.build, prefix, spreads=self.job.executor.spreads):
                await self._step(step)
            report = await asyncio.to_thread(verified, self.recipe, folder.home)
            read_as_looked_up(folder, origin)
            keep(folder, members(self.recipe), folder.kept / prefix.name)
        except StageError as error:
            write_state(folder.state, state.failed(error.stage, error.what, str(error.where)))
            if (folder.home / REPORT).is_dir() and error.stage == "verify":
                keep(folder, [REPORT], folder.failed / prefix.name)
            raise
        except BaseException:  # the network, the disk, a person: says nothing of the key
            write_state(folder.state, before)
            raise
        state = state.finished(Done(key, self.commit, report))
        write_state(folder.state, state)
        return state

    async def _publish(self, state: State, way: Way) -> None:
        """Publish what was verified. A failure is not counted: the key was good, and is offered again next time."""
        key = self.key or ""
        task = publication(self.recipe, way, self.job.build, self._folder.logs / stamped(self.job.time, key))
        async with self.publishing:
            await self._task(task, self.job.publisher)
        write_state(self._folder.state, replace(state, published=Published(key, way)))

    async def _step(self, tasks: Sequence[Command]) -> None:
        """All tasks of a step; when several fail, the error of the first, after the others have ended."""
        running = [self._task(task, self.job.executor) for task in tasks]
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _task(self, task: Command, executor: Executor) -> None:
        where = task.log.relative_to(self._folder.home)

        async def once() -> None:
            say(f"{self.recipe.name}: {task.label} (log: {task.log})")
            code = await executor.run(task)
            if code == PASSED:
                return
            words = last_words(task.log)
            hint = f"read {task.log}"
            if code == UNAVAILABLE:
                raise UnavailableError(f"{task.label}: {words}", where=where, hint=hint)
            if code in STOPPED:  # by a person or a machine that is shut down: it says nothing of the model
                raise PipelineError(f"{task.label}: interrupted", where=where, hint=hint)
            if code == BROKEN_INPUT and words.removeprefix("error: ") in UNWRITABLE:  # nor does a full disk
                raise PipelineError(f"{task.label}: {words}", where=where, hint=hint)
            raise StageError(f"{task.label}: exit code {code}: {words}", where=where, hint=hint, stage=task.stage)

        await self.job.patience.persist(f"{self.recipe.name}: {task.label}", once)

    @property
    def _folder(self) -> Folder:
        return Folder(self.job.build / self.recipe.name)
