"""The orchestration, with a runner that makes small artifacts or fails as told; the state on disk is the real one."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.artifact.store import open_artifact
from pipeline.recipe.recipe import read_recipe
from reconvert.cycle import Row
from reconvert.folder import verified
from reconvert.origin import Origin
from reconvert.state import State, read_state
from reconvert.task import Command, last_words, memory
from tests.conftest import ROOT
from tests.support.reconvert_world import NAMES, Runner, World, make

ALL = ["convert", "quantize", "verify"]


def actions(rows: dict[str, Row]) -> list[str]:
    return [rows[name].action for name in NAMES]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_only_what_changed_upstream_is_converted(world: World) -> None:
    assert actions(world.cycle()) == ["converted"] * 3
    assert [world.runner.of(name) for name in NAMES] == [ALL] * 3
    assert world.runner.runs == [(name, label) for name in NAMES for label in ALL], "one recipe after the other"
    assert actions(world.cycle()) == ["skipped"] * 3
    assert world.runner.runs == []

    world.sources["two"] = world.origin("2", "new weights")
    rows = world.cycle()
    assert actions(rows) == ["skipped", "converted", "skipped"]
    assert (rows["two"].commit, rows["two"].reason) == ("2" * 40, "source, recipe, environment or converter changed")
    assert world.runner.runs == [("two", label) for label in ALL]
    assert "2" * 40 in world.runner.commands[-3], "the commit that was looked up is the one that is fetched"
    kept = sorted(path.name for path in world.folder("two").kept.iterdir())
    assert len({name.rpartition("-")[2] for name in kept}) == 2
    verified(world.recipes[1], world.folder("two").kept / kept[0] / "two")


def test_a_change_of_the_card_alone_is_noted_and_nothing_is_made(world: World) -> None:
    world.cycle()
    world.sources["one"] = world.origin("2", "one")
    row = world.cycle()["one"]
    assert (row.action, row.reason) == ("skipped", "a new commit, 222222222222, changes no file that is read")
    done = read_state(world.folder("one").state).done
    assert done is not None
    assert done.commit == "2" * 40
    assert world.cycle()["one"].reason == "unchanged"


@pytest.mark.parametrize("variant", ["source", "fp32", "q4", "report"])
def test_a_damaged_artifact_is_made_again(world: World, variant: str) -> None:
    world.cycle()
    (world.folder("two").home / variant / "file").write_text("damaged")
    rows = world.cycle()
    assert actions(rows) == ["skipped", "converted", "skipped"]
    assert "file file differs from its digest" in rows["two"].reason
    assert actions(world.cycle()) == ["skipped"] * 3


def test_a_failure_says_what_to_do(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.folder("two").state.parent.mkdir(parents=True)
    world.folder("two").state.write_text("{}")
    assert actions(world.cycle()) == ["converted", "failed", "converted"]
    assert "two: to do: remove the file: what is built is looked at again" in capfd.readouterr().err


def test_an_artifact_that_the_report_did_not_judge_is_judged(world: World) -> None:
    world.cycle()
    make(world.folder("two").home, "q8", content="another, intact")
    rows = world.cycle()
    assert actions(rows) == ["skipped", "converted", "skipped"]
    assert "the report is not a complete pass of the artifacts beside it" in rows["two"].reason


@pytest.mark.parametrize(("label", "code"), [("convert", 3), ("quantize", 70), ("verify", 1), ("verify", -11)])
def test_a_failure_is_counted_and_quarantined_until_the_key_changes(world: World, label: str, code: int) -> None:
    if label != "convert":
        world.cycle()
    world.sources["one"] = world.origin("2", "bad")
    for count in (1, 2, 3):
        world.runner.codes["one", label] = [code]
        rows = world.cycle()
        assert rows["one"].action == "failed"
        assert f"{label}: exit code {code}: error: it went wrong" in rows["one"].reason
        assert not rows["one"].good
        assert [rows[name].good for name in NAMES[1:]] == [True, True], "the others have their turn"
        failing = read_state(world.folder("one").state).failing
        assert failing is not None
        assert (failing.count, failing.stage) == (count, label)
        assert failing.log is not None
        assert "it went wrong" in (world.folder("one").home / failing.log).read_text()
    for _ in range(2):
        rows = world.cycle()
        assert rows["one"].action == "quarantined"
        assert re.match(rf"failed 3 times: {label}: .*error: it went wrong.*log: reconvert/logs/", rows["one"].reason)
        assert not rows["one"].good
        assert world.runner.of("one") == []
    if label == "verify":
        [*_, failed] = sorted(world.folder("one").failed.iterdir())
        report = open_artifact(failed / "one" / "report", made_by="")
        assert report.manifest.facts["verdict"] == "failed"
    world.runner.codes.clear()
    assert world.cycle(release=True)["one"].action == "converted"
    world.sources["one"] = world.origin("3", "good")
    assert world.cycle()["one"].action == "converted"
    assert read_state(world.folder("one").state).failing is None


def test_a_new_key_is_tried_although_the_one_before_is_quarantined(world: World) -> None:
    world.runner.codes["one", "verify"] = [1, 1]
    assert [world.cycle(attempts=2)["one"].action for _ in range(3)] == ["failed", "failed", "quarantined"]
    world.sources["one"] = world.origin("2", "good")
    assert world.cycle(attempts=2)["one"].action == "converted"


def test_the_network_is_tried_again_and_never_counted(world: World) -> None:
    world.runner.codes["one", "convert"] = [69, 69]
    world.down = 2
    assert actions(world.cycle()) == ["converted"] * 3
    assert world.runner.of("one") == ["convert", *ALL[:1], *ALL]
    world.sources["one"] = world.origin("2", "new")
    for _ in range(5):
        world.runner.codes["one", "convert"] = [69] * 3
        rows = world.cycle()
        assert rows["one"].action == "failed"
        assert world.runner.of("one") == ["convert"] * 3
        assert read_state(world.folder("one").state).failing is None
    world.down = 9
    assert actions(world.cycle()) == ["failed"] * 3
    del world.sources["two"]
    assert actions(world.cycle()) == ["converted", "failed", "skipped"]


def test_a_run_that_is_stopped_is_not_counted_and_the_next_one_completes(world: World) -> None:
    world.runner.codes["two", "quantize"] = [-9]
    with pytest.raises(KeyboardInterrupt):
        world.cycle()
    assert read_state(world.folder("two").state).failing is None
    world.runner.codes["two", "verify"] = [130]
    assert actions(world.cycle()) == ["skipped", "failed", "converted"]
    assert read_state(world.folder("two").state).failing is None
    assert actions(world.cycle()) == ["skipped", "converted", "skipped"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(-15, ""), (-2, ""), (-1, ""), (3, "No space left on device"), (3, "Disk quota exceeded")],
)
def test_what_says_nothing_of_the_key_is_not_counted(world: World, code: int, words: str) -> None:
    """A stage that was stopped before it could say so, and a disk that is full: night after night, if it must be."""
    for _ in range(4):
        world.runner.codes["one", "quantize"] = [code]
        world.runner.words = words or world.runner.words
        row = world.cycle()["one"]
        assert (row.action, words in row.reason) == ("failed", True)
        assert read_state(world.folder("one").state).failing is None
    assert world.cycle()["one"].action == "converted"


def test_what_cannot_be_kept_is_not_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("reconvert.cycle.keep", full)
        for _ in range(4):
            assert actions(world.cycle()) == ["failed"] * 3
            assert read_state(world.folder("one").state).failing is None
    assert actions(world.cycle()) == ["converted"] * 3


def test_a_directory_that_changes_meanwhile_is_not_what_the_key_stands_for(world: World) -> None:
    copied = hashlib.sha256(f"source{world.build.resolve()}".encode()).hexdigest()
    world.sources["one"] = Origin(None, {"file": "0" * 64}, "mit", 1000)
    for _ in range(4):
        row = world.cycle(way="push")["one"]
        assert (row.action, row.reason.split(" (")[0]) == ("failed", "the source changed while it was converted")
        assert read_state(world.folder("one").state) == State()
    assert ("one", "publish") not in world.publisher.runs
    world.sources["one"] = Origin(None, {"file": copied}, "mit", 1000)
    assert world.cycle()["one"].action == "converted"


def published(world: World, name: str) -> str | None:
    state = read_state(world.folder(name).state).published
    return state.way if state is not None else None


def test_what_was_verified_is_published_once(world: World) -> None:
    assert actions(world.cycle(way="pr")) == ["converted"] * 3
    assert [label for _, label in world.publisher.runs] == ["publish"] * 3
    assert all("--pr" in command for command in world.publisher.commands)
    assert ("one", "publish") not in world.runner.runs, "only the publisher has the token"
    assert actions(world.cycle(way="pr")) == actions(world.cycle()) == ["skipped"] * 3
    assert actions(world.cycle(way="push")) == ["published"] * 3
    assert actions(world.cycle(way="pr")) == ["skipped"] * 3
    assert {published(world, name) for name in NAMES} == {"push"}
    assert len(world.publisher.runs) == 6


def test_a_failed_publication_is_offered_again_without_converting(world: World) -> None:
    world.publisher.codes["one", "publish"] = [1, 1, 1, 1, 3]
    for _ in range(5):
        rows = world.cycle(way="push")
        assert rows["one"].action == "failed"
        assert rows["one"].reason.startswith("publish: exit code ")
        assert published(world, "one") is None
    assert world.runner.runs == []
    world.publisher.codes["one", "publish"] = [69]
    assert world.cycle(way="push")["one"].action == "published"
    world.runner.codes["one", "verify"] = [1]
    world.sources["one"] = world.origin("2", "worse")
    before = len(world.publisher.runs)
    assert world.cycle(way="push")["one"].action == "failed"
    assert len(world.publisher.runs) == before, "what verification has not passed is not published"


@dataclass
class Watched(Runner):
    """Notes how many tasks run at a time."""

    now: int = 0
    most: int = 0

    async def run(self, task: Command) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        code = await super().run(task)
        self.now -= 1
        return code


def test_a_fleet_gets_a_task_for_each_variant_and_publishing_stays_serial(world: World) -> None:
    world.runner, world.publisher = Watched(at_once=9, spreads=True), Watched()
    assert actions(world.cycle(way="push")) == ["converted"] * 3
    for name in NAMES:
        assert sorted(world.runner.of(name)) == ["convert", "quantize q4", "quantize q8", "verify"]
    assert (world.runner.most, world.publisher.most) == (6, 1)
    world.sources["one"] = world.origin("2", "new")
    world.runner.codes["one", "quantize q4"] = [70]
    assert world.cycle()["one"].reason.startswith("quantize q4: exit code 70")
    assert "verify" not in world.runner.of("one")


def test_memory_follows_the_models_size(world: World) -> None:
    small, large = (Origin(None, {}, None, size) for size in (10**6, 10**9))
    asked: Sequence[int] = [memory("convert", world.recipes[0], origin, ()) for origin in (small, large)]
    assert 2**30 < asked[0] < asked[1]
    assert asked[1] > 6 * 10**9


def test_the_estimate_for_quantize_is_not_below_what_the_published_recipe_takes() -> None:
    recipe = read_recipe(ROOT / "recipes" / "gpt-2-70m.toml")
    assert recipe.calibration is not None
    peaks = {True: 3.9e9, False: 3.3e9}  # bytes, docs/decisions/0019
    for gradients, peak in peaks.items():
        calibration = replace(recipe.calibration, gradients=gradients)
        own, origin = replace(recipe, calibration=calibration), Origin(None, {}, None, 0)
        assert peak < memory("quantize", own, origin, own.variants) < 1.3 * peak
        assert memory("quantize", own, origin, ["fp16"]) < peaks[True], "it takes no gradients"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# python -m verify\nFetching: 100%|##| 8/8\r8/8 [00:00]error: no\n  to do: look\n", "error: no"),
        ("failed q8: logits\nverdict: failed\n/build/report\n", "failed q8: logits"),
        ("# python -m convert\nValueError: odd\n\n", "ValueError: odd"),
        ("# python -m convert\n", "it said nothing"),
    ],
)
def test_the_reason_is_the_logs_last_error(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    assert last_words(path) == words
