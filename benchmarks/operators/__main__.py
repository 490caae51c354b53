"""python -m benchmarks.operators FILE.onnx ... [--past N] [--steps N]: decode time by operator, as Markdown."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from artifact import command
from artifact.errors import PASSED, InputError


def main(argv: Sequence[str] | None) -> int:
    """Profile each file in turn and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description="Decode time by operator.")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.onnx")
    parser.add_argument("--past", type=int, default=64, metavar="N", help="tokens in the cache (64)")
    parser.add_argument(
        "--steps", type=int, default=100, metavar="N", help="decode steps, of which medians are shown (100)"
    )
    arguments = parser.parse_args(argv)
    for path in arguments.files:
        if not path.is_file():
            raise InputError("not a file", where=path, hint="name ONNX files")

    from benchmarks.operators.profile import profile, table  # after parsing, so that --help is instant

    threads = len(os.sched_getaffinity(0))
    profiles = [profile(path, arguments.past, arguments.steps, threads) for path in arguments.files]
    print(table(profiles))
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
