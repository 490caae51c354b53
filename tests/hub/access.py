"""Who asks: tokens that may write, may only read, or have expired."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.refusal import Refusal, no_repository
from tests.hub.store import Repository, Store

OWNER = "rehearsal"
# Worth nothing anywhere else, so that they can be printed and stand in tests.
WRITE, READ, EXPIRED = (f"hf_rehearsal{role}{'0' * 16}" for role in ("Write", "Read", "Expired"))
ROLES = {WRITE: "write", READ: "read"}


def role(request: Request) -> str | None:
    """Return what the request's token may do ("write", "read"), None without one; an invalid one is refused."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    token = header.removeprefix("Bearer ")
    if token == EXPIRED:
        raise Refusal(401, "User Access Token is expired")
    if token not in ROLES:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return ROLES[token]


def require_write(request: Request) -> None:
    """Refuse a request whose token may not write."""
    found = role(request)
    if found is None:
        raise Refusal(401, "Invalid username or password.")
    if found != "write":
        raise Refusal(403, "You don't have the required permissions: this token has no write access")


def readable(request: Request) -> Repository:
    """The repository that the path names, if whoever asks may see it; by an old name, the way to the new one."""
    name, known = f"{request.path_params['owner']}/{request.path_params['name']}", role(request) is not None
    repositories = store(request).repositories
    repository = repositories.get(name)
    renamed = next((found for found in repositories.values() if name in found.former), None)
    if repository is None and renamed is not None and (known or not renamed.private):
        path = request.scope["path"].replace(name, renamed.name, 1)  # not decoded: a revision may hold %2F
        query = f"?{request.url.query}" if request.url.query else ""
        raise Refusal(307, "Moved", location=f"{path}{query}")
    if repository is None or (repository.private and not known):
        raise no_repository(404 if known else 401)
    return repository


def writable(request: Request) -> Repository:
    """The repository that the path names, if whoever asks may change it."""
    repository = readable(request)
    require_write(request)
    return repository


def store(request: Request) -> Store:
    """The server's content."""
    found: Store = request.app.state.store
    return found


async def whoami(request: Request) -> Response:
    """GET /api/whoami-v2."""
    found = role(request)
    if found is None:
        raise Refusal(401, "Invalid username or password.")
    token = {"accessToken": {"displayName": "rehearsal", "role": found}}
    return JSONResponse({"type": "user", "name": OWNER, "orgs": [], "auth": {"type": "access_token", **token}})
