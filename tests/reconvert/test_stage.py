"""The command with the stages themselves, on tiny models from a Hub on loopback: changed, killed, busy."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import command
from pipeline.artifact.store import open_artifact
from reconvert.__main__ import main
from reconvert.cycle import Row
from reconvert.execution import SECRETS
from tests.conftest import ROOT, Stage
from tests.support.loopback_hub import SECOND, Hub, serving
from tests.support.reconvert_jobs import Q8, alive, wait, write_recipe
from tests.support.tiny_checkpoints import write_checkpoint

NAMES = ("one", "two", "three")
TOKEN = "hf_" + "x" * 30


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = write_checkpoint(tmp_path_factory.mktemp("hub") / "checkpoint")
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serving(files, [f"someone/{name}" for name in NAMES]) as server:
        yield server


class Job:
    """`python -m reconvert` on three recipes, with the Hub at an address and a token in the environment."""

    def __init__(self, stage: Stage, home: Path, hub: Hub) -> None:
        self.stage, self.build = stage, home / "build"
        sources = {name: f'repository = "someone/{name}"\nrevision = "release"' for name in NAMES}
        variants: dict[str, dict[str, str]] = {"one": {}, "two": Q8, "three": {}}  # fp32 alone is half the work
        self.recipes = [write_recipe(home, name, source, variants[name]) for name, source in sources.items()]
        self.environment = {**hub.environment(home), "HF_TOKEN": TOKEN}

    @property
    def command(self) -> list[str]:
        return ["reconvert", *map(str, self.recipes), "--build", str(self.build), "--wait", "0.1", "--tries", "2"]

    def run(self, *more: str, code: int = 0) -> list[tuple[str, str]]:
        """Actions and reasons, from the summary whose path the command prints."""
        result = self.stage(*self.command, *more, code=code, **self.environment)
        path = Path(result.stdout.removesuffix("\n"))
        assert path == self.build / ".reconvert" / "summary.json"
        return [(row["action"], row["reason"]) for row in json.loads(path.read_text())["rows"]]

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self.environment}
        command = [sys.executable, "-m", *self.command]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def logs(self, pattern: str) -> list[Path]:
        return sorted(self.build.glob(f"{pattern}.log"))


@pytest.fixture
def job(stage: Stage, tmp_path: Path, hub: Hub) -> Job:
    return Job(stage, tmp_path, hub)


@pytest.mark.slow
def test_killed_busy_completed_and_one_changed_upstream(job: Job, hub: Hub, files: dict[str, bytes]) -> None:
    names = NAMES[:2]
    job.recipes = job.recipes[:2]
    running = job.start()
    wait(lambda: job.logs("two/reconvert/logs/*-convert"))
    busy = job.stage(*job.command, code=75, **job.environment)
    assert "another run is at work in this build directory" in busy.stderr
    assert busy.stdout == ""
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait(lambda: not alive(job.build), 20)
    assert not (job.build / "two" / "report").exists(), "it was killed in the middle"

    assert job.run()[0] == ("skipped", "unchanged")
    assert [list(job.build.joinpath(name).glob(".staging-*")) for name in names] == [[], []]
    for name in names:
        for artifact in ("source", "fp32", "report"):
            open_artifact(job.build / name / artifact, made_by="test")
    open_artifact(job.build / "two" / "q8", made_by="test")
    logs = len(job.logs("*/reconvert/logs/*"))

    one, two = (hub.repositories[f"someone/{name}"] for name in names)
    config = files["config.json"].replace(b'"layer_norm_epsilon": 1e-05', b'"layer_norm_epsilon": 1e-04')
    assert config != files["config.json"]
    two.commits[SECOND] = {**files, "config.json": config}
    one.commits[SECOND] = {**files, "README.md": files["README.md"] + b"More words.\n"}
    one.branches["release"] = two.branches["release"] = SECOND
    assert job.run() == [
        ("skipped", "a new commit, 222222222222, changes no file that is read"),
        ("converted", "source, recipe, environment or converter changed"),
    ]
    assert len(job.logs("*/reconvert/logs/*")) == logs + 3
    source = open_artifact(job.build / "two" / "fp32", made_by="test").manifest.source
    assert source["commit"] == SECOND

    assert hub.credentials == {None}, "nothing that was published, so nobody saw the token"
    for path in job.build.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_a_stopped_run_stops_its_stage_and_counts_nothing(job: Job) -> None:
    running = job.start()
    wait(lambda: job.logs("one/reconvert/logs/*-convert"))
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 130
    assert alive(job.build) == []
    assert json.loads((job.build / "one/reconvert/state.json").read_text())["failing"] is None


def test_a_hub_that_cannot_be_reached_is_no_failure_of_the_recipe(job: Job, hub: Hub) -> None:
    hub.faults["api"] = "503"
    actions = job.run(code=1)
    assert {action for action, _ in actions} == {"failed"}
    assert all("503" in reason for _, reason in actions)
    assert len(hub.requests) == 6, "each was tried twice"
    assert not list(job.build.glob("*/reconvert/state.json"))


def test_a_refusal_of_the_stage_is_the_reason_given(job: Job, hub: Hub) -> None:
    for name in NAMES:
        hub.repositories[f"someone/{name}"].commits["1" * 40]["config.json"] = b'{"model_type": "gpt2", "auto_map": {}}'
    for action in ("failed", "quarantined"):
        rows = job.run("--attempts", "1", code=1)
        assert {row[0] for row in rows} == {action}
        assert all("exit code 3: error: key auto_map asks to run code from the repository" in row[1] for row in rows)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--executor", "slurm"], "'slurm' does not exist"),
        (["--address", "127.0.0.1:1"], "the local executor has no address"),
        (["--attempts", "0"], "where: --attempts"),
        (["--wait", "-1"], "where: --wait"),
        (["--keep-bytes", "-1"], "where: --keep-bytes"),
        (["--push", "--pr"], "not allowed with"),
    ],
)
def test_a_wrong_command_line_is_refused(job: Job, more: list[str], message: str) -> None:
    assert message in job.stage(*job.command, *more, code=2).stderr


def test_two_recipes_of_one_name_are_refused(job: Job) -> None:
    assert "2 recipes are named 'one'" in job.stage("reconvert", job.recipes[0], *job.command[1:], code=2).stderr


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [("a/small", "A/small", 2), ("a/small", "small", 2), ("small", "small", 2), ("small", "b/small", 2), ("", "", 2)],
)
def test_two_recipes_never_publish_in_one_place(
    job: Job, capsys: pytest.CaptureFixture[str], first: str, second: str, code: int
) -> None:
    for path, place in zip(job.recipes, (first, second), strict=False):
        path.write_text(path.read_text() + (f'[publish]\nrepository = "{place}"\n' if place else ""))
    words = [*map(str, job.recipes[:2]), "--build", str(job.build), "--push"]
    assert command.run(main, words) == code
    assert ("publishes too" if first else "does not say where to publish") in capsys.readouterr().err


def test_owners_of_their_own_may_name_alike(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, place in zip(job.recipes, ("a/small", "b/small", "a/other"), strict=True):
        path.write_text(path.read_text() + f'[publish]\nrepository = "{place}"\n')
    monkeypatch.setattr("reconvert.__main__._run", lambda *_: 0)
    assert main([*map(str, job.recipes), "--build", str(job.build), "--push"]) == 0


def test_a_file_system_without_locks_gets_no_lock_that_outlives_its_owner(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", missing)
    monkeypatch.setattr("reconvert.__main__._run", lambda *_: 0)
    with pytest.raises(OSError, match="not implemented"):
        main([str(job.recipes[0]), "--build", str(job.build)])


def test_the_summary_is_written_whatever_is_in_the_way_of_tidying_up(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> tuple[list[Row], str]:
        return [Row("one", "skipped", "unchanged")], "20260101T000000Z"

    def refused(*_: object) -> list[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", "kept")

    for name in SECRETS:  # which a run takes out of its environment: here, the tests' own
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("reconvert.__main__._cycle", nothing)
    monkeypatch.setattr("reconvert.pruning.prune", refused)
    assert command.run(main, [str(job.recipes[0]), "--build", str(job.build)]) == 3
    assert json.loads((job.build / ".reconvert" / "summary.json").read_text())["rows"][0]["action"] == "skipped"


def test_help_is_there_before_any_library(stage: Stage) -> None:
    result = stage("reconvert", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert "python -m reconvert" in result.stdout
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "argparse" in loaded, "the interpreter says what it imports"
    assert not loaded & {"torch", "ray", "huggingface_hub", "rich"}
