"""python -m benchmarks.operators FILE.onnx ... [--past N] [--tokens N] [--steps N]: time by operator, as Markdown."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.graphs import require_files
from pipeline import command
from pipeline.errors import PASSED, RecipeError


def main(argv: Sequence[str] | None) -> int:
    """Profile each file in turn and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description="Time of a pass by operator.")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.onnx")
    parser.add_argument("--past", type=int, default=64, metavar="N", help="tokens in the cache (64)")
    parser.add_argument("--tokens", type=int, default=1, metavar="N", help="tokens of a pass: 1, a decode step (1)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="passes, of which medians are shown (100)")
    arguments = parser.parse_args(argv)
    require_files(arguments.files)
    if arguments.past < 0 or arguments.tokens < 1 or arguments.steps < 1:
        hint = "write --past 0, --tokens 1 and --steps 1, or more"
        raise RecipeError("nothing would be measured", where="--past, --tokens, --steps", hint=hint)

    from benchmarks.operators.profile import Pass, profile, table  # after parsing, so that --help is instant

    threads = len(os.sched_getaffinity(0))
    work = Pass(arguments.past, arguments.tokens, arguments.steps)
    print(table([profile(path, work, threads) for path in arguments.files]))
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
