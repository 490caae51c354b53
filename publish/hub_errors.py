"""Turn errors of the Hub's client into ours, which say what to do. Their texts come without a token in them."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2
from huggingface_hub import errors

from model import hub_client
from pipeline.errors import InputError, PipelineError, UnavailableError

LOG_IN = "put a valid token with write access into HF_TOKEN, or run `hf auth login`"


class RefusedError(InputError):
    """The Hub said no, and will say so again."""


class UnreachableError(UnavailableError):
    """No answer, or one that says to try later. Whether a request was applied is not known.

    `asked` is how many seconds the Hub wants to be left alone, if it says so.
    """

    asked: float | None = None


class DamagedError(InputError):
    """The Hub refused what was uploaded: it did not arrive as it was sent."""


class MovedError(InputError):
    """Somebody else has committed since the plan was made."""

    @classmethod
    def at(cls, where: object) -> MovedError:
        """Return the error about a repository, or about the request that was refused."""
        hint = "run it again: it plans from what is there now"
        return cls("somebody else has committed in the meantime", where=where, hint=hint)


def meaning(error: Exception, lines: Sequence[str], where: str) -> PipelineError:
    """Return what an error of the client means: no answer, a refusal, or somebody else's commit. `lines`: its text."""
    status = status_of(error)
    if status == 412:
        return MovedError.at(where)
    lost = status is None and isinstance(error, OSError | httpx2.HTTPError)
    if lost or (status is not None and hub_client.is_transient(status)):
        return _unreachable(error, lines[0], where)
    if isinstance(error, errors.GatedRepoError):
        hint = "accept its terms on the Hub with the account that the token belongs to; " + LOG_IN
        return RefusedError("the Hub asks to accept the repository's terms, or for a token", where=where, hint=hint)
    if status == 401:
        return RefusedError("the Hub does not accept the token: it is invalid or has expired", where=where, hint=LOG_IN)
    if status == 403:
        return RefusedError(f"the token may not do this: {' '.join(lines)}", where=where, hint=LOG_IN)
    hint = "mend what the message names, then run it again"
    return RefusedError(f"the Hub refused: {' '.join(line for line in lines if line)}", where=where, hint=hint)


def status_of(error: BaseException | None) -> int | None:
    """Return the status of the answer that an error of the client's is about, if there was one."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def is_missing(error: BaseException | None) -> bool:
    """Return whether the Hub says that there is no such repository; it says so of gated ones in other words."""
    return isinstance(error, errors.RepositoryNotFoundError) and not isinstance(error, errors.GatedRepoError)


def _unreachable(error: Exception, line: str, where: str) -> PipelineError:
    """The error for what may be better later, and for a client that is switched off."""
    hint = "run it again when the Hub can be reached"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return RefusedError("the client is switched off by HF_HUB_OFFLINE", where=where, hint=hint)
    response = getattr(error, "response", None)
    asked = None if response is None else hub_client.seconds_asked(response.headers)
    if asked is not None:
        hint = f"{hint}; it asks to wait for {asked:.0f} s"
    result = UnreachableError(f"the Hub does not answer: {line}", where=where, hint=hint)
    result.asked = asked
    return result
