from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifact.manifest import FileEntry, Manifest, parse_manifest
from pipeline.canonical import canonical_json
from pipeline.errors import BROKEN_INPUT, ArtifactError

AGAIN = "remove this directory, and run the stage that makes it (python -m convert, quantize or verify)"
MANIFEST = Manifest(
    kind="model",
    name="tiny",
    variant="q8",
    source={"repository": "someone/tiny", "commit": None, "license": "mit"},
    recipe="1" * 64,
    code="2" * 64,
    parents={"fp32": "3" * 64},
    tools={"onnx": "1.23.2"},
    facts={"layers": 2, "signature": [["input_ids", "int64", ["batch_size", 1]]]},
    files=(FileEntry("config.json", 2, "4" * 64), FileEntry("onnx/model.onnx", 3, "5" * 64)),
)


def table(**changes: Any) -> dict[str, Any]:
    return {**json.loads(canonical_json(asdict(MANIFEST))), **changes}


def entry(path: object) -> dict[str, Any]:
    return {"path": path, "size": 1, "sha256": "6" * 64}


def refusal(content: object) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(content if isinstance(content, bytes) else canonical_json(content), "build/x/manifest.json")
    assert caught.value.where.startswith("build/x/manifest.json")
    assert caught.value.exit_code == BROKEN_INPUT
    return caught.value


def test_round_trip_keeps_the_digest() -> None:
    again = parse_manifest(canonical_json(table()), "here")
    assert again == MANIFEST
    assert again.digest == MANIFEST.digest


def test_digest_does_not_depend_on_layout_or_key_order() -> None:
    loose = json.dumps(dict(reversed(table().items())), indent=4).encode()
    assert parse_manifest(loose, "here").digest == MANIFEST.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "report"},
        {"name": "other"},
        {"variant": "q4"},
        {"source": {"repository": "someone/else"}},
        {"recipe": "0" * 64},
        {"code": "0" * 64},
        {"parents": {}},
        {"tools": {"onnx": "1.23.3"}},
        {"facts": {}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_field_counts(changes: dict[str, Any]) -> None:
    other = replace(MANIFEST, **changes)
    assert other.digest != MANIFEST.digest
    assert not other.same_making(MANIFEST)


def test_files_count_for_the_digest_but_not_for_the_making() -> None:
    other = replace(MANIFEST, files=())
    assert other.digest != MANIFEST.digest
    assert other.same_making(MANIFEST)


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1, "schema": 1}', b'{"name": NaN}', b"[" * 100_000])
def test_refuses_what_is_not_json(content: bytes) -> None:
    error = refusal(content)
    assert "JSON" in error.what
    assert error.hint == AGAIN


@pytest.mark.parametrize("content", [[], "text", None, {}, table(schema=2), table(schema="1"), table(schema=None)])
def test_refuses_another_schema(content: object) -> None:
    error = refusal(content)
    assert error.what == "not a manifest of schema 1"
    assert error.hint == f"{AGAIN} with this version"


@pytest.mark.parametrize(
    ("changes", "what", "where"),
    [
        ({"schema": True}, "expected int, found bool True", ": schema"),
        ({"created": "2026-01-01"}, "unknown key 'created'", ""),
        ({"kind": 1}, "expected str, found int 1", ": kind"),
        ({"parents": {"fp32": None}}, "expected str, found NoneType None", ": parents.fp32"),
        ({"source": {"commit": 5}}, "expected str, found int 5", ": source.commit"),
        ({"files": {}}, "expected tuple, found dict {}", ": files"),
        ({"files": [{"path": "a"}]}, "missing key 'size'", ": files[0]"),
        ({"files": [entry(1)]}, "expected str, found int 1", ": files[0]: path"),
        ({"files": [{**entry("a"), "mode": 7}]}, "unknown key 'mode'", ": files[0]"),
    ],
)
def test_refuses_what_the_schema_does_not_declare(changes: dict[str, Any], what: str, where: str) -> None:
    error = refusal(table(**changes))
    assert error.what == what
    assert error.where == f"build/x/manifest.json{where}"


@pytest.mark.parametrize("key", [key for key in table() if key not in ("facts", "files", "schema")])
def test_refuses_a_missing_key(key: str) -> None:
    content = table()
    del content[key]
    assert refusal(content).what == f"missing key {key!r}"


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../x", "a/../../x", "a/..", "/etc/passwd", "//x", "./a", "a//b", "a/", "a/./b", "manifest.json"],
)
def test_refuses_a_path_that_escapes_or_has_two_spellings(path: str) -> None:
    error = refusal(table(files=[entry(path)]))
    assert error.what == f"unsafe file path {path!r}"
    assert error.hint == AGAIN


@pytest.mark.parametrize("paths", [["b", "a"], ["a", "a"], ["a", "a/b", "B"]])
def test_refuses_an_unsorted_or_repeated_path(paths: list[str]) -> None:
    error = refusal(table(files=[entry(path) for path in paths]))
    assert error.what == "file list is not sorted and unique"
    assert error.hint == AGAIN


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.builds(list), st.builds(dict))


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_raises_only_artifact_errors(data: st.DataObject) -> None:
    """Any one value of a manifest replaced by another, or any bytes changed."""
    content = table()
    at: Any = content
    while True:
        key = data.draw(st.sampled_from(range(len(at)) if isinstance(at, list) else sorted(at)))
        if not at[key] or not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(values)
    raw = bytearray(json.dumps(content), "utf-8")
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(0, 255))
    try:
        manifest = parse_manifest(bytes(raw), "here")
    except ArtifactError:
        return
    assert parse_manifest(canonical_json(asdict(manifest)), "here").digest == manifest.digest
