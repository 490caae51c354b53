"""The Hub through its own client: answers as data, failures as errors that say what to do. No token in any of them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from model import hub_client, hub_environment
from pipeline.command import say
from pipeline.errors import PipelineError
from publish.hub_errors import (
    LOG_IN,
    DamagedError,
    RefusedError,
    UnreachableError,
    is_missing,
    meaning,
    status_of,
)
from publish.plan import HubFile

T = TypeVar("T")
ATTEMPTS = 5
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between attempts, doubled each time
LONGEST_ASKED = 300.0  # seconds; the window of the Hub's rate limits. A Hub that asks for more is left alone
PATIENCE = 300.0  # seconds without an answer; the client alone would wait for ever
REGULAR = 10 * 2**20  # bytes; the Hub takes nothing larger but as a large file
DAMAGED = (400, 422)  # a storage's answers to an upload whose digest is not the one announced
TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")
USER = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True)
class Head:
    """A revision: its commit, its files by path, and whether only its owners may read it."""

    commit: str
    files: dict[str, HubFile]
    private: bool


class Hub:
    """One Hub, asked with one token (None: as anybody), which `offline` asks nobody for. Failed reads are retried."""

    def __init__(self, *, offline: bool = False) -> None:
        self.endpoint = huggingface_hub.constants.ENDPOINT
        self.token: str | None = None
        hub_client.use(PATIENCE)
        # By LFS, wherever hf-xet is installed: docs/decisions/0024-hub-client.md. The client reads this at each upload.
        huggingface_hub.constants.HF_HUB_DISABLE_XET = True
        with self._failures("the token"):  # that of a trusted publisher (OIDC) is asked for
            self.token = hub_environment.token_at_hand() if offline else huggingface_hub.get_token()
        self._api = HfApi(endpoint=self.endpoint, token=self.token or False)

    def namespace(self) -> str:
        """The user whom the token belongs to; RefusedError without a valid token."""
        if self.token is None:
            raise RefusedError("no token", where=self.redact(self.endpoint), hint=LOG_IN)
        return str(self._read(self.endpoint, self._api.whoami)["name"])

    def head(self, repository: str, revision: str = "main") -> Head | None:
        """A revision's files, or None if there is no such repository (or none that this token may see)."""
        where = f"{repository}@{revision}"
        try:
            info = self._read(where, lambda: self._api.model_info(repository, revision=revision, files_metadata=True))
        except RefusedError as error:
            # To somebody without a token the Hub says 401 of what is not there.
            if is_missing(error.__cause__) and (self.token is None or status_of(error.__cause__) == 404):
                return None
            raise
        files = {
            file.rfilename: HubFile(file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id)
            for file in info.siblings or ()
        }
        return Head(str(info.sha), files, private=info.private is True)

    def create(self, repository: str, *, private: bool) -> None:
        """Make the repository if it is not there."""
        self._read(repository, lambda: self._api.create_repo(repository, private=private, exist_ok=True))

    def upload(self, repository: str, operations: Sequence[CommitOperationAdd]) -> None:
        """Send large files ahead of the commit, with progress; those that the Hub has are not sent again."""
        self._retried(
            (UnreachableError, DamagedError),
            repository,
            lambda: self._api.preupload_lfs_files(repository, operations, free_memory=False),
        )

    def commit(
        self, repository: str, operations: Sequence[Any], parent: str, title: str, *, pull_request: bool = False
    ) -> str:
        """One commit, not tried again here; the commit, or refs/pr/N of a new pull request.

        Raises MovedError when `parent` is no longer the head, UnreachableError when it may have been applied or not.
        """
        with self._failures(repository):
            made = self._api.create_commit(
                repository, operations, commit_message=title, parent_commit=parent, create_pr=pull_request
            )
        return str(made.pr_revision) if pull_request else str(made.oid)

    def tags(self, repository: str) -> dict[str, str]:
        """The commit of every tag."""
        found = self._read(repository, lambda: self._api.list_repo_refs(repository))
        return {tag.name: tag.target_commit for tag in found.tags}

    def tag(self, repository: str, name: str, commit: str) -> None:
        """Tag a commit; nothing happens if the tag is there."""
        self._read(repository, lambda: self._api.create_tag(repository, tag=name, revision=commit, exist_ok=True))

    def proposals(self, repository: str, title: str) -> list[str]:
        """refs/pr/N of the open pull requests with this title."""
        found = self._read(
            repository,
            lambda: list(
                self._api.get_repo_discussions(repository, discussion_type="pull_request", discussion_status="open")
            ),
        )
        return [f"refs/pr/{request.num}" for request in found if request.title == title]

    def download(self, repository: str, revision: str, directory: Path) -> None:
        """Every file of a revision, with progress."""
        head = self.head(repository, revision)
        if head is None:
            hint = "look at its name; if it is private, use a token that may see it"
            raise RefusedError("no such repository", where=self.redact(f"{self.endpoint} {repository}"), hint=hint)
        # By its commit: a branch may move before it is tried again, and two trees would be mixed.
        self._read(
            f"{repository}@{revision}",
            lambda: huggingface_hub.snapshot_download(
                repository, revision=head.commit, local_dir=directory, endpoint=self.endpoint, token=self.token or False
            ),
        )

    def read(self, repository: str, path: str) -> bytes | None:
        """The content of one file on main, or None if it, or the repository, is not there."""
        with tempfile.TemporaryDirectory(prefix="publish-") as temporary:
            where: dict[str, Any] = {"endpoint": self.endpoint, "token": self.token or False, "local_dir": temporary}
            try:
                found = self._read(
                    f"{repository}/{path}", lambda: huggingface_hub.hf_hub_download(repository, path, **where)
                )
            except RefusedError as error:
                if isinstance(error.__cause__, errors.RemoteEntryNotFoundError) or is_missing(error.__cause__):
                    return None
                raise
            return Path(found).read_bytes()

    def redact(self, text: str) -> str:
        """The text without this token, anything that looks like one, and the user of an address with a password."""
        text = text.replace(self.token, "[token]") if self.token else text
        return USER.sub("//", TOKEN.sub("[token]", text))

    def retrying(self, kinds: tuple[type[Exception], ...]) -> Retrying:
        """Attempts with growing waits in between, or those that the Hub asks for; each is said on stderr."""
        growing = wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT)

        def tell(state: RetryCallState) -> None:
            say(f"{getattr(_failure(state), 'what', _failure(state))}; trying again")

        return Retrying(
            retry=retry_if_exception_type(kinds),
            wait=lambda state: max(growing(state), _asked(state)),
            stop=lambda state: stop_after_attempt(ATTEMPTS)(state) or _asked(state) > LONGEST_ASKED,
            before_sleep=tell,
            reraise=True,
        )

    def _read(self, where: str, ask: Callable[[], T]) -> T:
        return self._retried((UnreachableError,), where, ask)

    def _retried(self, kinds: tuple[type[Exception], ...], where: str, ask: Callable[[], T]) -> T:
        def once() -> T:
            with self._failures(where):
                return ask()

        return self.retrying(kinds)(once)

    @contextmanager
    def _failures(self, where: str) -> Iterator[None]:
        """Turn the client's errors into ours."""
        try:
            yield
        except (OSError, httpx2.HTTPError) as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, httpx2.HTTPError):
                raise  # the disk's fault, not the network's
            raise self._error(error, where) from error
        except RuntimeError as error:  # what went wrong with an upload comes wrapped
            cause = error.__cause__
            if not isinstance(cause, httpx2.HTTPError):
                raise self._error(error, where) from error
            if status_of(cause) in DAMAGED:
                hint = "run it again; if it stays so, look for a broken proxy or memory"
                raise DamagedError(
                    f"{self.redact(str(error))} It did not arrive as it was sent", where=where, hint=hint
                ) from cause
            raise self._error(cause, where) from cause
        except (json.JSONDecodeError, UnicodeDecodeError) as error:  # of a network's login page, say
            raise self._error(httpx2.DecodingError(f"its answer is no JSON: {error}"), where) from error
        except (KeyError, TypeError, AttributeError) as error:  # the client looks for what an answer does not hold
            hint = "see whether HF_ENDPOINT leads to a Hub, and whether a proxy answers in its place"
            what = f"the answer is not a Hub's: its client cannot read it ({type(error).__name__}: {error})"
            raise RefusedError(self.redact(what), where=self.redact(f"{self.endpoint} {where}"), hint=hint) from error
        # What the Hub says of a card, or in its answer to a batch of uploads; an address that is none; no token got.
        except (ValueError, httpx2.InvalidURL, errors.OIDCError, errors.DeviceCodeError) as error:
            raise self._error(error, where) from error

    def _error(self, error: Exception, where: str) -> PipelineError:
        if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # what happened; the client only looked whether it has the file already
        lines = self.redact(str(error)).strip().splitlines() or [type(error).__name__]
        return meaning(error, lines, self.redact(f"{self.endpoint} {where}"))


def add(path: str, place: Path) -> CommitOperationAdd:
    """The operation that adds or replaces a file.

    What may go into the commit itself is read once, here: the client would hash the file now and read it again later.
    A large file is sent by its digest, and the Hub refuses other bytes.
    """
    return CommitOperationAdd(path, place if place.stat().st_size > REGULAR else place.read_bytes())


def delete(path: str) -> CommitOperationDelete:
    """The operation that deletes a file."""
    return CommitOperationDelete(path, is_folder=False)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked(state: RetryCallState) -> float:
    """Seconds that the Hub asked to wait in the last attempt's answer; 0 if it did not."""
    return getattr(_failure(state), "asked", None) or 0.0
