"""`python -m tests.hub` on a free port: where it listens, what it holds, and how to make it fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi

from tests.conftest import ROOT

Tree = dict[str, tuple[int, str]]  # path -> size, SHA-256 (large) or git's blob id


@dataclass
class LocalHub:
    """The server: its address, what went wrong with it, and what it holds."""

    endpoint: str
    api: HfApi
    client: httpx2.Client  # one for all questions: making one reads the certificates of the world

    def fault(self, kind: str, path: str = ".*", **options: Any) -> None:
        self.client.post("/-/faults", json=[{"kind": kind, "path": path, **options}])

    def clear(self) -> None:
        self.client.delete("/-/faults")

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.client.get("/-/faults").json()
        return state

    def requests(self, pattern: str = "") -> list[str]:
        return [request for request in self.state()["requests"] if re.search(pattern, request)]

    def quota(self, size: int | None) -> None:
        self.client.put("/-/quota", content=json.dumps(size))

    def tree(self, repository: str, revision: str = "main") -> Tree:
        info = self.api.model_info(repository, revision=revision, files_metadata=True)
        return {
            file.rfilename: (file.size or 0, file.lfs.sha256 if file.lfs else str(file.blob_id))
            for file in info.siblings or ()
            if file.rfilename != ".gitattributes"
        }

    def history(self, repository: str) -> list[str]:
        """Commits of main, newest first, without the first, empty one."""
        return [commit.commit_id for commit in self.api.list_repo_commits(repository)][:-1]

    def tags(self, repository: str) -> dict[str, str]:
        return {tag.name: tag.target_commit for tag in self.api.list_repo_refs(repository).tags}


@contextmanager
def serving(data: Path) -> Iterator[LocalHub]:
    """`python -m tests.hub` on a free port."""
    words = [sys.executable, "-m", "tests.hub", "--data", str(data)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.fullmatch(r"export HF_ENDPOINT=(\S+) HF_TOKEN=(\S+) HF_HUB_DISABLE_XET=1\n", line)
            assert found, (line, server.poll(), server.stderr.read() if server.stderr else "")
            with httpx2.Client(base_url=found[1], timeout=10) as client:
                yield LocalHub(found[1], HfApi(endpoint=found[1], token=found[2]), client)
        finally:
            server.terminate()
            log = server.communicate(timeout=10)[1]
            assert "Traceback" not in log, log
