"""The environment that Optimum runs in: optimum-onnx needs an older transformers than the project's."""

from __future__ import annotations

import os
from importlib.metadata import distributions
from pathlib import Path

from pipeline.errors import InputError
from pipeline.plugins import ROOT

HOME = ROOT / ".venv-optimum"  # what `make setup` fills with requirements.txt
PYTHON = HOME / "bin" / "python"
COMMAND = "make setup"


class Optimum:
    """The Python of that environment, as a child process is started with it (verify/sandbox/spawned.py)."""

    command = (str(PYTHON),)
    path = (str(ROOT),)


def present() -> bool:
    """Return whether it is set up; its stamp is written last."""
    return (HOME / ".installed").is_file()


def versions(*names: str) -> dict[str, str]:
    """Return the versions installed there; a distribution that is not is left out."""
    there = {
        one.name.lower(): one.version
        for one in distributions(path=list(map(str, HOME.glob("lib/python*/site-packages"))))
    }
    return {name: there[name] for name in names if name in there}


def program(name: str) -> Path:
    """Return a program of the environment, such as optimum-cli; InputError if it is not set up."""
    if not present():
        raise InputError("Optimum's environment is not set up", where=HOME, hint=f"run: {COMMAND}")
    return HOME / "bin" / name


def variables() -> dict[str, str]:
    """Return this process's environment variables without what would lead the other Python to this one's modules."""
    return {
        name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}
    }
