"""Prove a published repository: every file against its manifest, its provenance and its signature."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from pipeline.artifact import store
from pipeline.canonical import read_json
from pipeline.command import say
from pipeline.errors import CHECK_FAILED, PASSED, RecipeError
from publish import provenance, signing
from publish.hub import Hub
from publish.plan import ATTRIBUTES
from publish.tree import PROVENANCE, SIGNATURE

AGAIN = "python -m publish RECIPE --push, which replaces what is not as it was published"


def check(api: Hub, what: str, public_key: Path | None) -> int:
    """Download OWNER/NAME[@REVISION] into a temporary directory and prove it.

    PASSED if everything holds; CHECK_FAILED when it is signed and there is no key to prove that with. Raises
    ArtifactError for a file that differs, is missing or is additional, or a statement that does not hold.
    """
    repository, _, revision = what.partition("@")
    with tempfile.TemporaryDirectory(prefix="publish-check-") as temporary:
        tree = Path(temporary) / "repo"
        api.download(repository, revision or "main", tree)
        shutil.rmtree(tree / ".cache", ignore_errors=True)  # the client's bookkeeping
        (tree / ATTRIBUTES).unlink(missing_ok=True)
        signed = (tree / SIGNATURE).is_file()
        if public_key is not None and not signed:
            raise RecipeError("it is not signed", where=what, hint="leave --public-key away to check the rest")
        if public_key is not None:
            signing.verify(tree, public_key)
            say("signature: holds")
        (tree / SIGNATURE).unlink(missing_ok=True)
        artifact = store.open_artifact(tree, made_by=AGAIN)
        say(f"manifest: {len(artifact.manifest.files)} files hold; digest {artifact.digest}")
        provenance.check(read_json(tree / PROVENANCE), tree)
        say("provenance: holds")
    if signed and public_key is None:
        say("signature: NOT CHECKED, so not passed: name the publisher's key with --public-key FILE")
        return CHECK_FAILED
    return PASSED
