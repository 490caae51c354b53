"""No secret leaves this machine: tokens and private keys in the files that would be published."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import InputError

PATTERNS = {
    "a Hugging Face token": rb"hf_[A-Za-z0-9]{20,}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}


def refuse(directory: Path, names: Iterable[str], token: str | None) -> None:
    """InputError, naming the file but not the secret, if a file holds one; `token` is one that is in use."""
    patterns = {**PATTERNS, **({"the token in use": re.escape(token.encode())} if token else {})}
    for name in names:
        path = directory / name
        if path.stat().st_size == 0:
            continue  # an empty file cannot be mapped
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for kind, pattern in patterns.items():
                found = re.search(pattern, content)
                if found:
                    hint = "remove it, and revoke it if it has been anywhere else"
                    raise InputError(f"{kind} is in the file, at byte {found.start()}", where=path, hint=hint)
