"""Fetch a checkpoint from the Hugging Face Hub at one commit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError, PipelineError, RecipeError, UnavailableError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

COMMIT = re.compile(r"[0-9a-f]{40}")
RETRIED = (408, 429, 500, 502, 503, 504)  # HTTP: too slow, too often, or the server's own fault
PATIENCE = 30.0  # seconds without an answer; the client alone would wait for ever
WAYS_OUT = (
    "either restore the network (and log in with HF_TOKEN if the repository is private), "
    "or download the repository elsewhere and pass its directory with --source DIR (make: SOURCE=DIR)"
)


@dataclass(frozen=True)
class Snapshot:
    """A commit, and what its files hold, learnt without downloading one."""

    commit: str
    files: Mapping[str, str]  # path -> the Hub's digest of the content: SHA-256 of a large file, git's SHA-1 of others
    bytes: Mapping[str, int]
    license: str | None  # as the model card states it


def resolve(repository: str, revision: str) -> str:
    """The 40-hex commit that a branch, tag or commit of a model repository names now.

    Raises UnavailableError when the Hub cannot be reached, InputError when it has no such revision or does not give
    it, RecipeError for an impossible name.
    """
    return _commit(_ask(repository, revision, files=False), f"{repository}@{revision}")


def describe(repository: str, revision: str) -> Snapshot:
    """The commit that a revision names now, and the digests of its files. Raises what `resolve` does."""
    where = f"{repository}@{revision}"
    info = _ask(repository, revision, files=True)
    digests, sizes = {}, {}
    for file in info.siblings or ():
        content = file.lfs.sha256 if file.lfs is not None else file.blob_id
        if content is None:
            raise InputError(f"the Hub gave no digest of {file.rfilename}", where=where, hint=WAYS_OUT)
        digests[file.rfilename], sizes[file.rfilename] = content, file.size or 0
    license_ = info.card_data.get("license") if info.card_data is not None else None
    return Snapshot(_commit(info, where), digests, sizes, license_ if isinstance(license_, str) else None)


def _ask(repository: str, revision: str, *, files: bool) -> ModelInfo:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    where = f"{repository}@{revision}"
    try:
        return HfApi().model_info(repository, revision=revision, timeout=PATIENCE, files_metadata=files)
    except HFValidationError as error:
        raise RecipeError(str(error), where="source.repository", hint="write it as owner/name") from error
    except (OSError, KeyError, TypeError) as error:  # every failure of the connection is an OSError
        raise _kind(error)(_reason(error), where=where, hint=WAYS_OUT) from error


def _commit(info: ModelInfo, where: str) -> str:
    if info.sha is None or not COMMIT.fullmatch(info.sha):
        raise InputError(f"the Hub answered {info.sha!r} where a commit is required", where=where, hint=WAYS_OUT)
    return info.sha


def download(repository: str, commit: str, patterns: list[str], directory: Path) -> None:
    """Download the matching files of one commit into a directory; raises what `resolve` does. Shows progress.

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
        raise _kind(error)(f"download failed: {_reason(error)}", where=where, hint=WAYS_OUT) from error
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the client's bookkeeping, which holds times


def _kind(error: Exception) -> type[PipelineError]:
    """UnavailableError if trying again may help; InputError for an answer that will be the same next time."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from requests.exceptions import RequestException

    chain = (error, error.__cause__)  # the client wraps what happened in a LocalEntryNotFoundError
    if any(isinstance(link, KeyError | TypeError | OfflineModeIsEnabled) for link in chain):
        return InputError
    answers = [link.response for link in chain if isinstance(link, RequestException) and link.response is not None]
    # No answer, or one that broke off, may be better next time; so may a server's own fault.
    return InputError if any(answer.status_code not in RETRIED for answer in answers) else UnavailableError


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
