"""The local Hub answers as the Hub does, by what the real client makes of it."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd as Add
from huggingface_hub import CommitOperationDelete as Delete
from huggingface_hub import HfApi, errors

from pipeline import command
from tests.hub.__main__ import main
from tests.hub.access import EXPIRED, READ, WRITE
from tests.hub.lfs import KEY
from tests.support import rehearsing
from tests.support.local_hub import LocalHub, serving

server, hub = rehearsing.server, rehearsing.hub
NAME = "rehearsal/protocol"
LARGE = b"0123456789" * 1000


@pytest.fixture
def head(hub: LocalHub) -> str:
    """The repository with a large and two small files; its commit."""
    hub.api.delete_repo(NAME, missing_ok=True)
    hub.api.create_repo(NAME, private=True)
    files = [Add("onnx/model.onnx", LARGE), Add("README.md", b"---\nlicense: mit\n---\n"), Add("a/b.json", b"{}")]
    return str(hub.api.create_commit(NAME, files, commit_message="first").oid)


def test_stale_parent_is_refused_whole(hub: LocalHub, head: str) -> None:
    second = hub.api.create_commit(NAME, [Delete("a/b.json")], commit_message="second", parent_commit=head)
    with pytest.raises(errors.HfHubHTTPError, match="412"):
        hub.api.create_commit(NAME, [Add("x", b"x")], commit_message="third", parent_commit=head)
    assert hub.history(NAME) == [second.oid, head]
    with pytest.raises(errors.EntryNotFoundError):
        hub.api.create_commit(NAME, [Add("x", b"x"), Delete("nothing")], commit_message="third")
    assert hub.history(NAME) == [second.oid, head]


def test_what_was_never_uploaded_cannot_be_committed(hub: LocalHub, head: str) -> None:
    lines = '{"key":"header","value":{"summary":"s"}}\n{"key":"lfsFile","value":{"path":"x.onnx","oid":"%s","size":1}}'
    address = f"{hub.endpoint}/api/models/{NAME}/commit/main"
    found = httpx2.post(address, content=lines % ("0" * 64), headers={"authorization": f"Bearer {WRITE}"}, timeout=9)
    assert (found.status_code, hub.history(NAME)) == (400, [head])


def test_card_that_is_no_yaml_is_refused(hub: LocalHub, head: str) -> None:
    with pytest.raises(ValueError, match="Invalid metadata"):
        hub.api.create_commit(NAME, [Add("README.md", b"---\nlicense: [\n---\n")], commit_message="second")
    assert hub.history(NAME) == [head]


def test_large_files_come_from_another_host_with_ranges(hub: LocalHub, head: str) -> None:
    ask = {"authorization": f"Bearer {READ}", "Range": "bytes=3-5"}
    address = f"{hub.endpoint}/{NAME}/resolve/{head}/onnx/model.onnx"
    found = httpx2.get(address, headers=ask, timeout=9, follow_redirects=True)
    assert (found.status_code, found.content) == (206, b"345")
    assert found.url.host == "localhost"
    assert "authorization" not in found.request.headers
    beyond = {**ask, "Range": "bytes=99999-"}
    assert httpx2.get(address, headers=beyond, timeout=9, follow_redirects=True).status_code == 416
    first = httpx2.head(address, headers=ask, timeout=9)
    assert (first.status_code, first.headers["X-Repo-Commit"], first.headers["X-Linked-Size"]) == (302, head, "10000")


@pytest.mark.parametrize(
    ("token", "refusals"),
    [(WRITE, (None, None, None)), (READ, (None, None, 403)), (EXPIRED, (401, 401, 401)), (False, (None, 401, 401))],
)
@pytest.mark.usefixtures("head")
def test_tokens(hub: LocalHub, token: str | bool, refusals: tuple[int | None, ...]) -> None:
    api = HfApi(endpoint=hub.endpoint, token=token)
    asked = [lambda: token and api.whoami(), lambda: api.model_info(NAME), lambda: api.create_tag(NAME, tag="t")]
    for ask, status in zip(asked, refusals, strict=True):
        if status is None:
            ask()
        else:
            with pytest.raises(errors.HfHubHTTPError) as caught:
                ask()
            assert caught.value.response is not None
            assert caught.value.response.status_code == status


def test_references(hub: LocalHub, head: str) -> None:
    hub.api.create_branch(NAME, branch="with/slash", revision=head)
    hub.api.create_tag(NAME, tag="v1", revision="with/slash")
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        hub.api.create_tag(NAME, tag="v1")
    hub.api.create_commit(NAME, [Add("x", b"x")], commit_message="second", revision="with/slash")
    assert hub.tree(NAME, "v1") == hub.tree(NAME) != hub.tree(NAME, "with/slash")
    hub.api.delete_tag(NAME, tag="v1")
    with pytest.raises(errors.RevisionNotFoundError):
        hub.api.model_info(NAME, revision="v1")
    paths = {entry.path for entry in hub.api.list_repo_tree(NAME)}
    assert paths == {".gitattributes", "README.md", "a", "onnx"}
    assert [entry.path for entry in hub.api.get_paths_info(NAME, ["a/b.json", "nothing"])] == ["a/b.json"]


def test_content_outlives_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with serving(tmp_path / "data") as hub:
            rehearsing.environment(monkeypatch, hub, tmp_path)
            if not hub.api.repo_exists(NAME):
                hub.api.create_repo(NAME)
                hub.api.upload_file(path_or_fileobj=LARGE, path_in_repo="x.onnx", repo_id=NAME)
            assert Path(hub.api.hf_hub_download(NAME, "x.onnx", local_dir=tmp_path / "got")).read_bytes() == LARGE


def test_storage_wants_its_signature(hub: LocalHub) -> None:
    found = httpx2.get(f"{hub.endpoint}/storage/{'0' * 64}?key={KEY}", timeout=9)  # this process's, not the server's
    assert found.status_code == 403


@pytest.mark.parametrize("words", [("--port", "65536"), ("--data", __file__)])
def test_a_place_that_cannot_be_is_a_usage_error(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(main, words) == 2
    assert f"where: {words[0]}" in capsys.readouterr().err
