"""Files that are plainly something else, known by their first bytes."""

from __future__ import annotations

from pathlib import Path

from model.checkpoint import refuse_pointer
from pipeline.errors import InputError

START = 512  # bytes looked at
NAME_ONNX = "name an ONNX file with --candidate"
UNPACK = "unpack it, and name the ONNX file inside with --candidate"
FETCH_AGAIN = "fetch the file again"

# place, bytes there, what it is, what to do
KINDS = (
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"(\xb5/\xfd", "a zstd archive", UNPACK),
    (0, b"PK\x03\x04", "a zip archive, as PyTorch writes checkpoints", NAME_ONNX),
    *((0, bytes((0x80, protocol)), "a pickle, which can run code", NAME_ONNX) for protocol in range(2, 6)),
    (0, b"GGUF", "a GGUF file", NAME_ONNX),
    (4, b"ORTM", "a model in onnxruntime's own format", NAME_ONNX),
    (4, b"TFL3", "a TensorFlow Lite model", NAME_ONNX),
    (8, b"{", "a safetensors file", NAME_ONNX),
)
TEXTS = ((b"<!doctype", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "XML"), (b"{", "JSON"))


def refuse_other_content(path: Path) -> None:
    """InputError for an empty file, a Git LFS pointer, and formats that are known by their first bytes."""
    refuse_pointer(path)
    with path.open("rb") as stream:
        start = stream.read(START)
    if not start:
        raise InputError("empty model: the file has no bytes", where=path, hint=FETCH_AGAIN)
    for place, magic, name, hint in KINDS:
        if start[place:].startswith(magic):
            raise InputError(f"not an ONNX model but {name}", where=path, hint=hint)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, name in TEXTS:
        if text.startswith(magic):
            hint = "a server may have answered with an error: fetch the file again, and look at what came"
            raise InputError(f"not an ONNX model but {name}", where=path, hint=hint)
