"""A stage as a process of its own, and the line in its log that says what was run."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path

from reconvert.execution import execute
from tests.conftest import EMBEDDED


def test_the_log_begins_with_the_command_as_a_shell_takes_it(tmp_path: Path) -> None:
    build = os.fsdecode(os.fsencode(tmp_path) + b"/a b\xff")  # neither one word nor UTF-8
    command = ["convert", str(EMBEDDED), "--build", build, "--commit", "none"]
    log = tmp_path / "log"
    assert asyncio.run(execute(command, log, os.environ, "this machine")) == 2
    first, *rest = os.fsdecode(log.read_bytes()).splitlines()
    assert shlex.split(first.partition("python ")[2]) == ["-m", *command]
    assert "'none' is no commit" in rest[0]
