"""python -m benchmarks.files FILE.onnx FILE.onnx ... [--rounds N] [--threads N]: speeds beside the first's."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.graphs import require_files
from pipeline import command
from pipeline.errors import PASSED, RecipeError


def main(argv: Sequence[str] | None) -> int:
    """Time the files in turns and print one table."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description="Speeds of graphs side by side.")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.onnx", help="the first is what others are held to")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="how often everything is timed (9)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of each session (all cores)")
    parser.add_argument("--context", type=int, default=1024, metavar="N", help="positions that the model has (1024)")
    parser.add_argument("--processor", choices=("AVX2",), help="measure as on a processor without AVX-512")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="where its libraries are made")
    arguments = parser.parse_args(argv)
    require_files(arguments.files)
    threads = arguments.threads or cores
    if arguments.rounds < 1 or threads < 1 or len(arguments.files) < 2:
        hint = "name at least two files, and write --rounds 1 and --threads 1 or more"
        raise RecipeError("nothing would be compared", where="FILE.onnx, --rounds, --threads", hint=hint)

    from benchmarks.avx2 import without_avx512
    from benchmarks.files.run import SCENARIOS, compare, table  # after parsing, so that --help is instant
    from benchmarks.scenario import fitting

    scenarios = fitting(SCENARIOS, arguments.context)
    if not scenarios:
        raise RecipeError("no pass is so short", where="--context", hint="write 128 or more")
    python = without_avx512(arguments.build) if arguments.processor else None
    print(table(compare(arguments.files, arguments.rounds, threads, scenarios, python), scenarios))
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
