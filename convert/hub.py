"""Fetch a checkpoint from the Hugging Face Hub at one commit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING

from model import hub_environment
from pipeline.errors import InputError, PipelineError, RecipeError, UnavailableError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

COMMIT = re.compile(r"[0-9a-f]{40}")
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
    hub_environment.check()  # the client raises while it is imported
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        with _failures(f"{repository}@{revision}"):
            return HfApi().model_info(repository, revision=revision, timeout=PATIENCE, files_metadata=files)
    except HFValidationError as error:
        raise RecipeError(
            f"{repository!r} is no repository of the Hub: {error}",
            where="source.repository",
            hint="write it as owner/name",
        ) from error


def _commit(info: ModelInfo, where: str) -> str:
    if info.sha is None or not COMMIT.fullmatch(info.sha):
        raise InputError(f"the Hub answered {info.sha!r} where a commit is required", where=where, hint=WAYS_OUT)
    return info.sha


def download(repository: str, commit: str, patterns: list[str], directory: Path) -> None:
    """Download the matching files of one commit into a directory; raises what `resolve` does. Shows progress.

    A pattern's * matches in folders too, so those at the repository's top are fetched first, without any folder's.
    """
    hub_environment.check()
    from huggingface_hub import snapshot_download

    with _failures(f"{repository}@{commit}", "download failed: "):
        for depth, wanted in ((0, [p for p in patterns if "/" not in p]), (1, [p for p in patterns if "/" in p])):
            snapshot_download(
                repository,
                revision=commit,
                local_dir=directory,
                allow_patterns=wanted,
                ignore_patterns=["/".join("*" * (depth + 2))],
            )
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the client's bookkeeping, which holds times


@contextmanager
def _failures(where: str, prefix: str = "") -> Iterator[None]:
    """Turn the client's errors into ours, but not the disk's, nor what it says of a repository's name."""
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub.errors import DeviceCodeError, HFValidationError, OIDCError

    from model import hub_client

    hub_client.use(PATIENCE)
    try:
        yield
    except HFValidationError:
        raise
    # A request that fails is an HTTPError, hf-xet's errors are RuntimeErrors and OSErrors, no token comes of OIDC or of
    # a device code, and an answer that is none of the Hub's is one of the last three.
    except (
        HTTPError, OSError, RuntimeError, InvalidURL, OIDCError, DeviceCodeError, KeyError, TypeError, ValueError
    ) as error:  # fmt: skip
        network = isinstance(error, HTTPError | ConnectionError | TimeoutError)
        if isinstance(error, OSError) and error.errno is not None and not network:
            raise
        raise _kind(error)(f"{prefix}{_reason(error)}", where=where, hint=WAYS_OUT) from error


def _kind(error: Exception) -> type[PipelineError]:
    """UnavailableError if trying again may help; InputError for an answer that will be the same next time."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import OfflineModeIsEnabled

    from model.hub_client import is_transient

    error = _happened(error)
    if isinstance(error, OfflineModeIsEnabled):
        return InputError
    response = getattr(error, "response", None)
    if response is not None:
        return UnavailableError if is_transient(response.status_code) else InputError
    # No answer, one that broke off, or a login page of the network's may be better next time.
    passing = HTTPError | OSError | RuntimeError | JSONDecodeError | UnicodeDecodeError
    return UnavailableError if isinstance(error, passing) else InputError


def _happened(error: Exception) -> Exception:
    """Return what went wrong where the client says only that it has no file of its own either."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    return cause if isinstance(cause, Exception) else error


def _reason(error: Exception) -> str:
    from httpx2 import TransportError
    from huggingface_hub import errors

    from model.hub_client import seconds_asked

    error = _happened(error)
    known = {
        errors.OfflineModeIsEnabled: "the Hub's client is switched off by HF_HUB_OFFLINE",
        errors.GatedRepoError: "the Hub asks to accept the repository's terms, or for a token",
        errors.RepositoryNotFoundError: "the Hub has no such repository, or it is private",
        errors.RevisionNotFoundError: "the Hub's repository has no such revision",
        errors.LocalEntryNotFoundError: "the Hub cannot be reached",
        JSONDecodeError: "the Hub's answer is no JSON: it may be another server's, such as a login page",
        UnicodeDecodeError: "the Hub's answer is no text: it may be another server's",
        UnicodeEncodeError: "the stored token holds characters that no request can carry: run `hf auth login` again",
    }
    for kind, reason in known.items():
        if isinstance(error, kind):
            return reason
    lines = str(error).strip().splitlines()
    if isinstance(error, errors.HfHubHTTPError):
        asked = seconds_asked(error.response.headers)
        wait = "" if asked is None else f"; it asks to wait for {asked:.0f} s"
        return f"the Hub refused: {lines[0] if lines else type(error).__name__}{wait}"
    if isinstance(error, TransportError) or not lines:
        return f"the Hub cannot be reached ({type(error.__cause__ or error).__name__})"
    return f"{lines[0]} ({type(error).__name__})"
