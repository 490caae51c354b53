"""Load a checkpoint and its tokenizer and save both again: `python save_checkpoint.py SOURCE TARGET`.

A program for any environment that has transformers: each major version writes other files and other keys.
"""

from __future__ import annotations

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer


def save(source: str, target: str) -> None:
    AutoModelForCausalLM.from_pretrained(source, local_files_only=True).save_pretrained(target)
    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(target)


if __name__ == "__main__":
    save(*sys.argv[1:])
