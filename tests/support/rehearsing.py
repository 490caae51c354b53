"""A build of small artifacts with a report that passed, and how to publish it to a local Hub."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import onnx
import pytest
from tqdm import tqdm

from model import hub_client
from pipeline import command
from pipeline.artifact import store
from pipeline.artifact.manifest import Manifest
from pipeline.canonical import code_files, digest, file_digest
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.variants import model_file, read_files
from publish.__main__ import main
from publish.hub import PATIENCE
from tests.conftest import ROOT
from tests.hub.access import WRITE
from tests.support.local_hub import LocalHub, Tree, serving

RECIPE = """
name = "small"
architecture = "gpt2"
[source]
repository = "someone/small"
[source.expect]
license = "mit"
[verify]
text = "text.txt"
checks = ["structure"]
[publish]
repository = "small-ONNX"
"""
SOURCE = "someone/small"  # where the recipe says that it comes from
FIRST = {"fp32": b"fp32 " * 1000, "q8": b"q8 " * 900, "q4": b"q4 " * 700}
DIMENSIONS = {"layers": 1, "hidden": 4, "heads": 1, "context": 8, "vocabulary": 9, "parameters": 100, "tied": True}
SHARED = ("config.json", "tokenizer.json", "vocab.json")


def shared_files(**changes: bytes) -> dict[str, bytes]:
    """Files that all variants share, by name; `changes` are those with other content, named without .json."""
    return {name: changes.get(name.removesuffix(".json"), f'{{"of": "{name}"}}\n'.encode()) for name in SHARED}


VERIFY = digest(code_files(ROOT / "verify", ROOT / "model", ROOT / "pipeline"))  # the version of it that judges here


def graph(weights: bytes) -> bytes:
    """A graph that holds these bytes and computes nothing."""
    tensor = onnx.TensorProto(name="weights", data_type=onnx.TensorProto.UINT8, dims=[len(weights)], raw_data=weights)
    empty = onnx.helper.make_graph([], "small", [], [], [tensor])
    return bytes(onnx.helper.make_model(empty).SerializeToString(deterministic=True))


@dataclass
class Build:
    """build/<name> of small artifacts; `contents` says what is in each variant's graph."""

    home: Path
    contents: Mapping[str, bytes] = field(default_factory=dict)
    shared: Mapping[str, bytes] = field(default_factory=dict)
    in_place: tuple[str, ...] = ()  # variants with a second graph

    @property
    def recipe(self) -> Recipe:
        return read_recipe(self.home / "small.toml")

    def make(
        self, contents: Mapping[str, bytes], shared: Mapping[str, bytes] | None = None, license_: str | None = "mit"
    ) -> None:
        """Write recipe, artifacts and report."""
        self.contents, self.shared = contents, shared or shared_files()
        steps = "".join(f'[[variants.{name}.steps]]\nscheme = "rtn"\n' for name in contents if name != "fp32")
        self.home.mkdir(parents=True, exist_ok=True)
        second = f"in_place = {json.dumps(self.in_place)}\n"
        (self.home / "small.toml").write_text(second + RECIPE + (steps or "[variants]\n"))
        (self.home / "text.txt").write_text("some text")
        card = b"---\nlicense: mit\nlanguage: [en]\n---\n\n# Small\n"
        files = {"README.md": card, "config.json": b"{}"}
        source = self.seal("source", self.recipe.source_digest, {}, files, license_)
        base = self.variant("fp32", self.recipe.model_digest, {"source": source.digest})
        made = {"source": source, "fp32": base}
        for name in contents:
            if name != "fp32":
                made[name] = self.variant(name, self.recipe.variant_digest(name), {"fp32": base.digest})
        self.report({name: artifact.digest for name, artifact in made.items()})

    def variant(self, name: str, recipe: str, parents: Mapping[str, str]) -> store.Artifact:
        graphs = {model_file(graph_name): graph(self.contents[name]) for graph_name in self.recipe.graphs(name)}
        return self.seal(name, recipe, parents, {**self.shared, **graphs})

    def report(self, parents: Mapping[str, str], code: str = VERIFY, **changes: Any) -> None:
        files = {
            name: [self.home / "small" / variant / file for file in read_files(name, ())]
            for variant in self.contents
            for name in self.recipe.graphs(variant)
        }
        document = {
            "schema": 1,
            "verdict": "passed",
            "name": "small",
            "complete": True,
            "not_judged": [],
            "not_run": [],
            "environment": {"python": "3.11", "platform": "Linux", "processor": "any", "packages": {}},
            "candidates": [
                {
                    "variant": name,
                    "file": paths[0].name,
                    "bytes": sum(path.stat().st_size for path in paths),
                    "sha256": file_digest(paths[0]),
                }
                for name, paths in files.items()
            ],
            "seed": 0,
            "text": {"sha256": "0" * 64, "tokens": 2},
            "prompts": None,
            "results": [
                {"variant": name, "check": "structure", "level": "any", "passed": True, "failure": None, "measures": []}
                for name in files
            ],
            **changes,
        }
        content = {"report.json": json.dumps(document).encode(), "report.md": b"# small: passed\n"}
        self.seal("report", self.recipe.verdict_digest, parents, content, code=code)

    def seal(
        self,
        name: str,
        recipe: str,
        parents: Mapping[str, str],
        files: Mapping[str, bytes],
        license_: str | None = "mit",
        code: str = "code",
    ) -> store.Artifact:
        target = self.home / "small" / name
        kind = name if name in ("source", "report") else "model"
        source = {"origin": "hub", "repository": SOURCE, "commit": "1" * 40, "license": license_}
        manifest = Manifest(kind, "small", name, source, recipe, code, dict(parents), {}, {"dimensions": DIMENSIONS})
        with store.staging(target) as staged:
            for path, content in files.items():
                (staged / path).parent.mkdir(parents=True, exist_ok=True)
                (staged / path).write_bytes(content)
            return store.seal(staged, target, manifest)

    def parents(self) -> dict[str, str]:
        names = ("source", *self.contents)
        return {name: store.open_artifact(self.home / "small" / name, made_by="test").digest for name in names}


@dataclass
class Publisher:
    """`python -m publish` in this process. `said` holds everything it has printed, all runs together."""

    build: Build
    repository: str
    said: str = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        """Return what one run prints: stdout and stderr."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            found = command.run(main, self.words(*words))
        self.said += out.getvalue()
        assert found == code, out.getvalue()
        return out.getvalue()

    def words(self, *words: str) -> list[str]:
        home = str(self.build.home)
        return [f"{home}/small.toml", "--build", home, "--repository", self.repository, *words]

    @property
    def expected(self) -> Tree:
        """Return what the Hub must hold: the assembled tree, as its own description would put it."""
        tree = self.build.home / "small" / "repo"
        return {
            path.relative_to(tree).as_posix(): (path.stat().st_size, _identity(path))
            for path in tree.rglob("*")
            if path.is_file()
        }


def _identity(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".onnx":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def environment(monkeypatch: pytest.MonkeyPatch, hub: LocalHub, home: Path) -> None:
    """Lead the client to this Hub, with this token and no other, without waits."""
    # The client reads HF_ENDPOINT once, when it is imported.
    address = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # for what a test itself uploads
    monkeypatch.setenv("HF_TOKEN", WRITE)
    monkeypatch.delenv("PIPELINE_SIGNING_KEY", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(home / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("publish.hub.FIRST_WAIT", 0.01)


def start(words: list[str], log: Path) -> int:
    """The same in a child process, which is to be killed: its id."""
    child = os.fork()
    if child == 0:
        # tqdm's lock is a semaphore shared with the parent, which would wait for ever for one that died holding it.
        tqdm.set_lock(threading.RLock())
        try:
            with log.open("w") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
                command.run(main, words)
        finally:
            os._exit(1)  # whatever happened: a child must not go on as a second pytest
    return child


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with serving(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    environment(monkeypatch, server, tmp_path)
    server.clear()
    server.quota(None)
    yield server
    hub_client.use(PATIENCE)  # as before, for whichever test comes next


@pytest.fixture
def publish(tmp_path: Path, hub: LocalHub) -> Iterator[Publisher]:
    build = Build(tmp_path)
    build.make(FIRST)
    publisher = Publisher(build, f"rehearsal/{secrets.token_hex(6)}")
    yield publisher
    for path in tmp_path.rglob("*"):  # never a token in a log, a message or a file
        assert not path.is_file() or b"hf_rehearsal" not in path.read_bytes(), path
    assert "hf_rehearsal" not in publisher.said
    assert not any("hf_rehearsal" in request for request in hub.requests())


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A build that may be published, and nobody to sign it."""
    monkeypatch.delenv("PIPELINE_SIGNING_KEY", raising=False)
    made = Build(tmp_path)
    made.make(FIRST)
    return made


def offline(build: Build, code: int = 0) -> str:
    return Publisher(build, "someone/small")("--offline", code=code)
