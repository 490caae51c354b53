"""The Containerfile: its packages and its steps are those of CI, which runs them from a clean clone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT

FILE = ROOT / "Containerfile"
CI = (ROOT / ".ci" / "run").read_text()


def lines(kind: str) -> list[str]:
    """What follows an instruction, with continued lines joined."""
    return re.findall(rf"^{kind} (.+)$", FILE.read_text().replace("\\\n", " "), flags=re.MULTILINE)


def dry(goal: str, home: Path) -> str:
    """What make would run for a goal in this directory."""
    make = shutil.which("make")
    assert make is not None, "make is one of the tools that the project needs"
    command = [make, "-C", str(home), "--no-print-directory", "--dry-run", *goal.split()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_its_packages_are_those_that_ci_installs_and_what_the_image_lacks() -> None:
    (install,) = [line for line in lines("RUN") if "apt-get" in line]
    packages = set(re.findall(r"--no-install-recommends ([\w -]+?) &&", install)[0].split())
    in_ci = re.findall(r"--no-install-recommends (.+)", CI)[0].split()
    assert packages == {*in_ci, "make", "nodejs", "npm"}


def test_its_other_step_is_the_one_that_ci_begins_with(tmp_path: Path) -> None:
    """In a copy that has no environments yet, and nothing that git does not track, it installs all of them."""
    (step,) = [line for line in lines("RUN") if "apt-get" not in line]
    assert step == "make setup PYTHON=python3"
    assert re.search(r"^for target in setup ", CI, flags=re.MULTILINE)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (
        "verify/runtimes/optimum",
        "verify/runtimes/transformersjs",
        "verify/runtimes/browser",
        "publish/page",
    ):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("node_modules"))
    planned = dry("setup PYTHON=python3", tmp_path)
    assert planned.count("-m pipeline.install") == 2  # the project's environment and Optimum's
    assert "'python3' -m venv '.venv'" in planned


def test_what_it_runs_needs_nothing_that_is_not_installed_by_then() -> None:
    (command,) = lines("CMD")
    assert command == '["make", "demo"]'
    assert "-m pipeline.install" not in dry("demo", ROOT)
