"""Run one stage's command as a process of its own, its output in a log."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.plugins import ROOT

# Tokens, and what the client gets one with in CI (OIDC, a trusted publisher): it reads all of these.
SECRETS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_OIDC_RESOURCE",
    "HF_OIDC_ID_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
)
PATIENCE = 10.0  # seconds that a stage has to clean up when the run is stopped


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the Hub's tokens: only the process that publishes may see them."""
    return {name: value for name, value in environment.items() if name not in SECRETS}


async def execute(command: Sequence[str], log: Path, environment: Mapping[str, str], place: str) -> int:
    """Run `python -m COMMAND...` from the project's root and return its exit code (negative: the signal's number).

    What it prints is appended to the log, below a line that says when and where. The process dies with this one, and
    when the task is cancelled.
    """
    with log.open("ab") as stream:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # The file system's own bytes: a path need not be UTF-8.
        stream.write(os.fsencode(f"# {stamp} on {place}: python -m {shlex.join(command)}\n"))
        stream.flush()
        arguments = ["-m", "reconvert.bound", str(os.getpid()), *command]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=ROOT,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
