"""The project's commands as processes of their own, most of them forked from one that has the libraries loaded.

Loading torch and transformers takes longer than most of what a test asks of a command. A command that is forked has
its own modules of the project, memory, variables, streams, exit code and death, as one that is started has.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

# What the stages load, but for onnxruntime, which starts a thread at once: a fork would lack it.
LIBRARIES = (
    "matplotlib.backends.backend_svg",
    "numba",
    "numpy",
    "onnx_ir",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.gpt2.modeling_gpt2",
)
READ_ON_LOADING = ("HF_", "PYTHON")  # variables whose change a loaded library, or a running Python, does not see
READ_ON_USE = ("HF_TOKEN",)  # but for these
ROOT = Path(__file__).resolve().parents[2]
Result = subprocess.CompletedProcess[str]


class Stages:
    """Commands, run from the project's root in this process's environment, but for `base` and what a call changes."""

    def __init__(self, base: Mapping[str, str]) -> None:
        self._loaded = {**os.environ, **base}
        self._base = base
        self._server: ForkServerContext | None = None

    def run(self, words: Sequence[str], changes: Mapping[str, str]) -> Result:
        """Run `python -m WORDS`, forked where the loaded libraries would not be others with these variables."""
        environment = {**os.environ, **self._base, **changes}
        changed = {name for name, _ in environment.items() ^ self._loaded.items()}
        if any(name.startswith(READ_ON_LOADING) for name in changed.difference(READ_ON_USE)):
            command = [sys.executable, "-m", *words]
            return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        with tempfile.TemporaryDirectory() as directory:
            streams = [Path(directory, name) for name in ("out", "err")]
            process = self._begun().Process(target=_run, args=(list(words), environment, streams))
            process.start()
            process.join()
            out, err = (path.read_text(encoding="utf-8") for path in streams)
        return subprocess.CompletedProcess(list(words), process.exitcode or 0, out, err)

    def _begun(self) -> ForkServerContext:
        if self._server is None:
            self._server = multiprocessing.get_context("forkserver")
            self._server.set_forkserver_preload(list(LIBRARIES))
            with pytest.MonkeyPatch.context() as patch:
                for name, value in self._base.items():
                    patch.setenv(name, value)
                multiprocessing.forkserver.ensure_running()
        return self._server


def forget(_: int) -> None:
    """Stand for os.fsync where no power is lost (tests/conftest.py)."""


def _run(words: Sequence[str], environment: Mapping[str, str], streams: Sequence[Path]) -> None:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(streams, start=1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.fsync = forget  # type: ignore[assignment]
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
