"""Fetch a checkpoint from the Hugging Face Hub at one commit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from artifact.errors import InputError, RecipeError

COMMIT = re.compile(r"[0-9a-f]{40}")
PATIENCE = 30.0  # seconds without an answer; the client alone would wait for ever
WAYS_OUT = (
    "either restore the network (and log in with HF_TOKEN if the repository is private), "
    "or download the repository elsewhere and pass its directory with --source DIR (make: SOURCE=DIR)"
)


def resolve(repository: str, revision: str) -> str:
    """The 40-hex commit that a branch, tag or commit of a model repository names now.

    Raises InputError when the Hub cannot be reached or has no such revision, RecipeError for an impossible name.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    where = f"{repository}@{revision}"
    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=PATIENCE).sha
    except HFValidationError as error:
        raise RecipeError(str(error), where="source.repository", hint="write it as owner/name") from error
    except (OSError, KeyError, TypeError) as error:  # every failure of the connection is an OSError
        raise InputError(_reason(error), where=where, hint=WAYS_OUT) from error
    if commit is None or not COMMIT.fullmatch(commit):
        raise InputError(f"the Hub answered {commit!r} where a commit is required", where=where, hint=WAYS_OUT)
    return commit


def download(repository: str, commit: str, patterns: list[str], directory: Path) -> None:
    """Download the matching files of one commit into a directory; InputError when that fails. Shows progress.

    Only files at the repository's top are fetched: a pattern's * would match in its folders too.
    """
    from huggingface_hub import snapshot_download

    where = f"{repository}@{commit}"
    try:
        snapshot_download(
            repository, revision=commit, local_dir=directory, allow_patterns=patterns, ignore_patterns=["*/*"]
        )
    except (OSError, RuntimeError) as error:  # RuntimeError: the client's own transfer library, hf-xet
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the network's
        raise InputError(f"download failed: {_reason(error)}", where=where, hint=WAYS_OUT) from error
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the client's bookkeeping, which holds times


def _reason(error: Exception) -> str:
    from huggingface_hub import errors
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import Timeout

    known = {
        errors.OfflineModeIsEnabled: "the Hub's client is switched off by HF_HUB_OFFLINE",
        errors.GatedRepoError: "the Hub asks to accept the repository's terms, or for a token",
        errors.RepositoryNotFoundError: "the Hub has no such repository, or it is private",
        errors.RevisionNotFoundError: "the Hub's repository has no such revision",
        errors.LocalEntryNotFoundError: "the Hub cannot be reached",
    }
    for kind, reason in known.items():
        if isinstance(error, kind):
            return reason
    lines = str(error).strip().splitlines()
    if isinstance(error, errors.HfHubHTTPError):
        return f"the Hub refused: {lines[0] if lines else type(error).__name__}"
    if isinstance(error, Unreachable | Timeout) or not lines:
        return f"the Hub cannot be reached ({type(error).__name__})"
    return f"{lines[0]} ({type(error).__name__})"
