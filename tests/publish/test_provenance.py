"""Provenance and signature: what holds is accepted; every change is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from pipeline.canonical import digest, file_digest
from pipeline.errors import RecipeError
from publish import provenance, signing
from publish.tree import DOCUMENT, PROVENANCE, SIGNATURE, Publishable
from tests.support.publication import assembled

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def published(build: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Publishable, Path]:
    tree = tmp_path_factory.mktemp("hub") / "tree"
    about = assembled(build / "embedded", tree)
    (tree / PROVENANCE).write_text(json.dumps(provenance.statement(about)))
    return about, tree


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("keys") / "key")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "onnx").mkdir(parents=True)
    (tree / "onnx" / "model.onnx").write_bytes(b"graph")
    (tree / "config.json").write_text("{}")
    return tree


def new_key(path: Path, curve: ec.EllipticCurve | None = None) -> Path:
    private = ec.generate_private_key(curve or ec.SECP256R1())
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    path.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


def test_statement_is_in_toto_and_slsa(published: tuple[Publishable, Path]) -> None:
    about, tree = published
    found = provenance.statement(about)
    message = json_format.ParseDict(found, StatementMessage())  # refuses unknown fields
    Statement.copy_from_pb(message).validate()
    json_format.ParseDict(found["predicate"], Provenance())
    digests = {subject["name"]: subject["digest"]["sha256"] for subject in found["subject"]}
    assert digests["onnx/model_q4.onnx"] == file_digest(tree / "onnx/model_q4.onnx")
    names = [item["name"] for item in found["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert {"source", "source/model.safetensors", "converter", "constraints.txt"} <= set(names)


def test_statement_has_no_time_and_no_place(published: tuple[Publishable, Path]) -> None:
    about, tree = published
    first, second = provenance.statement(about), provenance.statement(about)
    assert digest(first) == digest(second)
    assert str(tree.parent) not in json.dumps(first)
    assert str(about.home) not in json.dumps(first)


def test_statement_holds_for_its_tree(published: tuple[Publishable, Path]) -> None:
    about, tree = published
    (tree / "manifest.json").write_text("{}")
    (tree / ".gitattributes").write_text("*.onnx filter=lfs")
    provenance.check(provenance.statement(about), tree)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda tree: (tree / "config.json").write_text("{ }"), r"config\.json differs"),
        (lambda tree: (tree / "config.json").unlink(), r"config\.json is missing"),
        (lambda tree: (tree / "onnx/evil.onnx").write_text(""), r"onnx/evil\.onnx is not in the provenance"),
        (lambda tree: (tree / "evil").symlink_to(tree / "config.json"), "evil is not in the provenance"),
    ],
)
def test_changed_tree_is_refused(small: Path, change: Change, refusal: str) -> None:
    found = minimal(small)
    provenance.check(found, small)
    change(small)
    with pytest.raises(provenance.ProvenanceError, match=refusal):
        provenance.check(found, small)


@pytest.mark.parametrize(
    ("path", "value", "refusal"),
    [
        (("predicateType",), "https://slsa.dev/provenance/v0.2", "not a statement of this pipeline"),
        (("predicate", "buildDefinition", "buildType"), "urn:other", "not a statement of this pipeline"),
        (("predicate",), None, "not a provenance statement"),
        (("subject",), [{"name": "config.json"}], "not a provenance statement"),
        (("predicate", "buildDefinition", "externalParameters", "recipe", "content"), "other", "the recipe"),
        (("predicate", "runDetails", "byproducts"), [], "the report"),
    ],
)
def test_changed_statement_is_refused(small: Path, path: tuple[str, ...], value: Any, refusal: str) -> None:
    found = minimal(small)
    table: Any = found
    for step in path[:-1]:
        table = table[step]
    table[path[-1]] = value
    with pytest.raises(provenance.ProvenanceError, match=refusal):
        provenance.check(found, small)


def test_statement_that_lists_a_file_twice_is_refused(small: Path) -> None:
    found = minimal(small)
    found["subject"].append(found["subject"][0])
    with pytest.raises(provenance.ProvenanceError, match="twice"):
        provenance.check(found, small)


def test_signature_holds_where_foreign_files_are_added(small: Path, key: Path, tmp_path: Path) -> None:
    assert signing.sign(small, key) == small / SIGNATURE
    (small / ".gitattributes").write_text("what the Hub adds")
    (small / ".cache").mkdir()
    (small / ".cache" / "huggingface").write_text("what its client adds")
    moved = small.rename(tmp_path / "elsewhere")  # the directory's name is no part of what was signed
    signing.verify(moved, key.with_suffix(".pub"))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda tree: (tree / "onnx/model.onnx").write_bytes(b"Graph"), r"onnx/model\.onnx"),
        (lambda tree: (tree / "onnx/model.onnx").unlink(), r"onnx/model\.onnx"),
        (lambda tree: (tree / "onnx/model_q4.onnx").write_bytes(b""), r"onnx/model_q4\.onnx"),
        (lambda tree: (tree / ".gitignore").write_text(""), r"\.gitignore"),
        (lambda tree: (tree / "link").symlink_to("config.json"), "link"),
        (lambda tree: (tree / SIGNATURE).unlink(), "no signature"),
        (lambda tree: (tree / SIGNATURE).write_text("{}"), "does not hold"),
        (lambda tree: (tree / SIGNATURE).write_text("\0"), "does not hold"),
    ],
)
def test_changed_signed_tree_is_refused(small: Path, key: Path, change: Change, refusal: str) -> None:
    signing.sign(small, key)
    change(small)
    with pytest.raises(signing.SignatureError, match=refusal):
        signing.verify(small, key.with_suffix(".pub"))


def test_forged_signature_is_refused(small: Path, key: Path, tmp_path: Path) -> None:
    signing.sign(small, key)
    bundle = json.loads((small / SIGNATURE).read_text())
    with pytest.raises(signing.SignatureError, match="does not hold"):
        signing.verify(small, new_key(tmp_path / "other").with_suffix(".pub"))
    del bundle["verificationMaterial"]["publicKey"]["hint"]  # the hint is no proof: without it the signature decides
    (small / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(signing.SignatureError, match="not made with this key"):
        signing.verify(small, tmp_path / "other.pub")


def test_unusable_keys_are_refused(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("no key")
    for key in (tmp_path / "text", new_key(tmp_path / "curve", ec.SECP256K1())):
        with pytest.raises(RecipeError, match="not a key that can sign"):
            signing.sign(small, key)
    with pytest.raises(RecipeError, match="not a public key"):
        signing.sign(small, new_key(tmp_path / "good"))
        signing.verify(small, tmp_path / "text")
    monkeypatch.delenv(signing.KEY, raising=False)
    assert signing.configured_key() is None
    monkeypatch.setenv(signing.KEY, str(tmp_path / "absent"))
    with pytest.raises(RecipeError, match="not a file"):
        signing.configured_key()


def minimal(tree: Path) -> dict[str, Any]:
    """A statement about a small tree, in the form that `statement` gives it."""
    (tree / "report").mkdir()
    (tree / DOCUMENT).write_text("{}")
    files = {p.relative_to(tree).as_posix(): file_digest(p) for p in tree.rglob("*") if p.is_file()}
    content = "name = 'x'"
    (tree / "recipe").write_text(content)
    recipe = {"name": "x.toml", "sha256": file_digest(tree / "recipe"), "content": content}
    (tree / "recipe").unlink()
    subject = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in files.items()]
    return {
        "_type": provenance.STATEMENT,
        "predicateType": provenance.PREDICATE,
        "subject": subject,
        "predicate": {
            "buildDefinition": {"buildType": provenance.BUILD_TYPE, "externalParameters": {"recipe": recipe}},
            "runDetails": {"byproducts": [item for item in subject if item["name"] == DOCUMENT]},
        },
    }
