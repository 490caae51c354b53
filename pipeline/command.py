"""The frame of every stage command: errors a person can read, exit codes a machine can."""

from __future__ import annotations

import argparse
import errno
import io
import os
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import BROKEN_INPUT, INTERNAL, INTERRUPTED, PipelineError

DENIED = "permission denied: allow reading it, or, if it is to be written, name another build directory with --build"
WRITE_ERRORS = {
    errno.ENOSPC: "free space on the disk, or name another build directory with --build",
    errno.EDQUOT: "free space within your quota, or name another build directory with --build",
    errno.EFBIG: "a file would exceed the limit (ulimit -f): raise it, or name another directory with --build",
    errno.EROFS: "the file system is read-only: name another build directory with --build",
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.ENOTDIR: "a file is where a directory is needed: name another directory with --build",
    errno.EEXIST: "a file is where a directory is needed: name another directory with --build",
    errno.ELOOP: "a symbolic link leads to itself: mend it, or name another directory with --build",
    errno.ENAMETOOLONG: "the path is too long: name a directory nearer to the root with --build",
    errno.ENOTEMPTY: "another run is using this build directory: run one at a time, or name another with --build",
}


def parser(stage: str, description: str, *, recipe: str | None = None) -> argparse.ArgumentParser:
    """A parser for `python -m STAGE RECIPE [--build DIR]`; `recipe` says when it may be left out, if ever."""
    result = argparse.ArgumentParser(prog=f"python -m {stage}", description=description)
    about, count = "recipe file, such as recipes/gpt-2-70m.toml", None
    if recipe is not None:
        about, count = f"{about}; {recipe}", "?"
    result.add_argument("recipe", type=Path, nargs=count, metavar="RECIPE", help=about)
    result.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="build directory (build)")
    return result


def run(stage: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a stage and turn its errors into one message on stderr and an exit code (README: Exit codes)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop cleans up as Ctrl-C does
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path is printed byte for byte, UTF-8 or not
    try:
        code = stage(argv)
        sys.stdout.flush()  # here, where a full disk below it is told: what fails at exit has no message of ours
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was kept", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        closed = isinstance(error, BrokenPipeError) and _output_closed()
        _drop_output()
        if closed:
            print("interrupted: nobody reads stdout any more; nothing half-written was kept", file=sys.stderr)
            return INTERRUPTED
        if error.errno not in WRITE_ERRORS:
            return _internal()
        where = error.filename or "the build directory"
        print(f"error: {error.strerror}\n  where: {where}\n  to do: {WRITE_ERRORS[error.errno]}", file=sys.stderr)
        return BROKEN_INPUT
    except Exception:  # the outermost frame: a crash must not look like a verdict (exit code 1)
        return _internal()
    return code


def invocation(stage: str, recipe: Path, build: Path) -> str:
    """The command that runs a stage on what this run was started with, as a shell takes it: for an error's advice."""
    return shlex.join(["python", "-m", stage, str(recipe), "--build", str(build)])


def say(message: str) -> None:
    """One line of progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def _output_closed() -> bool:
    """Return whether stdout is a pipe that its reader has closed, as `head` does."""
    waiting = select.poll()
    waiting.register(sys.stdout.fileno(), 0)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in waiting.poll(0))


def _drop_output() -> None:
    """Give up what stdout does not take: the interpreter would try once more at its exit, and change the code."""
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def _internal() -> int:
    traceback.print_exc()
    print("error: a fault in this program, not in your model; please report the lines above", file=sys.stderr)
    return INTERNAL
