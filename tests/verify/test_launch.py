"""Bounds of foreign programs: time, memory, and what they started."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from verify.interop.runtime import Bounds, RuntimeFailure
from verify.sandbox.launch import launch


def python(code: str) -> list[str | Path]:
    return [sys.executable, "-c", code]


def test_output_is_given_back() -> None:
    assert launch(python("import os; print(os.environ['WORD'])"), Bounds(60, 4), {"WORD": "here"}) == "here\n"


def test_a_failure_has_its_last_words() -> None:
    with pytest.raises(RuntimeFailure, match=r"exit code 7: it is\s+over"):
        launch(python("import sys; print('it is over', file=sys.stderr); sys.exit(7)"), Bounds(60, 4), {})


def test_memory_is_bounded() -> None:
    with pytest.raises(RuntimeFailure, match="MemoryError"):
        launch(python("x = bytearray(2**31)"), Bounds(60, 0.5), {})


def test_a_hang_is_ended_with_what_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import pathlib, time\nwhile True: pathlib.Path({str(alive)!r}).touch(); time.sleep(0.05)"
    code = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    with pytest.raises(RuntimeFailure, match="no answer within 2 s"):
        launch(python(code), Bounds(2, 4), {})
    alive.unlink()
    time.sleep(0.3)
    assert not alive.exists()
