"""One release in a folder of its own, installed once and kept; nothing of the project's own environment is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from benchmarks.releases.catalogue import PYTHON, Release
from pipeline.canonical import canonical_json, read_json
from pipeline.command import say
from pipeline.errors import InputError, UnavailableError

STAMP = "installed.json"  # written last: what was asked for
LONGEST_S = 1200
LAST_WORDS = 400  # characters of an installer's output that an error shows


def prepare(release: Release, cache: Path) -> Path:
    """Return the release's folder, installed now if it is not there; UnavailableError if that cannot be done."""
    folder = cache / f"{release.group}-{release.version}".lower()
    wanted = {"version": release.version, "numpy": release.numpy}
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / STAMP).is_file() and read_json(folder / STAMP) == wanted:
            return folder
        say(f"{release.group} {release.version}: installing")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (_install_python if release.group == PYTHON else _install_node)(release, folder)
        (folder / STAMP).write_bytes(canonical_json(wanted))
    return folder


def _install_python(release: Release, folder: Path) -> None:
    """Make a virtual environment; without dependencies, because the import needs numpy alone."""
    python = folder / "bin" / "python"
    _run([sys.executable, "-m", "venv", str(folder)], folder, release)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:")
    packages = (f"onnxruntime=={release.version}", f"numpy=={release.numpy}")
    _run([str(python), "-m", "pip", "install", *quiet, *packages], folder, release)


def _install_node(release: Release, folder: Path) -> None:
    """Install without the packages' own scripts: onnxruntime-node's would download CUDA libraries."""
    npm = shutil.which("npm")
    if npm is None:
        hint = "install Node 20 or later with npm (Debian: apt-get install nodejs npm), or leave out with --only"
        raise InputError("npm not found", where=f"{release.group} {release.version}", hint=hint)
    wanted = {"private": True, "dependencies": {"@huggingface/transformers": release.version}}
    (folder / "package.json").write_text(json.dumps(wanted), encoding="utf-8")
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error")
    _run([npm, "install", *quiet], folder, release)


def _run(command: Sequence[str], folder: Path, release: Release) -> None:
    environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"}
    where = f"{release.group} {release.version}"
    hint = "try again later, or leave this release out with --only; what is installed is kept"
    try:
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"not installed within {LONGEST_S} s", where=where, hint=hint) from error
    if result.returncode != 0:
        words = " ".join((result.stderr or result.stdout).split())[-LAST_WORDS:]
        raise UnavailableError(f"cannot be installed: {words}", where=where, hint=hint)
