"""Fetch a checkpoint from the Hugging Face Hub at one commit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from artifact.errors import InputError, RecipeError

COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(repository: str, revision: str) -> str:
    """The 40-hex commit that a branch, tag or commit of a model repository names now.

    Raises InputError when the Hub cannot be reached or has no such revision, RecipeError for an impossible name.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HfHubHTTPError, OfflineModeIsEnabled
    from requests.exceptions import RequestException

    where = f"{repository}@{revision}"
    try:
        commit = HfApi().model_info(repository, revision=revision).sha
    except HFValidationError as error:
        raise RecipeError(str(error), where="source.repository", hint="write it as owner/name") from error
    except HfHubHTTPError as error:
        raise InputError(f"the Hub refused: {_first_line(error)}", where=where, hint=_ways_out()) from error
    except (RequestException, OfflineModeIsEnabled) as error:
        raise InputError(f"the Hub cannot be reached ({type(error).__name__})", where=where, hint=_ways_out()) from error
    if commit is None or not COMMIT.fullmatch(commit):
        raise InputError(f"the Hub answered {commit!r} where a commit is required", where=where, hint=_ways_out())
    return commit


def download(repository: str, commit: str, patterns: list[str], directory: Path) -> None:
    """Download the matching files of one commit into a directory; InputError when that fails. Shows progress."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from requests.exceptions import RequestException

    where = f"{repository}@{commit}"
    try:
        snapshot_download(repository, revision=commit, local_dir=directory, allow_patterns=patterns)
    except (HfHubHTTPError, LocalEntryNotFoundError, RequestException) as error:
        raise InputError(f"download failed: {_first_line(error)}", where=where, hint=_ways_out()) from error
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the client's bookkeeping, which holds times


def _ways_out() -> str:
    return (
        "either restore the network (and log in with HF_TOKEN if the repository is private), "
        "or download the repository elsewhere and pass its directory with --source DIR (make: SOURCE=DIR)"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
