"""The frame of every stage command: errors a person can read, exit codes a machine can."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from artifact.errors import BROKEN_INPUT, INTERNAL, INTERRUPTED, PipelineError

WRITE_ERRORS = {
    errno.ENOSPC: "free space on the disk, or name another build directory with --build",
    errno.EDQUOT: "free space within your quota, or name another build directory with --build",
    errno.EFBIG: "a file would exceed the limit (ulimit -f): raise it, or name another directory with --build",
    errno.EROFS: "the file system is read-only: name another build directory with --build",
    errno.EACCES: "permission denied: name a build directory you may write with --build",
    errno.EPERM: "permission denied: name a build directory you may write with --build",
    errno.ENOTDIR: "a file is where a directory is needed: name another directory with --build",
    errno.EEXIST: "a file is where a directory is needed: name another directory with --build",
    errno.ENOTEMPTY: "another run is using this build directory: run one at a time, or name another with --build",
}


def parser(stage: str, description: str) -> argparse.ArgumentParser:
    """A parser for `python -m STAGE RECIPE [--build DIR]`."""
    result = argparse.ArgumentParser(prog=f"python -m {stage}", description=description)
    result.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe file, such as recipes/gpt-2-70m.toml")
    result.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="build directory (build)")
    return result


def run(stage: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a stage and turn its errors into one message on stderr and an exit code (README: Exit codes)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop cleans up as Ctrl-C does
    try:
        return stage(argv)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was kept", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in WRITE_ERRORS:
            return _internal()
        where = error.filename or "the build directory"
        print(f"error: {error.strerror}\n  where: {where}\n  to do: {WRITE_ERRORS[error.errno]}", file=sys.stderr)
        return BROKEN_INPUT
    except Exception:  # the outermost frame: a crash must not look like a verdict (exit code 1)
        return _internal()


def say(message: str) -> None:
    """One line of progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def _internal() -> int:
    traceback.print_exc()
    print("error: a fault in this program, not in your model; please report the lines above", file=sys.stderr)
    return INTERNAL
