"""`python -m publish --check`: a published repository is proved by its manifest, provenance and signature."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline import command
from publish.__main__ import main
from tests.support import rehearsing
from tests.support.local_hub import LocalHub
from tests.support.rehearsing import FIRST, Publisher

server, hub, publish = rehearsing.server, rehearsing.hub, rehearsing.publish


def check(repository: str, *words: object) -> int:
    return command.run(main, ["--check", repository, *map(str, words)])


def make_key(directory: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / f"{name}.pem", directory / f"{name}.pub"
    plain, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, form))
    return private, public


def test_published_repository_is_proved(hub: LocalHub, publish: Publisher, capfd: pytest.CaptureFixture[str]) -> None:
    publish("--push")
    assert check(publish.repository) == 0
    assert "provenance: holds" in capfd.readouterr().err
    hub.api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=publish.repository)
    assert check(publish.repository) == 3
    assert "file config.json differs" in capfd.readouterr().err
    tag = next(iter(hub.tags(publish.repository)))
    assert check(f"{publish.repository}@{tag}") == 0
    assert check(f"{publish.repository}@nothing") == 3
    assert check("rehearsal/nothing") == 3


def test_signature_is_proved_and_made_once(
    hub: LocalHub,
    publish: Publisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    private, public = make_key(tmp_path, "ours")
    _, other = make_key(tmp_path, "theirs")
    monkeypatch.setenv("PIPELINE_SIGNING_KEY", str(private))
    assert "signature: made" in publish("--push")
    assert check(publish.repository, "--public-key", public) == 0
    assert "signature: holds" in capfd.readouterr().err
    assert check(publish.repository) == 1
    assert "NOT CHECKED" in capfd.readouterr().err
    assert check(publish.repository, "--public-key", other) == 3
    (publish.build.home / "small" / "repo.model.sig").unlink()
    assert "main is what would be published" in publish("--push")
    publish.build.make({**FIRST, "q8": b"other q8"})
    assert "signature: made" in publish("--push")
    assert check(publish.repository, "--public-key", public) == 0
    assert len(hub.history(publish.repository)) == 2


def test_a_signature_that_comes_changes_or_goes_is_a_publication_of_its_own(
    hub: LocalHub, publish: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest, whose digest names the tag, knows nothing of it."""
    publish("--push")
    for name in ("first", "second"):
        private, public = make_key(tmp_path, name)
        monkeypatch.setenv("PIPELINE_SIGNING_KEY", str(private))
        publish("--push")
        assert check(publish.repository, "--public-key", public) == 0
        named = {
            tag for tag, commit in hub.tags(publish.repository).items() if commit in hub.history(publish.repository)[0]
        }
        assert [check(f"{publish.repository}@{tag}", "--public-key", public) for tag in named] == [0]
    monkeypatch.delenv("PIPELINE_SIGNING_KEY")
    publish("--push")
    assert len(hub.history(publish.repository)) == 4
    assert len(hub.tags(publish.repository)) == 3, "without a signature it is the first tree again"


@pytest.mark.parametrize("content", [b"no key", b"", "password"])
def test_a_key_that_cannot_sign_is_refused(
    publish: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str
) -> None:
    if isinstance(content, str):
        key, secret = ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(content.encode())
        content = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    (tmp_path / "key.pem").write_bytes(content)
    monkeypatch.setenv("PIPELINE_SIGNING_KEY", str(tmp_path / "key.pem"))
    assert "not a key that can sign" in publish(code=2)
