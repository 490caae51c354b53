from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.canonical import canonical_json, code_files, digest, file_digest, parse_json, read_json
from pipeline.errors import BROKEN_INPUT, InputError

repeatable = settings(deadline=None, derandomize=True, max_examples=200)

text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=30)


def reordered(value: Any) -> Any:
    """The same value with the keys of every table in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def test_canonical_json_is_sorted_compact_utf8() -> None:
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é\n"}) == '{"a":"é\\n","b":[1,2.5,null,true]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")], "\ud800"])
def test_canonical_json_refuses_what_json_cannot_say(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
        canonical_json(value)


@repeatable
@given(json_values)
def test_canonical_json_round_trip(value: Any) -> None:
    content = canonical_json(value)
    assert parse_json(content, "here") == value
    assert canonical_json(parse_json(content, "here")) == content


@repeatable
@given(json_values)
def test_canonical_json_ignores_key_order(value: Any) -> None:
    assert canonical_json(reordered(value)) == canonical_json(value)
    assert digest(reordered(value)) == digest(value)


def test_digest_is_the_sha256_of_the_canonical_json() -> None:
    assert digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


def test_file_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "stage"
    for name in ("__init__.py", "first/same/module.py", "second/same/module.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}")
    return folder


@pytest.mark.parametrize(
    "name", ["__init__.py", "first/same/module.py", "second/same/module.py", "first/new.py", "first/new.mjs"]
)
def test_code_files_sees_every_file(package: Path, name: str) -> None:
    before = code_files(package)
    (package / name).write_text("changed")
    assert code_files(package) != before


def test_code_files_sees_a_file_that_moves(package: Path) -> None:
    before = code_files(package)
    (package / "first/same/module.py").rename(package / "first/module.py")
    assert code_files(package) != before


def test_code_files_passes_an_editors_lock_over(package: Path) -> None:
    before = code_files(package)
    (package / ".#stage.py").symlink_to("somebody@a-host.1234:5678")  # Emacs, while a file is being edited
    assert code_files(package) == before


def test_code_files_ignores_place_order_and_other_files(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "stage"
    shutil.copytree(package, copy)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "module.cpython-311.pyc").write_bytes(b"")
    (copy / "notes.txt").write_text("not code")
    (copy / "first" / "node_modules" / "package").mkdir(parents=True)
    (copy / "first" / "node_modules" / "package" / "index.mjs").write_text("installed, and pinned by the lock file")
    assert code_files(copy) == code_files(package)
    assert code_files(package, package / "first") == code_files(package / "first", package)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"a": 1, "a": 1}', "invalid JSON: duplicate key 'a'"),
        (b'{"x": [{"b": 1, "c": 2, "b": 3}]}', "invalid JSON: duplicate key 'b'"),
        (b"NaN", "invalid JSON: NaN is not a JSON number"),
        (b'{"a": -Infinity}', "invalid JSON: -Infinity is not a JSON number"),
        (b"[Infinity]", "invalid JSON: Infinity is not a JSON number"),
        (b"1e999", "invalid JSON: Out of range float"),
        (b"9" * 5000, "invalid JSON: Exceeds the limit"),
        (b'"\\ud800"', "invalid JSON: 'utf-8' codec can't encode"),
        (b'"\xed\xa0\x80"', "invalid JSON: 'utf-8' codec can't decode"),
        (b"\xff{}", "invalid JSON: 'utf-8' codec can't decode"),
        ('{"a": 1}'.encode("utf-16"), "invalid JSON: 'utf-8' codec can't decode"),
        (b"\xef\xbb\xbf{}", "invalid JSON: it begins with a byte order mark"),
        (b"", "invalid JSON: Expecting value"),
        (b'{"a": 1', "invalid JSON: Expecting ',' delimiter"),
        (b"{} {}", "invalid JSON: Extra data"),
        (b"{'a': 1}", "invalid JSON: Expecting property name"),
        (b"version https://git-lfs.github.com/spec/v1\n", "invalid JSON: Expecting value"),
        (b"[" * 100_000, "JSON is nested too deeply"),
        (b'{"a":' * 100_000, "JSON is nested too deeply"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_parse_json_refuses(content: bytes, what: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_json(content, "config.json")
    assert refusal.value.what.startswith(what)
    assert refusal.value.where == "config.json"
    assert refusal.value.hint in (
        "correct the place that it names, or take the file again from where it came",
        "correct that place in the file",
        "save it as UTF-8 without a byte order mark",
        "take out lists and objects within each other: no file of a model needs more than a few levels",
    )
    assert refusal.value.exit_code == BROKEN_INPUT


def test_parse_json_refuses_many_duplicates_at_once() -> None:
    content = json.dumps([str(i) for i in range(100_000)] * 2)[1:-1].replace(",", ":0,")
    with pytest.raises(InputError, match="duplicate key '0'"):
        parse_json(f"{{{content}:0}}", "here")


@repeatable
@given(st.binary() | st.text(alphabet='[]{}",:0e1.-\\ud8NaInfity ').map(str.encode))
def test_parse_json_raises_only_input_errors(content: bytes) -> None:
    try:
        value = parse_json(content, "here")
    except InputError:
        return
    assert parse_json(canonical_json(value), "here") == value


def test_read_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}


def test_read_json_names_the_file_that_is_malformed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(InputError) as refusal:
        read_json(path)
    assert refusal.value.where == str(path)


@pytest.mark.parametrize(("name", "reason"), [("missing.json", "No such file"), (".", "Is a directory")])
def test_read_json_refuses_what_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_json(tmp_path / name)
    assert refusal.value.what.startswith(f"cannot be read: {reason}")
    assert (refusal.value.where, refusal.value.hint) == (str(tmp_path / name), "put a readable file there")
