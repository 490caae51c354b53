"""Downloading files at a revision: regular ones from here, large ones from another host."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tests.hub import lfs
from tests.hub.access import readable, store
from tests.hub.describe import revision
from tests.hub.refusal import no_entry


async def resolve(request: Request) -> Response:
    """HEAD or GET /{id}/resolve/{rev}/{path}."""
    repository = readable(request)
    commit = repository.resolve(revision(request))
    path = unquote(request.path_params["path"])
    entry = repository.commits[commit].tree.get(path)
    if entry is None:
        raise no_entry(path)
    headers = {"X-Repo-Commit": commit, "ETag": f'"{entry.blob}"'}
    if entry.sha256 is None:
        return FileResponse(store(request).path(entry), headers=headers)
    linked = {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    return Response(status_code=302, headers={**headers, **linked, "Location": lfs.location(request, entry)})
