"""The try-it page's server, and what its tests need on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from publish import browser, serve
from publish.loopback import listen

Tree = dict[str, Path | bytes]


def lacking(what: str) -> None:
    """Skip, unless this is CI, where nothing may be missing."""
    if os.environ.get("PIPELINE_CI") == "1":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def node() -> str:
    """Node, where the page's npm packages are installed too."""
    found = shutil.which("node")
    if found is None or not (browser.HOME / "node_modules" / "playwright-core").is_dir():
        lacking("node, or publish/page/node_modules (make setup)")
    return str(found)


@contextlib.contextmanager
def served(files: Tree) -> Iterator[str]:
    """The address of a server of these files."""
    with listen(0) as listener:
        server = uvicorn.Server(uvicorn.Config(serve.application(files), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
