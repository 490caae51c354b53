"""Mutate the header of a safetensors file."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import strategies as st

HEADER: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "wte.weight": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]},
    "ln.bias": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
    "nothing": {"dtype": "F32", "shape": [0, 7], "data_offsets": [28, 28]},
}


def pack(header: object, data: bytes | None = None, length: int | None = None) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (
        struct.pack("<Q", len(content) if length is None else length) + content + (bytes(28) if data is None else data)
    )


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    """Up to four bytes replaced, removed or inserted."""
    edit = st.tuples(st.integers(0, len(content)), st.integers(0, 1), st.binary(max_size=2))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        result = content
        for at, removed, added in edits:
            result = result[:at] + added + result[at + removed :]
        return result

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def header_mutations() -> st.SearchStrategy[bytes]:
    """Mutated headers, half of them with a length that fits, so that the JSON behind it is reached."""
    header = json.dumps(HEADER).encode()
    return mutations(pack(HEADER)) | mutations(header).map(pack)
