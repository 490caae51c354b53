"""python -m benchmarks.products KxN ... [--processor AVX2] [--rounds N]: time of one product by its form."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command
from pipeline.errors import PASSED, InputError, RecipeError

if TYPE_CHECKING:
    from verify.sandbox.spawned import Python


def main(argv: Sequence[str] | None) -> int:
    """Time the products in turns and print one table for each shape."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products", description="Time of one product of codes.")
    parser.add_argument("shapes", nargs="+", metavar="KxN", help="a weight's sizes, such as 512x2048")
    parser.add_argument("--processor", choices=("AVX2",), help="beside this machine's: as on one without AVX-512")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often everything is timed (5)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of each session (all cores)")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="where logs and copies go")
    arguments = parser.parse_args(argv)
    threads = arguments.threads or len(os.sched_getaffinity(0))
    if arguments.rounds < 1 or threads < 1:
        raise RecipeError("nothing would be measured", where="--rounds, --threads", hint="write 1 or more")

    from benchmarks.avx2 import without_avx512  # after parsing, so that --help is instant
    from benchmarks.products.run import Shape, markdown, measure
    from benchmarks.remote import RemoteError
    from verify.processor import instruction_sets

    shapes = [Shape(*_sizes(text)) for text in arguments.shapes]
    pythons: dict[str, Python | None] = {instruction_sets()[0]: None}
    if arguments.processor:
        pythons[arguments.processor] = without_avx512(arguments.build)
    log = arguments.build / "products"
    try:
        print(markdown(measure(shapes, pythons, arguments.rounds, threads, log)))
    except RemoteError as error:
        raise InputError(f"onnxruntime cannot run them: {error}", where="KxN", hint=f"see {log}.*.txt") from error
    return PASSED


def _sizes(text: str) -> tuple[int, int]:
    """A weight's sizes [k, n]; RecipeError. k is a multiple of 256, the longest block: no form is then padded."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts) or int(parts[0]) % 256:
        raise RecipeError(f"{text!r} is no shape", where="KxN", hint="write such as 512x2048, K a multiple of 256")
    return int(parts[0]), int(parts[1])


if __name__ == "__main__":
    raise SystemExit(command.run(main))
