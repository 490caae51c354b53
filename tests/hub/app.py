"""The server's routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tests.hub import access, commit, describe, discussions, lfs, repositories, resolve
from tests.hub.faults import Faults
from tests.hub.refusal import Refusal, answer
from tests.hub.store import Store

MODEL = "/api/models/{owner}/{name}"
REPOSITORY = "/{owner}/{name}"
ROUTES = (
    ("GET", "/api/whoami-v2", access.whoami),
    ("POST", "/api/repos/create", repositories.create),
    ("DELETE", "/api/repos/delete", repositories.delete),
    ("POST", "/api/repos/move", repositories.move),
    ("POST", "/api/validate-yaml", commit.validate_yaml),
    ("GET", MODEL, describe.info),
    ("GET", MODEL + "/revision/{revision}", describe.info),
    ("GET", MODEL + "/tree/{revision}", describe.tree),
    ("GET", MODEL + "/tree/{revision}/{path:path}", describe.tree),
    ("POST", MODEL + "/paths-info/{revision}", describe.paths_info),
    ("GET", MODEL + "/refs", describe.refs),
    ("GET", MODEL + "/commits/{revision}", describe.commits),
    ("POST", MODEL + "/preupload/{revision}", commit.preupload),
    ("POST", MODEL + "/commit/{revision}", commit.commit),
    ("POST", MODEL + "/tag/{revision}", repositories.create_tag),
    ("DELETE", MODEL + "/tag/{revision}", repositories.delete_tag),
    ("POST", MODEL + "/branch/{revision}", repositories.create_branch),
    ("DELETE", MODEL + "/branch/{revision}", repositories.delete_branch),
    ("GET", MODEL + "/discussions", discussions.listing),
    ("POST", MODEL + "/discussions", discussions.create),
    ("GET", MODEL + "/discussions/{number:int}", discussions.details),
    ("POST", MODEL + "/discussions/{number:int}/merge", discussions.merge),
    ("POST", REPOSITORY + ".git/info/lfs/objects/batch", lfs.batch),
    ("POST", REPOSITORY + ".git/info/lfs/verify", lfs.verify),
    ("PUT", "/storage/{oid}", lfs.upload),
    ("GET", "/storage/{oid}", lfs.download),
    ("GET", REPOSITORY + "/resolve/{revision}/{path:path}", resolve.resolve),
)


def application(store: Store) -> Faults:
    """The whole server, with its faults around it."""
    routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in ROUTES]
    app = Starlette(routes=routes, exception_handlers={Refusal: answer, ClientDisconnect: _nobody})
    app.state.store, app.state.quota = store, None
    return Faults(app, app.state)


async def _nobody(_: Request, __: Exception) -> Response:
    """The answer to a client that has gone, which nobody gets."""
    return Response(status_code=499)
