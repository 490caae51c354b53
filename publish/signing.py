"""Sign a published tree with a local elliptic-curve key (model-signing), and verify it. Off unless a key is set.

An ECDSA signature is another one every time: signing again what is signed would make a change of nothing, so a
published signature that still holds is kept.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.command import say
from pipeline.errors import ArtifactError, RecipeError
from publish.foreign import FOREIGN
from publish.tree import SIGNATURE

KEY = "PIPELINE_SIGNING_KEY"  # path of the private key, in PEM; never on a command line, which others can read
BROKEN = (ValueError, LookupError, TypeError, AttributeError)  # what model-signing raises for what it cannot accept


class SignatureError(ArtifactError):
    """A tree's signature is missing, broken, by another key, or about other files."""


def configured_key() -> Path | None:
    """The private key that the environment names, or None: publish unsigned. RecipeError when it is no file."""
    name = os.environ.get(KEY, "")
    if name and not Path(name).is_file():
        raise RecipeError("the signing key is not a file", where=KEY, hint=f"name a PEM file in {KEY}, or unset it")
    return Path(name) if name else None


def sign(directory: Path, key: Path) -> Path:
    """Sign every file of a tree; the signature's path, model.sig in it.

    RecipeError when the key is no unencrypted private key on P-256, P-384 or P-521, or model-signing is not installed.
    """
    signing = _library("signing")
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
    except BROKEN as error:
        hint = f"make one: openssl ecparam -name prime256v1 -genkey -noout -out FILE; name it in {KEY}"
        raise RecipeError(f"not a key that can sign: {error}", where=KEY, hint=hint) from error
    path = directory / SIGNATURE
    path.unlink(missing_ok=True)
    try:
        signer.set_hashing_config(_hashing()).sign(directory, path)
    except BROKEN as error:
        hint = "remove links and special files from the tree"
        raise SignatureError(f"cannot be signed: {error}", where=directory, hint=hint) from error
    return path


def verify(directory: Path, public_key: Path) -> None:
    """Prove that this key's owner signed exactly these files.

    Raises SignatureError, with the names of altered, added and missing files, and for another key or no signature.
    """
    from cryptography.exceptions import InvalidSignature

    path = directory / SIGNATURE
    hint = "do not use this tree, unless its signer confirms the public key and the files"
    if not path.is_file():
        raise SignatureError("there is no signature", where=path, hint=hint)
    try:
        verifier = _library("verifying").Config().use_elliptic_key_verifier(public_key=public_key)
    except BROKEN as error:
        raise RecipeError(
            f"not a public key: {error}",
            where=public_key,
            hint="name with --public-key the PEM file of the signer's public key",
        ) from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the library prints warnings; stdout carries results only
            verifier.set_hashing_config(_hashing()).verify(directory, path)
    except InvalidSignature as error:
        raise SignatureError("the signature was not made with this key", where=path, hint=hint) from error
    except BROKEN as error:
        raise SignatureError(f"the signature does not hold: {error}", where=path, hint=hint) from error


def signature(tree: Path, key: Path, known: Iterable[bytes]) -> bytes:
    """Return the first of the known signatures that holds for the tree and this private key, or a new one.

    Raises ArtifactError when even the new one does not verify, RecipeError for a key that cannot sign. The tree is left
    as it was.
    """
    place = tree / SIGNATURE
    with tempfile.TemporaryDirectory(prefix="publish-key-") as temporary:
        public = Path(temporary) / "public.pem"
        public.write_bytes(_public(key))
        try:
            for content in known:
                place.write_bytes(content)
                if _holds(tree, public):
                    say("signature: unchanged")
                    return content
            sign(tree, key)
            verify(tree, public)
            say("signature: made")
            return place.read_bytes()
        finally:
            place.unlink(missing_ok=True)


def _holds(tree: Path, public: Path) -> bool:
    try:
        verify(tree, public)
    except ArtifactError:
        return False
    return True


def _public(key: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # no key, one with a password, an unknown kind
        hint = f"name an unencrypted private key, in PEM, in {KEY}"
        raise RecipeError("not a key that can sign", where=KEY, hint=hint) from error
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form)


def _hashing() -> Any:
    ignored = [SIGNATURE, *FOREIGN]
    return _library("hashing").Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _library(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        hint = "run: make setup EXTRAS=signing, or unset the key"
        raise RecipeError(f"model-signing is not installed: {error}", where=KEY, hint=hint) from error
