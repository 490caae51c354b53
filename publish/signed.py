"""The signature that goes with a tree: the one that is published if it holds, or a new one.

Every signing gives other bytes, so signing again what is signed would make a change of nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipeline.command import say
from pipeline.errors import ArtifactError, RecipeError
from publish import signing
from publish.tree import SIGNATURE


def signature(tree: Path, key: Path, known: Iterable[bytes]) -> bytes:
    """The first of the known signatures that holds for the tree and this private key, or a new one that does.

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
            signing.sign(tree, key)
            signing.verify(tree, public)
            say("signature: made")
            return place.read_bytes()
        finally:
            place.unlink(missing_ok=True)


def _holds(tree: Path, public: Path) -> bool:
    try:
        signing.verify(tree, public)
    except ArtifactError:
        return False
    return True


def _public(key: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # no key, one with a password, an unknown kind
        hint = f"name an unencrypted private key, in PEM, in {signing.KEY}"
        raise RecipeError("not a key that can sign", where=signing.KEY, hint=hint) from error
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form)
