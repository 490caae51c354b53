"""Making and naming: repositories, branches and tags."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.access import OWNER, require_write, store, writable
from tests.hub.commit import first_commit
from tests.hub.describe import revision
from tests.hub.refusal import Refusal, no_revision
from tests.hub.store import Repository

NAME = re.compile(r"[\w.-]{1,96}", re.ASCII)


async def create(request: Request) -> Response:
    """POST /api/repos/create {name, organization, type, visibility}: in the token's own namespace, like the Hub.

    Older clients send `private` instead.
    """
    require_write(request)
    table = await request.json()
    owner, name = table.get("organization") or OWNER, table["name"]
    if not NAME.fullmatch(name) or table.get("type", "model") != "model":
        raise Refusal(400, f"Invalid repository {name!r}: models only")
    if owner != OWNER:
        raise Refusal(403, f"You don't have the rights to create a model under the namespace {owner!r}")
    identity = f"{owner}/{name}"
    url = f"{request.base_url}{identity}"
    if identity in store(request).repositories:
        return JSONResponse({"error": "You already created this model repo", "url": url}, 409)
    made = Repository(identity, private=_private(table))
    first_commit(store(request), made)
    store(request).repositories[identity] = made
    store(request).save()
    return JSONResponse({"url": url, "name": identity})


async def delete(request: Request) -> Response:
    """DELETE /api/repos/delete {name, organization}."""
    require_write(request)
    table = await request.json()
    name = store(request).repository(f"{table.get('organization') or OWNER}/{table['name']}").name
    del store(request).repositories[name]
    store(request).save()
    return JSONResponse({})


async def move(request: Request) -> Response:
    """POST /api/repos/move {fromRepo, toRepo}: requests to the old name lead to the new one."""
    require_write(request)
    table = await request.json()
    moved = store(request).repository(table["fromRepo"])
    del store(request).repositories[moved.name]
    moved.former.append(moved.name)
    moved.name = table["toRepo"]
    store(request).repositories[moved.name] = moved
    store(request).save()
    return JSONResponse({})


async def create_tag(request: Request) -> Response:
    """POST /api/models/{id}/tag/{rev} {tag}."""
    repository = writable(request)
    reference = f"refs/tags/{(await request.json())['tag']}"
    return _create(request, repository, reference, repository.resolve(revision(request)))


async def create_branch(request: Request) -> Response:
    """POST /api/models/{id}/branch/{name} {startingPoint?}."""
    repository = writable(request)
    start = (await request.json() if await request.body() else {}).get("startingPoint", "main")
    return _create(request, repository, f"refs/heads/{revision(request)}", repository.resolve(start))


async def delete_tag(request: Request) -> Response:
    """DELETE /api/models/{id}/tag/{tag}."""
    return _delete(request, f"refs/tags/{unquote(request.path_params['revision'])}")


async def delete_branch(request: Request) -> Response:
    """DELETE /api/models/{id}/branch/{name}."""
    if revision(request) == "main":
        raise Refusal(403, "The default branch cannot be deleted")
    return _delete(request, f"refs/heads/{revision(request)}")


def _private(table: dict[str, Any]) -> bool:
    """Return what a client of either age asks for; refused if it is neither word, as public would be a guess."""
    visibility = table.get("visibility", "private" if table.get("private") else "public")
    if visibility not in ("private", "public"):
        raise Refusal(400, f"Invalid visibility {visibility!r}")
    return bool(visibility == "private")


def _create(request: Request, repository: Repository, reference: str, commit: str) -> Response:
    if reference in repository.refs:
        raise Refusal(409, "Reference already exists")
    repository.refs[reference] = commit
    store(request).save()
    return JSONResponse({})


def _delete(request: Request, reference: str) -> Response:
    repository = writable(request)
    if repository.refs.pop(reference, None) is None:
        raise no_revision(reference)
    store(request).save()
    return JSONResponse({})
