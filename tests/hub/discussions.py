"""Discussions and pull requests."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.access import OWNER, readable, store, writable
from tests.hub.refusal import Refusal
from tests.hub.store import MAIN, Commit, Discussion, Repository, now


def open_pull_request(repository: Repository, title: str, description: str, base: str) -> Discussion:
    """A new pull request whose branch begins at the commit `base`."""
    made = Discussion(len(repository.discussions) + 1, title, description, OWNER, now(), pull_request=True)
    repository.discussions.append(made)
    repository.refs[f"refs/pr/{made.number}"] = base
    return made


async def listing(request: Request) -> Response:
    """GET /api/models/{id}/discussions[?type=&status=&p=]: all of them on page 0."""
    repository = readable(request)
    kind, status = request.query_params.get("type", "all"), request.query_params.get("status", "all")
    found = [
        _table(repository, discussion)
        for discussion in reversed(repository.discussions)
        if kind == "all" or (kind == "pull_request") == discussion.pull_request
        if status == "all" or (status == "open") == (discussion.status in ("open", "draft"))
    ]
    page = found if request.query_params.get("p", "0") == "0" else []
    return JSONResponse({"discussions": page, "count": len(found), "start": 0})


async def create(request: Request) -> Response:
    """POST /api/models/{id}/discussions {title, description, pullRequest}."""
    repository = writable(request)
    table = await request.json()
    if table.get("pullRequest"):
        made = open_pull_request(repository, table["title"], table["description"], repository.refs[MAIN])
        made.status = "draft"
    else:
        number = len(repository.discussions) + 1
        made = Discussion(number, table["title"], table["description"], OWNER, now(), pull_request=False)
        repository.discussions.append(made)
    store(request).save()
    return JSONResponse({"num": made.number})


async def details(request: Request) -> Response:
    """GET /api/models/{id}/discussions/{number}?diff=1."""
    repository = readable(request)
    found = _find(request, repository)
    table = {**_table(repository, found), "events": [], "filesWithConflicts": [], "diff": ""}
    if found.pull_request:
        table["changes"] = {"base": MAIN, **({"mergeCommitId": found.merged_as} if found.merged_as else {})}
    return JSONResponse(table)


async def merge(request: Request) -> Response:
    """POST /api/models/{id}/discussions/{number}/merge: only while main has not moved on."""
    repository = writable(request)
    found = _find(request, repository)
    head = repository.refs[f"refs/pr/{found.number}"]
    main = repository.refs[MAIN]
    if not found.pull_request or found.merged_as or main not in repository.commits[head].parents:
        raise Refusal(409, "This pull request cannot be merged")
    made = Commit((main, head), repository.commits[head].tree, found.title, found.description, OWNER, now())
    found.merged_as, found.status = repository.add(MAIN, made), "merged"
    store(request).save()
    return JSONResponse({})


def _find(request: Request, repository: Repository) -> Discussion:
    number = int(request.path_params["number"])
    if not 1 <= number <= len(repository.discussions):
        raise Refusal(404, "Discussion not found")
    return repository.discussions[number - 1]


def _table(repository: Repository, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.number,
        "title": discussion.title,
        "status": discussion.status,
        "createdAt": discussion.date,
        "isPullRequest": discussion.pull_request,
        "author": {"name": discussion.author},
        "repo": {"name": repository.name, "type": "model"},
    }
