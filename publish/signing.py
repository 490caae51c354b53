"""Signatures of published trees (model-signing, in the group `signing`)."""

from __future__ import annotations

import os
from pathlib import Path

from artifact.errors import ArtifactError, RecipeError
from publish.tree import SIGNATURE

KEY = "PIPELINE_SIGNING_KEY"  # path of the private key, in PEM


def configured_key() -> Path | None:
    """The private key that the environment names, or None: publish unsigned. RecipeError when it is no file."""
    name = os.environ.get(KEY, "")
    if name and not Path(name).is_file():
        raise RecipeError("the signing key is not a file", where=KEY, hint=f"name a PEM file in {KEY}, or unset it")
    return Path(name) if name else None


def sign(directory: Path, key: Path) -> None:
    """Write the signature of every file into the directory, with an elliptic-curve key in PEM."""
    from model_signing import signing

    signing.Config().use_elliptic_key_signer(private_key=key).sign(directory, directory / SIGNATURE)


def verify(directory: Path, public_key: Path) -> None:
    """ArtifactError unless the directory's signature is of every file in it, by this key."""
    from model_signing import hashing, verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[directory / SIGNATURE]))
    try:
        config.verify(directory, directory / SIGNATURE)
    except ValueError as error:
        raise ArtifactError(f"signature does not hold: {error}", where=directory, hint="do not use it") from error
