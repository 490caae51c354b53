"""The Hub path: the real client over real HTTP against a small server here, which notes every request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from convert.hub import describe
from pipeline.artifact.store import open_artifact
from tests.conftest import Stage
from tests.support.loopback_hub import FIRST, REPOSITORY, SECOND, Hub, serving
from tests.support.tiny_checkpoints import write_checkpoint, write_recipe

BRANCH = 'revision = "release"\n'
TEMPLATE = "additional_chat_templates/tool_use.jinja"
UNWANTED = (
    "additional_chat_templates/notes.txt",
    "more/model.safetensors",
    "more/tool_use.jinja",
    "pytorch_model.bin",
    "modeling_evil.py",
    "onnx/model.onnx",
    "fp16/model.safetensors",
    "tf_model.h5",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = write_checkpoint(tmp_path_factory.mktemp("hub") / "checkpoint")
    wanted = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    return {**wanted, TEMPLATE: b"{{ messages }}", **dict.fromkeys(UNWANTED, b"never to be downloaded")}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serving(files) as server:
        yield server


class Client:
    """`python -m convert` with the Hub at an address, and nothing else of the network."""

    def __init__(self, stage: Stage, home: Path, hub: Hub) -> None:
        self.stage, self.home, self.build = stage, home, home / "build"
        self.environment = hub.environment(home)

    def convert(self, source: str = BRANCH, code: int = 0, **environment: str) -> str:
        """Return what the command says on stderr."""
        recipe = write_recipe(self.home, source)
        environment = {**self.environment, **environment}
        return self.stage("convert", recipe, "--build", self.build, code=code, **environment).stderr

    def refused(self, source: str = BRANCH, code: int = 3, **environment: str) -> str:
        """The same for a run that must fail, name both ways out, and leave nothing behind."""
        message = self.convert(source, code, **environment)
        assert message.count("error: ") == 1
        assert "Traceback" not in message
        assert "restore the network" in message
        assert "--source DIR" in message
        home = self.build / "tiny"
        assert not home.exists() or list(home.iterdir()) == []
        return message


@pytest.fixture
def client(stage: Stage, tmp_path: Path, hub: Hub) -> Client:
    return Client(stage, tmp_path, hub)


def fetched(hub: Hub) -> list[str]:
    """Paths of the files asked for, with the revision."""
    return sorted({path.partition("/resolve/")[2] for path in hub.requests if "/resolve/" in path})


@pytest.mark.slow
def test_branch_is_resolved_to_a_commit_first(hub: Hub, client: Client, files: dict[str, bytes]) -> None:
    client.convert()
    assert hub.requests[0] == f"GET /api/models/{REPOSITORY}/revision/release"
    assert not any("release" in request or "main" in request for request in hub.requests[1:])
    assert fetched(hub) == sorted(f"{FIRST}/{name}" for name in files if name not in UNWANTED)
    for kind in ("source", "fp32"):
        source = open_artifact(client.build / "tiny" / kind, made_by="test").manifest.source
        assert source == {"commit": FIRST, "license": "apache-2.0", "origin": "hub", "repository": REPOSITORY}
    assert sorted(path.name for path in (client.build / "tiny").iterdir()) == ["fp32", "source"]
    assert not (client.build / "tiny" / "source" / ".cache").exists()

    hub.requests.clear()
    message = client.convert()
    assert f"source: unchanged at {REPOSITORY}@{FIRST}" in message
    assert "fp32: unchanged" in message
    assert hub.requests == [f"GET /api/models/{REPOSITORY}/revision/release"]

    hub.commits[SECOND] = {**files, "README.md": b"---\nlicense: mit\n---\n"}
    hub.branches["release"] = SECOND
    message = client.convert()
    assert f"source: downloading {REPOSITORY}@{SECOND}" in message
    assert "fp32: writing the fused graph" in message
    source = open_artifact(client.build / "tiny" / "fp32", made_by="test").manifest.source
    assert (source["commit"], source["license"]) == (SECOND, "mit")

    hub.faults["model.safetensors"] = "short"
    hub.commits["3" * 40] = hub.commits[SECOND]
    hub.branches["release"] = "3" * 40
    client.convert(code=69)
    kept = open_artifact(client.build / "tiny" / "fp32", made_by="test").manifest.source["commit"]
    assert kept == SECOND, "what was there stays when the next download fails"


def test_repository_that_is_not_there(client: Client) -> None:
    client.home.joinpath("tiny.toml").unlink(missing_ok=True)
    recipe = write_recipe(client.home)
    recipe.write_text(recipe.read_text().replace(REPOSITORY, "someone/else"))
    result = client.stage("convert", recipe, "--build", client.build, code=3, **client.environment)
    assert "error: the Hub has no such repository, or it is private\n  where: someone/else@main" in result.stderr
    assert "--source DIR" in result.stderr
    assert not client.build.joinpath("tiny", "source").exists()


def test_repository_name_that_cannot_be(client: Client) -> None:
    recipe = write_recipe(client.home)
    recipe.write_text(recipe.read_text().replace(REPOSITORY, "some one/../else"))
    result = client.stage("convert", recipe, "--build", client.build, code=2, **client.environment)
    assert "where: source.repository" in result.stderr


def test_revision_that_is_not_there(client: Client, hub: Hub) -> None:
    message = client.refused('revision = "v9"\n')
    assert f"error: the Hub's repository has no such revision\n  where: {REPOSITORY}@v9" in message
    assert fetched(hub) == []


def test_answer_that_is_no_commit(client: Client, hub: Hub) -> None:
    hub.faults["sha"] = "release"
    assert "the Hub answered 'release' where a commit is required" in client.refused()


def test_nobody_listens(client: Client, hub: Hub) -> None:
    hub.shutdown()
    hub.server_close()
    assert "the Hub cannot be reached (ConnectError)" in client.refused(code=69)


@pytest.mark.parametrize(("status", "code"), [(503, 69), (429, 69), (401, 3), (403, 3)])
def test_the_servers_own_fault_may_pass_and_a_refusal_does_not(
    client: Client, hub: Hub, status: int, code: int
) -> None:
    """The exit code says whether trying again may help."""
    hub.faults["api"] = str(status)
    client.refused(code=code)


def test_client_is_switched_off(client: Client) -> None:
    assert "switched off by HF_HUB_OFFLINE" in client.refused(HF_HUB_OFFLINE="1")


def test_file_that_may_not_be_read(client: Client, hub: Hub) -> None:
    hub.faults["model.safetensors"] = "forbidden"
    message = client.refused()
    assert "download failed: the Hub asks to accept the repository's terms, or for a token" in message
    assert f"where: {REPOSITORY}@{FIRST}" in message


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["short", "gone"])
def test_download_that_breaks_off(client: Client, hub: Hub, fault: str) -> None:
    hub.faults["model.safetensors"] = fault
    message = client.refused(code=69)
    assert "error: download failed: " in message
    assert f"where: {REPOSITORY}@{FIRST}" in message


def test_broken_checkpoint_is_no_matter_of_the_network(client: Client, hub: Hub) -> None:
    hub.commits[FIRST]["config.json"] = b'{"model_type": "gpt2", "auto_map": {}}'
    message = client.convert(code=3)
    assert "key auto_map asks to run code" in message
    assert "restore the network" not in message
    assert list((client.build / "tiny").iterdir()) == []


@pytest.mark.parametrize("commit", ["main", "1" * 39, "1" * 41, "G" * 40])
def test_commit_that_is_none(client: Client, commit: str) -> None:
    recipe = write_recipe(client.home, BRANCH)
    result = client.stage("convert", recipe, "--commit", commit, "--build", client.build, code=2, **client.environment)
    assert "where: --commit" in result.stderr


@pytest.mark.slow
def test_a_commit_that_is_named_is_the_one_that_is_fetched(client: Client, hub: Hub, files: dict[str, bytes]) -> None:
    hub.commits[SECOND] = {**files, "README.md": b"---\nlicense: mit\n---\n"}
    recipe = write_recipe(client.home, BRANCH)
    client.stage("convert", recipe, "--commit", SECOND, "--build", client.build, **client.environment)
    source = open_artifact(client.build / "tiny" / "source", made_by="test").manifest.source
    assert source["commit"] == SECOND, "although the branch names the first"


def test_what_a_commit_holds_is_learnt_without_a_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = describe(REPOSITORY, "release")
    assert (found.commit, found.license) == (FIRST, "apache-2.0")
    assert found.files.keys() == found.bytes.keys() == hub.commits[FIRST].keys()
    weights = hub.commits[FIRST]["model.safetensors"]
    assert found.files["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert found.bytes["model.safetensors"] == len(weights)
    assert hub.requests == [f"GET /api/models/{REPOSITORY}/revision/release?blobs=true"]
