"""Export a checkpoint as `optimum-cli export onnx` does, without its comparison: `python export.py SOURCE TARGET`.

A program for Optimum's own environment: it imports nothing of the project.
"""

from __future__ import annotations

import sys

from optimum.exporters.onnx import main_export


def export(source: str, target: str) -> None:
    """Write `model.onnx`, its configuration and its tokenizer into the directory `target`."""
    main_export(source, target, task="text-generation-with-past", local_files_only=True, do_validation=False)


if __name__ == "__main__":
    export(*sys.argv[1:])
