"""Changing a repository: which files are large, and the commit itself, applied whole or not at all."""

from __future__ import annotations

import base64
import fnmatch
import json
from collections.abc import Mapping
from typing import Any

from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from yaml import YAMLError, safe_load

from tests.hub.access import OWNER, readable, store, writable
from tests.hub.describe import revision
from tests.hub.discussions import open_pull_request
from tests.hub.refusal import Refusal, no_entry
from tests.hub.store import Commit, Entry, Repository, Store, now

ATTRIBUTES = ".gitattributes"
LARGE = 10 * 2**20  # bytes; a larger file cannot be a regular one
PATTERNS = ("*.bin", "*.gz", "*.h5", "*.msgpack", "*.onnx", "*.pickle", "*.pt", "*.safetensors", "*.tflite", "*.zip")


def attributes(*patterns: str) -> bytes:
    """The lines of .gitattributes that make files large."""
    return "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns).encode()


async def preupload(request: Request) -> Response:
    """POST /api/models/{id}/preupload/{rev}: how each file is to be sent, and what it is now."""
    tree = readable(request).tree(revision(request))
    patterns = _patterns(store(request), tree)
    answers = []
    for file in (await _json(request))["files"]:
        known = tree.get(file["path"])
        large = file["size"] > LARGE or _large(file["path"], patterns)
        oid = known and (known.sha256 or known.blob)
        mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        answers.append({"path": file["path"], **mode, **({"oid": oid} if oid else {})})
    return JSONResponse({"files": answers})


async def validate_yaml(request: Request) -> Response:
    """POST /api/validate-yaml: the front matter of a card, read as the client's own card validation reads it."""
    errors = _card_errors((await _json(request))["content"])
    return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)


async def commit(request: Request) -> Response:
    """POST /api/models/{id}/commit/{rev}[?create_pr=1], application/x-ndjson."""
    repository = writable(request)
    branch = repository.branch(revision(request))
    lines = [json.loads(line) for line in (await request.body()).splitlines() if line]
    if not lines or lines[0]["key"] != "header":
        raise Refusal(400, "the first line is not a header")
    header = lines[0]["value"]
    parent = repository.refs[branch]
    wanted = header.get("parentCommit")
    pull_request = "create_pr" in request.query_params
    if wanted is not None and not parent.startswith(wanted):
        if not pull_request:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        parent = repository.resolve(wanted)
    tree = _apply(store(request), repository.commits[parent].tree, lines[1:])
    made = Commit((parent,), tree, header["summary"], header.get("description") or "", OWNER, now())
    url = f"{request.base_url}{repository.name}"
    about = {"success": True, "commitOid": made.oid, "commitUrl": f"{url}/commit/{made.oid}"}
    if pull_request:
        discussion = open_pull_request(repository, made.title, made.description, parent)
        branch = f"refs/pr/{discussion.number}"
        about["pullRequestUrl"] = f"{url}/discussions/{discussion.number}"
    repository.add(branch, made)
    store(request).save()
    return JSONResponse(about)


def first_commit(content: Store, repository: Repository) -> None:
    """Return what the Hub puts into a new repository."""
    tree = {ATTRIBUTES: content.keep(attributes(*PATTERNS))}
    repository.add("refs/heads/main", Commit((), tree, "initial commit", "", OWNER, now()))


def add_file(content: Store, repository: Repository, path: str, text: bytes, author: str) -> str:
    """A commit on main that adds or replaces one regular file; its id."""
    parent = repository.refs["refs/heads/main"]
    tree = {**repository.commits[parent].tree, path: content.keep(text)}
    return repository.add("refs/heads/main", Commit((parent,), tree, f"Update {path}", "", author, now()))


def _apply(content: Store, before: Mapping[str, Entry], lines: list[dict[str, Any]]) -> dict[str, Entry]:
    """The tree after the operations; refused as a whole if one is refused."""
    tree = dict(before)
    for line in lines:
        key, path = line["key"], line["value"]["path"]
        if key == "file":
            tree[path] = _regular(content, path, base64.b64decode(line["value"]["content"], validate=True))
        elif key == "lfsFile":
            tree[path] = content.large(line["value"]["oid"], line["value"]["size"])
            if not _large(path, _patterns(content, tree)):
                known = content.path(tree[ATTRIBUTES]).read_bytes() if ATTRIBUTES in tree else b""
                tree[ATTRIBUTES] = content.keep(known + attributes(path))
        elif key == "deletedFile":
            if tree.pop(path, None) is None:
                raise no_entry(path)
        elif key == "deletedFolder":
            tree = {name: entry for name, entry in tree.items() if not name.startswith(f"{path.rstrip('/')}/")}
        else:
            raise Refusal(400, f"unknown operation {key}")
    return tree


def _regular(content: Store, path: str, text: bytes) -> Entry:
    if len(text) > LARGE:
        raise Refusal(400, f"{path} is too large for a regular file")
    if path == "README.md" and (errors := _card_errors(text.decode())):
        raise Refusal(400, errors[0]["message"])
    return content.keep(text)


def _patterns(content: Store, tree: Mapping[str, Entry]) -> list[str]:
    text = content.path(tree[ATTRIBUTES]).read_text() if ATTRIBUTES in tree else ""
    return [line.split()[0] for line in text.splitlines() if "filter=lfs" in line]


def _large(path: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _card_errors(card: str) -> list[dict[str, str]]:
    if not card.startswith("---"):
        return []
    try:
        metadata = safe_load(card.split("---", 2)[1])
        if "model-index" in (metadata or {}):
            eval_results_to_model_index(*model_index_to_eval_results(metadata["model-index"]))
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        return [{"message": f"Invalid metadata in README.md: {error}"}]
    return [] if isinstance(metadata, dict) else [{"message": "Invalid metadata in README.md: not a mapping"}]


async def _json(request: Request) -> dict[str, Any]:
    table = await request.json()
    if not isinstance(table, dict):
        raise Refusal(400, "expected a JSON object")
    return table
