"""Canonical JSON, strict JSON, and digests."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

# What decides a result: Python, templates, and scripts and pages with the package-lock.json that pins what they import.
CODE_SUFFIXES = {".py", ".j2", ".css", ".mjs", ".html", ".json"}


def canonical_json(value: object) -> bytes:
    """One byte string per value: keys sorted, no spaces, UTF-8, NaN refused (ValueError)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a table as a model's files of settings are written, for people: indented, keys sorted."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def toml_text(text: str) -> str:
    """A text as TOML writes it: a JSON string is a TOML basic string."""
    return canonical_json(text).decode("utf-8")


def digest(value: object) -> str:
    """SHA-256 (hexadecimal) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_files(*packages: Path) -> dict[str, str]:
    """Return the digests of all files of code below the given folders, by their paths from a folder's parent.

    Installed packages aside: changed code makes results stale.
    """
    files = [
        (package.parent, path)
        for package in packages
        for path in package.rglob("*")
        # An editor's lock is a link to nowhere with a suffix of ours.
        if path.suffix in CODE_SUFFIXES and "node_modules" not in path.relative_to(package).parts and path.is_file()
    ]
    return {path.relative_to(root).as_posix(): file_digest(path) for root, path in files}


def parse_json(text: str | bytes, where: object) -> Any:
    """Parse JSON strictly: duplicate keys, NaN, Infinity and bytes that are not UTF-8 are refused with InputError."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        _require_unmarked(decoded)
        value = json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant)
        _require_canonical(value)
    except RecursionError as error:
        hint = "take out lists and objects within each other: no file of a model needs more than a few levels"
        raise InputError("JSON is nested too deeply", where=where, hint=hint) from error
    except _NotJSONError as error:
        raise InputError(f"invalid JSON: {error}", where=where, hint="correct that place in the file") from error
    except ValueError as error:  # includes UnicodeDecodeError and JSONDecodeError
        raise InputError(f"invalid JSON: {error}", where=where, hint=_advice(text)) from error
    return value


def _require_unmarked(text: str) -> None:
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark")


def _require_canonical(value: object) -> None:
    """Refuse what json.loads lets through: 1e999 (infinity) and half a surrogate pair."""
    try:
        canonical_json(value)
    except ValueError as error:
        raise _NotJSONError(str(error)) from error


class _NotJSONError(ValueError):
    """Text that some parsers take and JSON forbids."""


def _advice(text: str | bytes) -> str:
    """Return what to do about a file that is no JSON: what it begins with tells how it came there."""
    begin = text.lstrip()[:2] if isinstance(text, bytes) else text.lstrip()[:2].encode("utf-8", "replace")
    if begin in (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb"):
        return "save it as UTF-8 without a byte order mark"
    if begin[:1] == b"<":
        return "this is a web page: download the file itself, not its page"
    return "correct the place that it names, or take the file again from where it came"


def read_json(path: Path) -> Any:
    """Read one JSON file strictly; InputError if it is missing or malformed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="put a readable file there") from error
    return parse_json(content, path)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise _NotJSONError(f"duplicate key {twice!r}")
    return table


def _no_constant(name: str) -> float:
    raise _NotJSONError(f"{name} is not a JSON number")
