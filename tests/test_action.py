"""The GitHub Action: its schema, its pins, and its steps run as the scripts that they are, on the embedded model.

What cannot be run here: the steps that `uses` another action. That they are pinned, and by what, is read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, Stage
from tests.support.asking import quick
from verify.report.annotations import MOST, commands

ACTION = ROOT / "action.yml"
WORKFLOW = ROOT / "docs" / "deploy" / "reconvert.yml"


def steps() -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    return {step["name"]: step for step in found if "run" in step}


@dataclass
class Job:
    """A runner's variables and files, and the steps that ran."""

    home: Path
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a step's script as GitHub does: bash, -e and pipefail, expressions filled in its variables only."""
        step = steps()[name]
        files = {name: self.home / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            path.touch()
        filled = {key: self._fill(value) for key, value in step.get("env", {}).items()}
        variables = {
            "GITHUB_ACTION_PATH": str(ROOT),
            "RUNNER_TEMP": str(self.home),
            "HF_ENDPOINT": "http://hub.invalid",
        }
        result = subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.home,
            env={**os.environ, **{key: str(path) for key, path in files.items()}, **variables, **filled},
            capture_output=True,
            text=True,
            check=False,
        )
        self.outputs |= dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        return result

    def _fill(self, value: str) -> str:
        values = {
            **{f"inputs.{k}": v for k, v in self.inputs.items()},
            "steps.verify.outputs.report": self.outputs.get("report", ""),
        }
        return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], value)


@pytest.fixture
def job(build: Path, tmp_path: Path) -> Job:
    """A workspace with a recipe and what earlier jobs have built from it."""
    shutil.copytree(build, tmp_path / "build")
    recipe = quick(tmp_path, webgpu=True)  # as it was built
    source = os.path.relpath(ROOT / "recipes" / "embedded", tmp_path)
    inputs = {"recipe": recipe.name, "source": source, "candidate": "", "variant": "fp32", "build": "build"}
    return Job(tmp_path, inputs)


def test_the_action_keeps_githubs_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions", str(ACTION)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", [ACTION, WORKFLOW], ids=["action", "workflow"])
def test_every_action_is_pinned_by_commit_and_says_which_version_that_is(path: Path) -> None:
    uses = re.findall(r"uses: (.+)", path.read_text())
    assert uses
    for line in uses:
        assert re.fullmatch(r"actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_no_script_has_an_expression_in_it() -> None:
    """A recipe's or a branch's name would be run as a command."""
    assert not [name for name, step in steps().items() if "${{" in step["run"]]


@pytest.mark.slow
def test_a_weekly_job_ends_with_a_report(job: Job) -> None:
    for name in ("Convert and quantize", "Verify", "Report"):
        result = job.run(name)
        assert result.returncode == 0, f"{name}: {result.stderr[-3000:]}"
    report = Path(job.outputs["report"])
    assert report == (job.home / "build" / "embedded" / "report").resolve()
    assert (job.home / "GITHUB_STEP_SUMMARY").read_text() == (report / "report.md").read_text()
    comment = Path(job.outputs["comment"]).read_text()
    assert comment.startswith("### embedded: passed")
    assert len(comment) < len((report / "report.md").read_text()) / 3
    assert "::error" not in result.stdout


@pytest.mark.slow
def test_a_file_that_is_wrong_fails_its_step_and_is_reported(job: Job) -> None:
    shutil.copy(job.home / "build" / "embedded" / "q8" / "onnx" / "model_quantized.onnx", job.home / "theirs.onnx")
    recipe = job.home / job.inputs["recipe"]
    recipe.write_text(
        recipe.read_text().replace('checks = ["structure", "tokenizer"]', 'checks = ["structure", "logits"]')
    )
    job.inputs |= {"candidate": "theirs.onnx"}
    assert job.run("Verify").returncode == 1, "it is no fp32"
    told = job.run("Report").stdout.splitlines()
    assert [line for line in told if line.startswith("::error title=fp32.")]
    assert "## Failed" in Path(job.outputs["comment"]).read_text()


def test_annotations_are_escaped_and_limited() -> None:
    case = '<testcase name="a: b, c" classname="q4.logits"><failure message="10% off&#10;at 3"/></testcase>'
    skipped = '<testcase name="genai" classname="runtime"><skipped message="is not installed"/></testcase>'
    passed = '<testcase name="fine" classname="q4.logits"/>'
    one = commands(f"<testsuites><testsuite name='q4'>{case}{skipped}{passed}</testsuite></testsuites>")
    assert one == [
        "::error title=q4.logits%3A a%3A b%2C c::10%25 off%0Aat 3",
        "::warning title=runtime%3A genai::is not installed",
    ]
    many = commands(f"<testsuites><testsuite name='q4'>{case * 25}</testsuite></testsuites>")
    assert len(many) == MOST
    assert many[-1] == "::error title=and 16 more::See the report."


def test_a_report_that_was_edited_is_not_printed(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("# embedded: passed\n")
    result = stage("verify.report", tmp_path / "report", "--form", "summary", code=3)
    assert "artifact has no manifest" in result.stderr
