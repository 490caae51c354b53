"""Say what the Hub answers when it refuses: a status, the headers that the client reads, and a message."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class Refusal(Exception):  # noqa: N818 - it is an answer, which a server gives, not an error of the server
    """An answer other than success. `code` is the Hub's name for the reason, X-Error-Code; `location` where to go."""

    def __init__(self, status: int, message: str, code: str | None = None, location: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.location = status, message, code, location


def answer(_: Request, refusal: Exception) -> Response:
    """The response to a refusal."""
    if not isinstance(refusal, Refusal):
        raise refusal
    # A header has one line, and no letters beyond Latin 1.
    line = " ".join(refusal.message.split()).encode("latin-1", "replace").decode("latin-1")
    named = {"X-Error-Message": line, "X-Error-Code": refusal.code, "Location": refusal.location}
    headers = {name: value for name, value in named.items() if value}
    return JSONResponse({"error": refusal.message}, refusal.status, headers)


def no_repository(status: int = 404) -> Refusal:
    """The Hub does not tell a repository that is private from one that is not there; to anybody unknown it says 401."""
    return Refusal(status, "Repository not found", "RepoNotFound")


def no_revision(revision: str) -> Refusal:
    """A branch, tag or commit that does not exist."""
    return Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_entry(path: str) -> Refusal:
    """A file that this revision does not have."""
    return Refusal(404, f'Entry not found: "{path}". A file with this name doesn\'t exist', "EntryNotFound")
