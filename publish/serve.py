"""Serve the try-it page and the local build on 127.0.0.1: `python -m publish.serve RECIPE`.

Nothing is loaded from anywhere else: the library comes from publish/page/node_modules. What is served is decided once,
at the start, by name; no address is ever turned into a path.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline import command
from pipeline.artifact.manifest import FILE_NAME as MANIFEST
from pipeline.artifact.store import open_artifact
from pipeline.canonical import read_json
from pipeline.errors import PASSED, ArtifactError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.variants import FILES
from publish import browser, webgpu
from publish.loopback import ADDRESS, listen
from publish.tree import REPORT

PORT = 8000
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
HEADERS = {
    # Together they isolate the page, without which a browser gives WebAssembly no threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
Tree = Mapping[str, Path | bytes]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; the address is on stdout."""
    parser = command.parser("publish.serve", "Try a built model in this machine's browser.")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port ({PORT}; 0: any that is free)")
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    app = application(tree(recipe, arguments.build / recipe.name))
    with listen(arguments.port) as listener:
        print(f"http://{ADDRESS}:{listener.getsockname()[1]}/", flush=True)
        command.say("Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    return PASSED


def tree(recipe: Recipe, home: Path) -> Tree:
    """Return what is served, by path: the assembled repository if there is one, else the page and the variants built.

    Raises ArtifactError when nothing was built, what was is damaged, or the library's npm packages are not installed.
    """
    code, places = browser.local_code()
    for path in places.values():
        if not path.is_file():
            hint = "run: make setup, where npm is installed"
            raise ArtifactError("the page's library is not installed", where=path, hint=hint)
    repository = home / "repo"
    if repository.is_dir():
        whole = open_artifact(repository, made_by=command.invocation("publish", recipe.path, home.parent))
        files = {name: repository / name for name in (MANIFEST, *(entry.path for entry in whole.manifest.files))}
        settings = {**read_json(repository / browser.SETTINGS), "code": code}
    else:
        files, settings = _built(recipe, home, code)
    return {**files, **places, browser.SETTINGS: json.dumps(settings).encode()}


def application(files: Tree) -> Starlette:
    """Answers GET, HEAD and ranges for exactly these files; anything else is a 404 in plain text."""

    def answer(request: Request) -> Response:
        name = request.path_params["name"] or "index.html"
        content = files.get(name)
        kind = TYPES.get(Path(name).suffix, "application/octet-stream")
        if isinstance(content, bytes):
            return Response(content, media_type=kind, headers=HEADERS)
        if content is None or not content.is_file():
            return PlainTextResponse(f"{name} is not here\n", status_code=404, headers=HEADERS)
        return FileResponse(content, media_type=kind, headers=HEADERS)

    # A page elsewhere whose name resolves to this machine must not be able to read what is served.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[ADDRESS, "localhost"])
    return Starlette(routes=[Route("/{name:path}", answer)], middleware=[hosts])


def _built(recipe: Recipe, home: Path, code: Mapping[str, object]) -> tuple[dict[str, Path], dict[str, object]]:
    variants = [variant for variant in FILES if (home / variant).is_dir()]
    made = " && ".join(command.invocation(name, recipe.path, home.parent) for name in ("convert", "quantize"))
    if not variants:
        raise ArtifactError("nothing is built", where=home, hint=f"run: {made}")
    files = dict(browser.assets())
    entries, digests = {}, {}
    for variant in variants:
        artifact = open_artifact(home / variant, made_by=made)
        # Configuration and tokenizer are the same in every variant; the graphs have names of their own.
        entries.update({entry.path: entry for entry in artifact.manifest.files})
        files.update({entry.path: artifact.path / entry.path for entry in artifact.manifest.files})
        digests[variant] = artifact.digest
    context = artifact.manifest.facts["dimensions"]["context"]
    return files, browser.settings(recipe, context, entries.values(), code, _judged(home, digests))


def _judged(home: Path, built: Mapping[str, str]) -> set[str]:
    """The variants that were judged right on WebGPU, if there is a report and it is about what is built now."""
    if not (home / REPORT).is_dir():
        return set()
    report = open_artifact(home / REPORT, made_by="python -m verify")
    found = webgpu.judged(read_json(report.path / "report.json"))
    return {variant for variant in found if report.manifest.parents.get(variant) == built.get(variant)}


if __name__ == "__main__":
    sys.exit(command.run(main))
