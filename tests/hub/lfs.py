"""Large files: the batch request, the upload that is hashed before it counts, and the download from another host."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from tests.hub.access import readable, require_write, store
from tests.hub.refusal import Refusal, no_entry
from tests.hub.store import Entry

SHA256 = re.compile(r"[0-9a-f]{64}")
KEY = secrets.token_urlsafe(16)  # stands for the signature of a storage provider's address


def other_host(request: Request) -> str:
    """This server by another name, because the Hub's storage is another host, to which no token may be sent."""
    return f"http://localhost:{request.url.port}"


async def batch(request: Request) -> Response:
    """POST /{id}.git/info/lfs/objects/batch: objects that are stored already come back without actions."""
    readable(request)
    require_write(request)
    table = await request.json()
    if table["operation"] != "upload":
        raise Refusal(422, "only uploads")
    root = f"{request.base_url}{request.path_params['owner']}/{request.path_params['name']}.git/info/lfs"
    objects: list[dict[str, Any]] = []
    for wanted in table["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        if not SHA256.fullmatch(oid):
            raise Refusal(422, "oid is no SHA-256")
        described = {"oid": oid, "size": size}
        if _too_much(request, size):
            described["error"] = {"code": 507, "message": "Storage limit reached"}
        elif not store(request).large_path(oid).is_file():
            href = f"{other_host(request)}/storage/{oid}?key={KEY}"
            described["actions"] = {"upload": {"href": href}, "verify": {"href": f"{root}/verify"}}
        objects.append(described)
    return JSONResponse({"transfer": "basic", "objects": objects})


async def upload(request: Request) -> Response:
    """PUT /storage/{oid}: the bytes as they come, which nothing can refer to before they are verified."""
    oid = _signed(request)
    part = store(request).directory / "incoming" / f"{oid}.{secrets.token_hex(4)}"
    try:
        with part.open("wb") as stream:
            async for chunk in request.stream():
                stream.write(chunk)
    except ClientDisconnect:
        part.unlink()
        raise
    part.replace(store(request).directory / "incoming" / oid)
    return Response()


async def verify(request: Request) -> Response:
    """POST /{id}.git/info/lfs/verify {oid, size}: it counts from now on, if its digest is what was announced."""
    require_write(request)
    table = await request.json()
    oid = table["oid"]
    if not SHA256.fullmatch(oid):
        raise Refusal(422, "oid is no SHA-256")
    incoming, place = store(request).directory / "incoming" / oid, store(request).large_path(oid)
    if incoming.is_file():
        with incoming.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != oid or incoming.stat().st_size != table["size"]:
            incoming.unlink()
            raise Refusal(422, f"the uploaded object is {found}, not {oid}")
        incoming.replace(place)
    if not place.is_file():
        raise Refusal(404, "nothing was uploaded")
    return JSONResponse({})


async def download(request: Request) -> Response:
    """GET /storage/{oid}, with ranges."""
    oid = _signed(request)
    path = store(request).large_path(oid)
    if not path.is_file():
        raise no_entry(oid)
    return FileResponse(path, headers={"ETag": f'"{oid}"'})


def location(request: Request, entry: Entry) -> str:
    """Where a large file can be fetched."""
    return f"{other_host(request)}/storage/{entry.sha256}?key={KEY}"


def _signed(request: Request) -> str:
    oid: str = request.path_params["oid"]
    if request.query_params.get("key") != KEY or not SHA256.fullmatch(oid):
        raise Refusal(403, "Signature does not match")
    return oid


def _too_much(request: Request, size: int) -> bool:
    quota: int | None = request.app.state.quota
    return quota is not None and size > quota
