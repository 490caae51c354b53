"""Objects in processes of their own: answers, failures, deaths, silence."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.remote import Remote, RemoteError, settle


class Thing:
    """State what the tests put into a process of its own."""

    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, step: int) -> int:
        sys.stdout.write("noise\n")
        sys.stdout.flush()
        self.value += step
        return self.value

    def fail(self) -> None:
        raise KeyError("no such thing")

    def die(self) -> None:
        os._exit(7)

    def sleep(self) -> None:
        time.sleep(60)

    def spin(self) -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass


def test_an_object_keeps_its_state_and_its_output_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "thing.txt"
    with Remote(log, Thing, 5) as remote:
        assert remote.call("add", 2, timeout_s=60) == 7
        assert remote.call("add", 3, timeout_s=60) == 10
    assert capfd.readouterr().out == ""
    assert log.read_text().count("noise") == 2


def test_failures_say_why_and_only_a_dead_process_is_gone(tmp_path: Path) -> None:
    with Remote(tmp_path / "log", Thing, 5) as remote:
        with pytest.raises(RemoteError, match=r"KeyError.*no such thing.*test_remote\.py"):
            remote.call("fail", timeout_s=60)
        assert remote.call("add", 1, timeout_s=60) == 6
        with pytest.raises(RemoteError, match=r"died \(exit code 7\)"):
            remote.call("die", timeout_s=60)


def test_silence_ends_the_process(tmp_path: Path) -> None:
    with Remote(tmp_path / "log", Thing, 5) as remote:
        remote.call("add", 1, timeout_s=60)
        directory = Path(f"/proc/{remote.pid}")
        assert directory.is_dir()
        with pytest.raises(RemoteError, match=r"no answer within 0\.2 s"):
            remote.call("sleep", timeout_s=0.2)
        assert not directory.exists()


def test_settling_waits_for_a_busy_process(tmp_path: Path) -> None:
    with Remote(tmp_path / "log", Thing, 5) as remote:
        remote.call("spin", timeout_s=60)
        assert settle([remote.pid])
