"""The page's server: loopback, a free port, the headers that threads need, a real 404 for what is not there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = Path(__file__).resolve().parent
PACKAGES = HERE.parent / "transformersjs" / "node_modules"
# Without these the page is not cross-origin isolated, has no SharedArrayBuffer, and wasm runs on one thread.
HEADERS = [
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cache-control", b"no-store"),
]
START_S = 10.0


class Isolation:
    """Adds the headers to every response, those of errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def application(repository: Path) -> Starlette:
    """Page, libraries, and the model's directory under /model."""
    javascript = "text/javascript"
    files = {
        "/page.html": FileResponse(HERE / "page.html", media_type="text/html"),
        "/page.mjs": FileResponse(HERE / "page.mjs", media_type=javascript),
        "/webgpu.mjs": FileResponse(HERE / "webgpu.mjs", media_type=javascript),
        "/answer.mjs": FileResponse(HERE.parent / "transformersjs" / "answer.mjs", media_type=javascript),
    }
    routes = [Route(path, lambda _request, file=file: file) for path, file in files.items()]
    folders = {
        "/lib": PACKAGES / "@huggingface" / "transformers" / "dist",
        "/ort": PACKAGES / "onnxruntime-web" / "dist",
        "/model": repository,
    }
    mounts = [Mount(path, StaticFiles(directory=folder, follow_symlink=True)) for path, folder in folders.items()]
    return Starlette(routes=[*routes, *mounts], middleware=[Middleware(Isolation)])


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Serve while the context lasts; gives the origin, such as http://127.0.0.1:40123."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_S)
