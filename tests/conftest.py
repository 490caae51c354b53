"""Say what several tests share: the pipeline's commands, and the embedded model built by them once per session."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

from tests.support.stages import Stages, forget

# A busy machine is no failure (no deadline), and a red run must be red again when it is repeated (derandomize).
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "recipes" / "embedded.toml"
Stage = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def _no_power_is_lost() -> Iterator[None]:
    """Leave what is written to the system: a disk is waited for (fsync) in case of what no test can bring about.

    That it is waited for, and in which order, the tests of the store see by functions of their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", forget)
        yield


@pytest.fixture(autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """Take back what a command's main sets here, where it has no process of its own.

    A variable of the Hub's client that stayed would let every later command start anew (tests/support/stages.py).
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def stage() -> Stage:
    """Run `python -m STAGE ...` from the project's root, with no way to resolve the Hub's name."""
    stages = Stages({"HF_ENDPOINT": "http://hub.invalid"})

    def run(*arguments: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        result = stages.run([*map(str, arguments)], environment)
        assert result.returncode == code, f"{arguments}: exit code {result.returncode}\n{result.stderr[-4000:]}"
        return result

    return run


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory, worker_id: str, stage: Stage) -> Path:
    """A build directory with the embedded model's source, fp32 and all variants. Tests must not change it.

    Whichever worker of a run needs it first builds it; each has a copy of its own.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "built"
    built = shared.with_name("all-built")
    with FileLock(f"{shared}.lock"):
        if not built.exists():
            stage("convert", EMBEDDED, "--build", shared)
            stage("quantize", EMBEDDED, "--build", shared)
            built.touch()
    return Path(shutil.copytree(shared, tmp_path_factory.mktemp("build"), dirs_exist_ok=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
