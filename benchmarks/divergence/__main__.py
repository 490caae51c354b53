"""python -m benchmarks.divergence FP32.onnx FILE.onnx ... --text FILE ...: how far files are from the first one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.graphs import require_files
from pipeline import command
from pipeline.errors import PASSED, InputError, RecipeError

CHUNK, CHUNKS = 512, 20


def main(argv: Sequence[str] | None) -> int:
    """Run every file on every text, and print one table: bytes, and mean and 99.9 % divergence on each text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.divergence", description="Divergences of graphs from the first one, in nats."
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.onnx", help="the first is what others are held to")
    parser.add_argument("--text", type=Path, nargs="+", required=True, metavar="FILE", help="UTF-8 texts")
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="tokenizer.json (that beside the first file's directory)"
    )
    parser.add_argument("--chunk", type=int, default=CHUNK, metavar="N", help=f"tokens at a time ({CHUNK})")
    parser.add_argument("--chunks", type=int, default=CHUNKS, metavar="N", help=f"chunks of each text ({CHUNKS})")
    arguments = parser.parse_args(argv)
    require_files([*arguments.files, *arguments.text])
    if arguments.chunk < 2 or arguments.chunks < 1 or len(arguments.files) < 2:
        hint = "name at least two files, and write --chunk 2 and --chunks 1 or more"
        raise RecipeError("nothing would be compared", where="FILE.onnx, --chunk, --chunks", hint=hint)
    tokenizer = arguments.tokenizer or arguments.files[0].parent.parent / "tokenizer.json"

    from benchmarks.divergence.run import compare, table, token_ids  # after parsing, so that --help is instant

    texts = {}
    for path in arguments.text:
        ids = token_ids(path, tokenizer)
        if len(ids) < arguments.chunk:
            hint = f"write --chunk {len(ids)} or less, or name a longer text"
            raise InputError(f"{len(ids)} tokens, a chunk is {arguments.chunk}", where=path, hint=hint)
        texts[path.name] = ids
    print(table(compare(arguments.files, texts, arguments.chunk, arguments.chunks)))
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
