"""External data: other files that a model asks to be read. Only plain files below the model's own directory pass."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pipeline.errors import InputError
from verify.candidate.untrusted.parsing import shown, tensors
from verify.candidate.untrusted.tensors import bytes_of, is_external

KEYS = ("location", "offset", "length", "checksum")
INLINE = "store the weights inside the ONNX file, or as plain files beside it"
FETCH = "fetch the model together with its data files"
DIGITS = 19  # of an offset or length: below 2^63


def refuse_bad_external(name: str, tensor: Any, path: Path) -> None:
    """InputError for external data outside the directory, behind a link, missing, or not as long as its tensor."""
    table = _table(name, tensor, path)
    if tensor.raw_data:
        raise InputError(f"tensor {name}: stored twice, here and as external data", where=path, hint=INLINE)
    size = _plain_file_size(name, table.get("location", ""), path)
    needed = bytes_of(name, tensor, path)
    offset = _number(name, table, "offset", path) or 0
    length = _number(name, table, "length", path)
    if length is not None and length != needed:
        what = f"tensor {name}: size mismatch: its shape needs {needed} bytes, its external data has length {length}"
        raise InputError(what, where=path, hint=FETCH)
    if offset + needed > size:
        what = f"tensor {name}: external data out of range: bytes {offset} to {offset + needed} of a file of {size}"
        raise InputError(what, where=path, hint=FETCH)


def files(model: Any, directory: Path) -> tuple[Path, ...]:
    """Return the files of a directory that an inspected model's external data lies in, by name."""
    entries = (entry for _, tensor in tensors(model) if is_external(tensor) for entry in tensor.external_data)
    return tuple(directory / name for name in sorted({entry.value for entry in entries if entry.key == "location"}))


def _table(name: str, tensor: Any, path: Path) -> dict[str, str]:
    table: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key not in KEYS:
            what = f"tensor {name}: unknown key {shown(entry.key)!r} of external data"
            raise InputError(
                what, where=path, hint=f"export the model again, or take the key out: ONNX has {', '.join(KEYS)}"
            )
        if entry.key in table:
            raise InputError(f"tensor {name}: external data has two keys {entry.key!r}", where=path, hint=INLINE)
        table[entry.key] = entry.value
    return table


def _plain_file_size(name: str, location: str, path: Path) -> int:
    """Bytes of the file at a location, every step to which is a real directory, and which has no other name."""
    if not location:
        raise InputError(f"tensor {name}: missing external data: no location", where=path, hint=FETCH)
    windows = PureWindowsPath(location)
    steps = PurePosixPath(location).parts
    leaves = ".." in windows.parts or windows.drive or windows.root or location.startswith(("/", "*"))
    if leaves or "\\" in location or not location.isprintable() or not steps:
        what = f"tensor {name}: external data path {shown(location)!r} refused: it leaves the model's directory"
        raise InputError(what, where=path, hint=INLINE)
    place = path.parent
    for i, step in enumerate(steps):
        place /= step
        try:
            status = os.lstat(place)
        except OSError as error:
            what = f"tensor {name}: missing external data: {shown(location)}"
            raise InputError(what, where=path, hint=FETCH) from error
        if stat.S_ISLNK(status.st_mode):
            what = f"tensor {name}: external data path {shown(location)!r} refused: {shown(step)} is a symbolic link"
            raise InputError(what, where=path, hint="replace the link by the file")
        if i < len(steps) - 1:
            continue
        if stat.S_ISDIR(status.st_mode):
            what = f"tensor {name}: missing external data: {shown(location)} is a directory"
            raise InputError(what, where=path, hint=FETCH)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            kind = "a hard link" if stat.S_ISREG(status.st_mode) else "no plain file"
            what = f"tensor {name}: external data path {shown(location)!r} refused: it is {kind}"
            raise InputError(what, where=path, hint="replace it by a plain file of its own")
    return status.st_size


def _number(name: str, table: dict[str, str], key: str, path: Path) -> int | None:
    text = table.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS):
        what = f"tensor {name}: external data out of range: {key} {shown(text)!r}"
        raise InputError(what, where=path, hint=FETCH)
    return int(text)
