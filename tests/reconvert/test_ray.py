"""Several Ray nodes on one machine, one of them killed in the middle of its work: the same bytes as a local run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifact.store import open_artifact
from reconvert.folder import Folder
from tests.conftest import ROOT, Stage
from tests.support.reconvert_jobs import Q8, alive, wait, write_recipe
from tests.support.tiny_checkpoints import write_checkpoint

VARIANTS = {**Q8, "fp16": '[{ scheme = "float16" }]'}  # two pieces of work for two nodes
# Ray gives a silent node a quarter of a minute; a test need not wait for so long.
HEALTH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 200, "health_check_failure_threshold": 5}
MEMORY = 4 * 2**30  # bytes that each node says it has: nothing is allocated


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs no tasks, and two nodes that run one at a time."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.1", "_system_config": HEALTH}
    found = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        found.add_node(num_cpus=1, memory=MEMORY, object_store_memory=80 * 2**20, node_ip_address="127.0.0.1")
    yield found
    found.shutdown()


def digests(home: Path) -> dict[str, str]:
    names = ("source", "fp32", *VARIANTS, "report")
    return {name: open_artifact(home / name, made_by="test").digest for name in names}


@pytest.mark.slow
def test_a_node_killed_in_mid_run_changes_no_byte(tmp_path: Path, stage: Stage, cluster: Any) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    source = f'repository = "someone/tiny"\npath = "{tmp_path}/checkpoint"'
    recipe = write_recipe(tmp_path, "tiny", source, VARIANTS)
    stage("reconvert", recipe, "--build", tmp_path / "local")

    fleet = Folder(tmp_path / "fleet" / "tiny")
    options = ["--build", str(tmp_path / "fleet"), "--executor", "ray", "--address", cluster.address]
    command = [sys.executable, "-m", "reconvert", str(recipe), *options]
    with (tmp_path / "driver.log").open("wb") as log:
        driver = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=log, stderr=log)
    try:
        wait(lambda: driver.poll() is not None or places(fleet, "-quantize-*"))
        [victim, *_] = places(fleet, "-quantize-*")
        [node] = [node for node in cluster.worker_nodes if node.node_id == victim]
        cluster.remove_node(node, allow_graceful=False)
        assert driver.wait(timeout=300) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    finally:
        driver.kill()
        driver.wait()

    assert digests(fleet.home) == digests(tmp_path / "local" / "tiny")
    everywhere = places(fleet, "")
    assert len(set(everywhere)) == 2, "both nodes had work"
    again = [path for path in fleet.logs.iterdir() if len(ran(path)) == 2]
    assert again, "what the killed node was doing was done again"
    assert all(ran(path)[0] == victim != ran(path)[1] for path in again)
    assert alive(tmp_path / "fleet") == []


def ran(log: Path) -> list[str]:
    """The nodes on which a task was begun, in order."""
    return re.findall(r"^# \S+Z on node (\w+): python -m", log.read_text(), re.MULTILINE)


def places(folder: Folder, task: str) -> list[str]:
    return [node for path in sorted(folder.logs.glob(f"*{task}.log")) for node in ran(path)]


@pytest.mark.parametrize("address", [None, "somewhere", "127.0.0.1:port", "127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_without_a_cluster_is_refused_at_once(tmp_path: Path, stage: Stage, address: str | None) -> None:
    pytest.importorskip("ray")
    recipe = write_recipe(tmp_path, "tiny", 'repository = "someone/tiny"', {})
    more = ["--address", address] if address else []
    result = stage("reconvert", recipe, "--build", tmp_path / "build", "--executor", "ray", *more, code=2)
    assert "where: --address" in result.stderr
