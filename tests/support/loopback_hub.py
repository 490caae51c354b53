"""A small Hub on loopback, for the real client: repositories to read, a note of every request, faults at will."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPOSITORY = "someone/tiny"
FIRST, SECOND = "1" * 40, "2" * 40


@dataclass
class Repository:
    """Commits hold files; branches name commits."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]


class Hub(ThreadingHTTPServer):
    """Repositories, of which one is the tests' own; `faults` maps a file to what goes wrong with it."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], repositories: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories = {name: Repository({FIRST: dict(files)}, {"release": FIRST}) for name in repositories}
        own = self.repositories[repositories[0]]
        self.commits, self.branches = own.commits, own.branches
        self.faults: dict[str, str] = {}
        self.requests: list[str] = []
        self.credentials: set[str | None] = set()
        self.agents: set[str] = set()
        self.fault_headers: dict[str, str] = {}
        self.moved: dict[str, str] = {}  # old name of a repository -> its name now
        self.gone = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """Return what makes the real client talk to this Hub, with its cache below a directory."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "0",  # the stages switch it off by themselves
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
        }


@contextlib.contextmanager
def serving(files: Mapping[str, bytes], repositories: Sequence[str] = (REPOSITORY,)) -> Iterator[Hub]:
    """A Hub at work, each of its repositories with these files."""
    with Hub(files, repositories) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(timeout=10)


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """Note what hf-xet sends to a storage, which this is none of."""
        self.server.requests.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send(404, b"", {})

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.credentials.add(self.headers.get("Authorization"))
        self.server.agents.add(str(self.headers.get("User-Agent")))
        if self.server.gone:
            self.close_connection = True
            return
        if "answer" in self.server.faults:
            self.answer(self.server.faults["answer"])
            return
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(?:revision|tree|xet-read-token)/([^/?]+)(?:\?.*)?", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)", self.path)
        match = api or file
        repository = self.server.repositories.get(match[1]) if match else None
        if match and match[1] in self.server.moved:
            self.send(307, b"", {"Location": self.path.replace(match[1], self.server.moved[match[1]])})
        elif match is None or repository is None:
            self.send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        elif "xet" in self.server.faults and "/xet-read-token/" in self.path:
            token = {"X-Xet-Access-Token": "any", "X-Xet-Token-Expiration": str(2**40)}
            self.send(200, b"{}", {"X-Xet-Cas-Url": self.server.faults["xet"], **token})
        elif "api" in self.server.faults:
            self.send(int(self.server.faults["api"]), b"", self.server.fault_headers)
        elif api and "/tree/" in self.path:
            self.list(repository.commits[api[2]])
        elif api:
            self.describe(match[1], repository.commits, repository.branches.get(api[2], api[2]))
        elif match[3] in repository.commits.get(match[2], {}):
            self.serve(match[2], match[3], repository.commits[match[2]][match[3]])
        else:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def describe(self, name: str, commits: Mapping[str, dict[str, bytes]], commit: str) -> None:
        if commit not in commits:
            self.send(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            return
        licence = re.search(rb"^license: (.+)$", commits[commit].get("README.md", b""), re.MULTILINE)
        table = {
            "id": name,
            "sha": self.server.faults.get("sha", commit),
            "siblings": [self.sibling(name, content) for name, content in commits[commit].items()],
            "cardData": {"license": licence[1].decode()} if licence else None,
        }
        self.send(200, json.dumps(table).encode(), {"Content-Type": "application/json"})

    def list(self, files: Mapping[str, bytes]) -> None:
        """All of a commit's files, as `?recursive=true` asks for them."""
        fault = self.server.faults.get("tree")
        if fault is not None:
            if fault.isdecimal():
                self.send(int(fault), b"", self.server.fault_headers)
            else:
                self.answer(fault)
            return
        rows = []
        for name, content in files.items():
            known = self.sibling(name, content)
            large = {"lfs": {"oid": known["lfs"]["sha256"], **known["lfs"]}} if known["lfs"] else {}
            rows.append({"type": "file", "path": name, "oid": known["blobId"], "size": known["size"], **large})
        self.send(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})

    def answer(self, kind: str) -> None:
        """Return what is no answer of a Hub's."""
        if kind == "none":
            self.close_connection = True
        elif kind == "cut":
            self.send(200, b'{"id": "someone/tiny", "sha": "', {"Content-Type": "application/json"}, sent=9)
        elif kind == "garbage":
            self.wfile.write(b"SSH-2.0-no-http\r\n")
            self.close_connection = True
        elif kind == "page":
            self.send(200, b"<html>Log in to this network</html>", {"Content-Type": "text/html"})
        elif kind == "packed":
            self.send(200, b"no gzip", {"Content-Encoding": "gzip"})
        else:
            time.sleep(1.5)

    @staticmethod
    def sibling(name: str, content: bytes) -> dict[str, Any]:
        """As `?blobs=true` asks for it; large files have a digest of another kind."""
        size, large = len(content), name.endswith(".safetensors")
        lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 130} if large else None
        blob = hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest()
        return {"rfilename": name, "size": size, "blobId": blob, "lfs": lfs}

    def serve(self, commit: str, name: str, content: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"', "X-Repo-Commit": commit}
        if "xet" in self.server.faults and name.endswith(".safetensors"):
            route = f"{self.server.address}/api/models/{REPOSITORY}/xet-read-token/{commit}"
            headers |= {"X-Xet-Hash": "0" * 64, "X-Xet-Refresh-Route": route}
        fault = self.server.faults.get(name) if self.command == "GET" else None
        if fault == "forbidden":
            self.send(403, b"", {**headers, "X-Error-Code": "GatedRepo"})
        elif fault == "short":
            self.send(200, content[: len(content) // 2], headers)
        elif fault == "gone":  # the connection breaks half-way, and from now on nobody answers
            self.server.gone = True
            self.send(200, content, headers, sent=len(content) // 2)
        else:
            self.send(200, content, headers)

    def send(self, status: int, body: bytes, headers: dict[str, str], *, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
        self.close_connection = sent is not None

    def log_message(self, *_: Any) -> None:
        """Nothing: `requests` is the log."""
