"""Faults on demand: what goes wrong with which request, set over HTTP, one list for the whole server."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from starlette.datastructures import State
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.typed import build
from tests.hub.commit import add_file

Kind = Literal["fail", "cut", "drop", "slow", "corrupt", "interpose", "hold", "hold_applied", "strange"]
KINDS = get_args(Kind)
ADMIN = "/-/"  # no owner has this name
PATIENCE = 60.0  # seconds after which a request that is held goes on, so that nobody waits for ever


@dataclass
class Fault:
    """State what happens to requests whose method and path match: the first `skip` pass, the next `times` are hit.

    fail: answered `status`, with `error_code` and `retry_after` where they are given, not applied. strange: answered
    `message` as it is, which need be no HTTP, not applied. cut: the connection breaks, not applied. drop: applied, then
    the connection breaks. slow: after `seconds`. corrupt: a byte of the body changes on its way. interpose: somebody
    else commits first. hold, hold_applied: waits before or after it is applied until faults are cleared, then as cut or
    drop.
    """

    kind: Kind
    method: str = ".*"
    path: str = ".*"
    skip: int = 0
    times: int = 1
    status: int = 503
    message: str = "a planned fault"
    file: str = "README.md"  # what somebody else changes
    seconds: float = 0.0
    error_code: str | None = None
    retry_after: str | None = None

    def hits(self, method: str, path: str) -> bool:
        """Return whether this request is hit; counts it."""
        if not (re.fullmatch(self.method, method) and re.search(self.path, path)) or self.times <= 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Faults:
    """ASGI middleware: notes every request (never its headers: they hold the token), and lets go wrong what is to."""

    app: ASGIApp
    state: State
    planned: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    held: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The revision in a path may hold %2F, which a decoded path no longer tells from a slash.
        method, path = scope["method"], scope["raw_path"].decode("ascii")
        scope = {**scope, "path": path}
        if path.startswith(ADMIN):
            await self._admin(scope, receive, send)
            return
        self.requests.append(f"{method} {path}")
        for fault in [fault for fault in self.planned if fault.hits(method, path)]:
            if fault.kind in ("fail", "strange", "cut", "hold", "drop", "hold_applied"):
                await self._break(fault, scope, receive, send)
                return
            if fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
            elif fault.kind == "corrupt":
                receive = _replay(_corrupted(await _body(receive)), receive)
            else:
                self._interpose(fault, path)
        await self.app(scope, receive, send)

    async def _break(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        transport = _transport(receive)
        replay = _replay(await _body(receive), receive)
        if fault.kind == "fail":
            named = {
                "X-Error-Message": fault.message,
                "X-Error-Code": fault.error_code,
                "Retry-After": fault.retry_after,
            }
            headers = {name: value for name, value in named.items() if value is not None}
            await JSONResponse({"error": fault.message}, fault.status, headers)(scope, replay, send)
            return
        if fault.kind in ("drop", "hold_applied"):
            await self.app(scope, replay, _nowhere)
        if fault.kind.startswith("hold"):
            self.held += 1
            try:
                await asyncio.wait_for(self.released.wait(), PATIENCE)
            finally:
                self.held -= 1
        if fault.kind == "strange":
            transport.write(fault.message.encode())
            transport.close()
        else:
            transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass

    def _interpose(self, fault: Fault, path: str) -> None:
        found = re.search(r"/api/models/([^/]+/[^/]+)/", path)
        if found:
            store, text = self.state.store, f"edited after {len(self.requests)} requests\n".encode()
            add_file(store, store.repository(found[1]), fault.file, text, "somebody-else")
            store.save()

    async def _admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST, DELETE or GET /-/faults; PUT /-/quota (bytes of one file, or null)."""
        body = await _body(receive)
        if scope["method"] == "POST":
            where = "the request"
            self.planned += [build(Fault, table, where=where) for table in json.loads(body)]
        elif scope["method"] == "PUT":
            self.state.quota = json.loads(body)
        elif scope["method"] == "DELETE":
            self.planned.clear()
            self.requests.clear()
            self.released.set()
            self.released = asyncio.Event()
        await JSONResponse({"requests": self.requests, "held": self.held})(scope, receive, send)


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """A `receive` that gives the body once, then what really comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _corrupted(body: bytes) -> bytes:
    """The body with one byte changed: of an upload the first, of a commit one in its first regular file."""
    if not body.startswith(b'{"key"'):
        return bytes([body[0] ^ 1]) + body[1:]
    lines: list[dict[str, Any]] = [json.loads(line) for line in body.splitlines()]
    for line in lines:
        if line["key"] == "file":
            content = base64.b64decode(line["value"]["content"])
            line["value"]["content"] = base64.b64encode(content[:-1] + bytes([content[-1] ^ 1])).decode()
            break
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _transport(receive: Receive) -> asyncio.Transport:
    """The connection itself. ASGI has no way to break one, so this reaches into uvicorn, whose method `receive` is."""
    found: asyncio.Transport = receive.__self__.transport  # type: ignore[attr-defined]
    return found


async def _nowhere(_: Message) -> None:
    """A `send` for answers that nobody gets."""
