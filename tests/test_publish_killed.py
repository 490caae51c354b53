"""A publication that is killed leaves the Hub with the tree of before or with the new one, never with a mixture."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import rehearsing
from tests.rehearsing import FIRST, LocalHub, Publisher, Tree, start

server, hub, publish = rehearsing.server, rehearsing.hub, rehearsing.publish
POINTS = 20


def kill(hub: LocalHub, publish: Publisher, at: int, phase: str, log: Path) -> bool:
    """Kill a push before request number `at` is applied, or once it is; whether it got there before it was done."""
    hub.clear()
    hub.fault(phase, skip=at)
    child = start(publish.words("--push"), log)
    deadline = time.monotonic() + 50
    while not hub.state()["held"] and time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert time.monotonic() < deadline, log.read_text()
    hub.clear()
    return True


def whole(hub: LocalHub, repository: str, trees: list[Tree]) -> int:
    """How many commits main has; each holds one of these trees, and so does every tag."""
    if not hub.api.repo_exists(repository):
        return 0
    history = hub.history(repository)
    for revision in (*history, *hub.tags(repository)):
        assert hub.tree(repository, revision) in trees
    return len(history)


@pytest.mark.slow
def test_killed_at_random_points(
    hub: LocalHub, publish: Publisher, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Ten times the first publication is killed, ten times an update; the next run finishes each."""
    publish("--push")
    length = len(hub.requests())
    changed = {**FIRST, "q8": b"changed", "q4": b"changed too"}
    rng = random.Random(0)  # noqa: S311 - which points, not a secret
    every = [(at, phase) for at in range(length - 2) for phase in ("hold", "hold_applied")]
    applied = 0
    for number, (at, phase) in enumerate(rng.sample(every, POINTS)):
        publish.repository = f"rehearsal/killed-{number}"
        trees: list[Tree] = []
        if number % 2:
            publish.build.make(FIRST)
            publish("--push")
            trees = [publish.expected]
            publish.build.make({**changed, "fp32": b"%d" % number})
        else:
            publish.build.make({**FIRST, "fp32": b"%d" % number})
        assert kill(hub, publish, at, phase, tmp_path / "log")
        publish()  # a dry run assembles the tree, if the killed run did not get so far
        commits = whole(hub, publish.repository, [*trees, publish.expected])
        applied += commits > len(trees)
        publish("--push")
        assert hub.tree(publish.repository) == publish.expected
        assert whole(hub, publish.repository, [*trees, publish.expected]) == len(trees) + 1
        assert hub.history(publish.repository)[0] in hub.tags(publish.repository).values()
    record_property("killed", f"{POINTS} times within {length} requests, {applied} of them after the commit")
    assert 0 < applied < POINTS
