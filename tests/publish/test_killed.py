"""A publication that is killed leaves the Hub with the tree of before or with the new one, never with a mixture."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import rehearsing
from tests.support.local_hub import LocalHub, Tree
from tests.support.rehearsing import FIRST, Publisher, start

server, hub, publish = rehearsing.server, rehearsing.hub, rehearsing.publish
POINTS = 12


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
    """Return how many commits main has; each holds one of these trees, and so does every tag."""
    if not hub.api.repo_exists(repository):
        return 0
    history = hub.history(repository)
    for revision in (*history, *hub.tags(repository)):
        assert hub.tree(repository, revision) in trees
    return len(history)


def prepare(publish: Publisher, scenario: str, name: str) -> list[Tree]:
    """A build that is to be published, in contents like no other; the trees that are published already."""
    publish.repository, own = f"rehearsal/{name}", f"{name} ".encode()
    publish.build.make({variant: own + content for variant, content in FIRST.items()})
    if scenario == "first":
        return []
    publish("--push")
    before = publish.expected
    publish.build.make({"fp32": own + FIRST["fp32"], "q8": own + b"changed"})
    return [before]


@pytest.mark.slow
def test_killed_at_random_points(
    hub: LocalHub, publish: Publisher, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """At random points of a first publication and of an update; the next run finishes each."""
    lengths = {}
    for scenario in ("first", "update"):
        prepare(publish, scenario, f"whole-{scenario}")
        hub.clear()
        publish("--push")
        lengths[scenario] = len(hub.requests())
    rng = random.Random(0)  # noqa: S311 - which points, not a secret
    every = [(s, at, phase) for s, n in lengths.items() for at in range(n) for phase in ("hold", "hold_applied")]
    applied = 0
    for number, (scenario, at, phase) in enumerate(rng.sample(every, POINTS)):
        before = prepare(publish, scenario, f"killed-{number}")
        assert kill(hub, publish, at, phase, tmp_path / "log"), (scenario, at)
        publish()  # a dry run assembles the tree, if the killed run did not get so far
        commits = whole(hub, publish.repository, [*before, publish.expected])
        applied += commits > len(before)
        publish("--push")
        assert hub.tree(publish.repository) == publish.expected
        assert whole(hub, publish.repository, [*before, publish.expected]) == len(before) + 1
        assert hub.history(publish.repository)[0] in hub.tags(publish.repository).values()
    length = sum(lengths.values())
    record_property("killed", f"{POINTS} times within {length} requests, {applied} of them after the commit")
    assert 0 < applied < POINTS
