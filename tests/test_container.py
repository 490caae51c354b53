"""The steps of the Containerfile, run outside of a container in a copy of what git tracks: they set the project up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILE = ROOT / "Containerfile"
VARIABLES = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")


def lines(kind: str) -> list[str]:
    """Return what follows an instruction, with continued lines joined."""
    return re.findall(rf"^{kind} (.+)$", FILE.read_text().replace("\\\n", " "), flags=re.MULTILINE)


def test_its_packages_are_those_that_ci_installs_and_what_the_image_lacks() -> None:
    (install,) = [line for line in lines("RUN") if "apt-get" in line]
    packages = set(re.findall(r"--no-install-recommends ([\w -]+?) &&", install)[0].split())
    in_ci = re.findall(r"--no-install-recommends (.+)", (ROOT / ".ci" / "run").read_text())[0].split()
    assert packages == {*in_ci, "make", "nodejs", "npm"}


@pytest.mark.slow
def test_its_other_steps_set_the_project_up(tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("what the image would hold is what git tracks: this is no clone")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    home = tmp_path / "pipeline"
    for name in filter(None, listed.split("\0")):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, home / name)
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    base = Path(sys.base_prefix) / "bin"  # the image's python3 is the one that is tested here
    environment["PATH"] = f"{base}:{environment['PATH']}"
    for step in lines("RUN"):
        if "apt-get" not in step:
            done = subprocess.run(
                ["/bin/sh", "-ec", step], cwd=home, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (home / ".venv" / ".installed").is_file()
    assert (home / ".venv-optimum" / ".installed").is_file()
    (command,) = lines("CMD")
    assert command == '["make", "demo"]'
    dry = subprocess.run(["/usr/bin/make", "-n", "demo"], cwd=home, capture_output=True, text=True, check=True)
    assert "-m pipeline.install" not in dry.stdout, "all is installed by then"
