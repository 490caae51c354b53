"""The files in docs/deploy, each by the tool that will read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from croniter import croniter

from reconvert.__main__ import parser
from tests.conftest import ROOT

DEPLOY = ROOT / "docs" / "deploy"
INSTALLED = "/opt/onnx-conversion-pipeline"


def commands(text: str) -> list[list[str]]:
    """Return what follows `python -m reconvert` in a file, up to where a shell or the line ends it."""
    return [found.split() for found in re.findall(r"-m reconvert ([^\n>)&|]*?)(?= 2>|\n|$)", text)]


@pytest.mark.parametrize("name", ["reconvert.service", "crontab", "reconvert.yml", "hf-jobs.sh"])
def test_the_command_is_one_that_reconvert_takes(name: str) -> None:
    [arguments] = commands((DEPLOY / name).read_text())
    parsed = parser().parse_args(arguments)
    assert parsed.way == "pr"
    assert all((ROOT / recipe).is_file() for recipe in parsed.recipes)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed: the units were NOT checked")
    for unit in ("reconvert.service", "reconvert.timer"):
        text = (DEPLOY / unit).read_text()
        tmp_path.joinpath(unit).write_text(text.replace(f"{INSTALLED}/.venv/bin/python", sys.executable))
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    units = [str(tmp_path / unit) for unit in ("reconvert.service", "reconvert.timer")]
    result = subprocess.run(
        [tool, "verify", "--man=no", *units], env=environment, capture_output=True, text=True, check=False
    )
    said = [line for line in result.stderr.splitlines() if "reconvert" in line]
    assert (result.returncode, said) == (0, [])


def test_the_hubs_client_takes_the_job(tmp_path: Path) -> None:
    """Its own dry run reads every argument and sends nothing."""
    script = tmp_path / "hf-jobs.sh"
    hf = Path(sys.executable).parent / "hf"
    script.write_text((DEPLOY / "hf-jobs.sh").read_text().replace(".venv/bin/hf", str(hf)))
    variables = {"HF_TOKEN": "hf_" + "x" * 30, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://hub.invalid"}
    command = ["/bin/bash", str(script), "somebody/image", "somebody/bucket", "--dry-run"]
    told = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "hf://buckets/somebody/bucket:/build:rw" in told.stdout
    assert variables["HF_TOKEN"] not in told.stdout + told.stderr
    assert subprocess.run(["/bin/bash", str(script)], capture_output=True, check=False).returncode != 0


def test_a_busy_build_directory_is_no_failed_unit_and_a_missed_night_is_made_up() -> None:
    assert "\nSuccessExitStatus=75\n" in (DEPLOY / "reconvert.service").read_text()
    timer = (DEPLOY / "reconvert.timer").read_text()
    assert "\nPersistent=true\n" in timer
    assert re.search(r"\nRandomizedDelaySec=\d+min\n", timer)


def test_the_workflow_keeps_githubs_schema_and_runs_one_at_a_time() -> None:
    path = DEPLOY / "reconvert.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    workflow: Any = yaml.safe_load(path.read_text())
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert workflow["permissions"] == {"contents": "read"}
    [(schedule,)] = [workflow[True]["schedule"]]  # YAML 1.1 reads the key `on` as true
    assert croniter.is_valid(schedule["cron"])
    steps = workflow["jobs"]["reconvert"]["steps"]
    caches = {step["uses"].split("@")[0]: step for step in steps if "cache" in step.get("uses", "")}
    assert set(caches) == {"actions/cache/restore", "actions/cache/save"}
    assert caches["actions/cache/save"]["if"] == "always()", "what failed must be counted, or nothing is quarantined"
    assert len({step["with"]["key"] for step in caches.values()}) == 1
    secrets = [step.get("name") for step in steps if "HF_TOKEN" in json.dumps(step)]
    assert secrets == ["reconvert"], "no other step sees the token"


def cron_lines() -> list[list[str]]:
    lines = [line for line in (DEPLOY / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    return [line.split(maxsplit=5) for line in lines if not re.match(r"\w+=", line)]


def test_the_cron_line_is_one() -> None:
    [fields] = cron_lines()
    assert croniter.is_valid(" ".join(fields[:5]))
    assert "%" not in fields[5], "cron would end the command there"


@pytest.mark.parametrize(("code", "silent"), [(0, True), (75, True), (1, False)])
def test_cron_hears_of_a_failure_only(tmp_path: Path, code: int, silent: bool) -> None:
    """The line itself, with a stand-in where the program is."""
    [fields] = cron_lines()
    program = tmp_path / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho table $HF_TOKEN >&2\nexit {code}\n")
    program.chmod(0o755)
    token = tmp_path / "token"
    token.write_text("HF_TOKEN=seen\n")
    line = fields[5].replace(INSTALLED, str(tmp_path)).replace("/etc/reconvert/token", str(token))
    result = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=False)
    assert result.stdout == ("" if silent else "table seen\n")
    assert result.returncode == (0 if silent else code)
