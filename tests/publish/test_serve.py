"""The server of the try-it page: what it answers, what it refuses to serve, and which library it has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx2
import pytest

from pipeline.artifact import store
from pipeline.artifact.manifest import Manifest
from pipeline.canonical import file_digest
from pipeline.errors import ArtifactError, RecipeError
from pipeline.recipe.recipe import read_recipe
from publish import browser, serve
from publish.loopback import listen
from tests.conftest import EMBEDDED, ROOT
from tests.support.page_server import node, served


def test_server_answers_files_ranges_and_nothing_else(build: Path) -> None:
    node()
    files = dict(serve.tree(read_recipe(EMBEDDED), build / "embedded"))
    with served(files) as address, httpx2.Client(base_url=address) as client:
        index = client.get("/")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        assert index.headers["cross-origin-opener-policy"] == "same-origin"
        assert index.headers["cross-origin-embedder-policy"] == "require-corp"
        graph = files["onnx/model_q4.onnx"]
        assert isinstance(graph, Path)
        part = client.get("/onnx/model_q4.onnx", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, graph.read_bytes()[10:20])
        assert client.head("/onnx/model_q4.onnx").headers["content-length"] == str(graph.stat().st_size)
        wasm = client.head("/library/ort-wasm-simd-threaded.wasm")
        assert (wasm.status_code, wasm.headers["content-type"]) == (200, "application/wasm")
        for path in ("/absent", "/onnx/", "/manifest.json", "/..%2f..%2fetc/passwd", "/library/package.json"):
            missing = client.get(path)
            assert (missing.status_code, missing.headers["content-type"]) == (404, "text/plain; charset=utf-8"), path
        assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400


def test_server_refuses_what_it_cannot_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node()
    recipe = read_recipe(EMBEDDED)
    with pytest.raises(ArtifactError, match="nothing is built") as caught:
        serve.tree(recipe, tmp_path / "embedded")
    assert f"python -m quantize {EMBEDDED} --build {tmp_path}" in caught.value.hint
    with listen(0) as taken, pytest.raises(RecipeError, match="cannot be used"):
        listen(taken.getsockname()[1])
    with pytest.raises(RecipeError, match="cannot be used"):
        listen(65536)
    monkeypatch.setattr(browser, "HOME", tmp_path)
    shutil.copy(ROOT / "publish" / "page" / "library.json", tmp_path)
    with pytest.raises(ArtifactError, match="library is not installed"):
        serve.tree(recipe, tmp_path)


def test_assembled_repository_is_served_with_the_local_library(tmp_path: Path) -> None:
    node()
    repository = tmp_path / "repo"
    with store.staging(repository) as staged:
        (staged / "page.json").write_text(json.dumps({"name": "x", "code": browser.published_code()}))
        (staged / "index.html").write_text("page")
        store.seal(staged, repository, Manifest("repository", "x", "repo", {}, "r", "c", {}, {}))
    tree = serve.tree(read_recipe(EMBEDDED), tmp_path)
    assert tree["index.html"] == repository / "index.html"
    content = tree[browser.SETTINGS]
    assert isinstance(content, bytes)
    assert json.loads(content) == {"name": "x", "code": browser.local_code()[0]}
    (repository / "secrets.txt").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactError, match=r"secrets\.txt is a link"):
        serve.tree(read_recipe(EMBEDDED), tmp_path)


def test_library_is_the_one_installed() -> None:
    node()
    code, places = browser.local_code()
    installed = {url: (path.stat().st_size, file_digest(path)) for url, path in places.items()}
    assert {entry["url"]: (entry["size"], entry["sha256"]) for entry in code.values()} == installed
    for file in browser.library().values():
        package = json.loads((browser.HOME / "node_modules" / file["package"] / "package.json").read_text())
        assert package["version"] == file["version"]
    assert all(entry["url"].startswith(f"{browser.CDN}/") for entry in browser.published_code().values())
