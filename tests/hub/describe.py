"""Reading a repository's state: information on a revision, its files, its references and its history."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.access import readable
from tests.hub.refusal import no_entry
from tests.hub.store import Entry


def revision(request: Request) -> str:
    """The revision that the path names (main where it names none); it may hold %2F."""
    return unquote(request.path_params.get("revision", "main"))


async def info(request: Request) -> Response:
    """GET /api/models/{id}[/revision/{rev}][?blobs=1]."""
    repository = readable(request)
    commit = repository.resolve(revision(request))
    details = "blobs" in request.query_params
    siblings = [_sibling(path, entry, details=details) for path, entry in sorted(repository.tree(commit).items())]
    table = {"id": repository.name, "modelId": repository.name, "sha": commit, "private": repository.private}
    return JSONResponse({**table, "tags": [], "downloads": 0, "likes": 0, "gated": False, "siblings": siblings})


async def tree(request: Request) -> Response:
    """GET /api/models/{id}/tree/{rev}[/{path}][?recursive=true]: files, and folders when not recursive."""
    files = readable(request).tree(revision(request))
    folder = unquote(request.path_params.get("path", "")).strip("/")
    inside = {path: entry for path, entry in files.items() if path.startswith(f"{folder}/" if folder else "")}
    if folder and not inside:
        raise no_entry(folder)
    if request.query_params.get("recursive", "").lower() in ("true", "1"):
        return JSONResponse([_file(path, entry) for path, entry in sorted(inside.items())])
    depth = len(folder.split("/")) if folder else 0
    folders = {"/".join(path.split("/")[: depth + 1]) for path in inside if path.count("/") > depth}
    listed = [_file(path, entry) for path, entry in sorted(inside.items()) if path.count("/") == depth]
    return JSONResponse(
        [*({"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in sorted(folders)), *listed]
    )


async def paths_info(request: Request) -> Response:
    """POST /api/models/{id}/paths-info/{rev}: those of the paths asked for that exist."""
    files = readable(request).tree(revision(request))
    wanted = parse_qs((await request.body()).decode()).get("paths", [])
    return JSONResponse([_file(path, files[path]) for path in wanted if path in files])


async def refs(request: Request) -> Response:
    """GET /api/models/{id}/refs[?include_prs=1]."""
    found = readable(request).refs
    kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
    listed: dict[str, Any] = {
        kind: [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": commit}
            for ref, commit in found.items()
            if ref.startswith(prefix)
        ]
        for kind, prefix in kinds.items()
    }
    if "include_prs" not in request.query_params:
        del listed["pullRequests"]
    return JSONResponse({**listed, "converts": []})


async def commits(request: Request) -> Response:
    """GET /api/models/{id}/commits/{rev}: newest first, along first parents."""
    repository = readable(request)
    oid: str | None = repository.resolve(revision(request))
    listed = []
    while oid is not None:
        commit = repository.commits[oid]
        about = {"title": commit.title, "message": commit.description, "date": commit.date}
        listed.append({"id": oid, "authors": [{"user": commit.author}], **about})
        oid = commit.parents[0] if commit.parents else None
    return JSONResponse(listed)


def _sibling(path: str, entry: Entry, *, details: bool) -> dict[str, Any]:
    if not details:
        return {"rfilename": path}
    large = {"lfs": _large(entry)} if entry.sha256 else {}
    return {"rfilename": path, "size": entry.size, "blobId": entry.blob, **large}


def _file(path: str, entry: Entry) -> dict[str, Any]:
    large = {"lfs": {"oid": entry.sha256, **_large(entry)}} if entry.sha256 else {}
    return {"type": "file", "oid": entry.blob, "size": entry.size, "path": path, **large}


def _large(entry: Entry) -> dict[str, Any]:
    pointer = len(f"version https://git-lfs.github.com/spec/v1\noid sha256:{entry.sha256}\nsize {entry.size}\n")
    return {"sha256": entry.sha256, "size": entry.size, "pointerSize": pointer}
