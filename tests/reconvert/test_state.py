"""Keys, state and retries: what decides whether a recipe is tried, as pure functions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.canonical import digest
from pipeline.errors import ArtifactError, InputError, UnavailableError
from pipeline.recipe.recipe import read_recipe
from reconvert.key import content_key
from reconvert.origin import Origin
from reconvert.retry import Patience
from reconvert.state import Done, Failing, Published, State, Way, read_state, write_state
from tests.conftest import EMBEDDED, ROOT

SCHEMA = json.loads((ROOT / "reconvert" / "state.schema.json").read_text())
ORIGIN = Origin("1" * 40, {"config.json": "a", "model.safetensors": "b"}, "mit", 100)
KEYS = st.sampled_from([digest(name) for name in "abc"])
COMMITS = st.one_of(st.none(), st.sampled_from(["1" * 40, "2" * 40]))
STATES = st.builds(
    State,
    done=st.none() | st.builds(Done, KEYS, COMMITS, KEYS),
    published=st.none() | st.builds(Published, KEYS, st.sampled_from(["push", "pr"])),
    failing=st.none()
    | st.builds(Failing, KEYS, st.integers(1, 9), st.none() | st.text(), st.text(), st.none() | st.text()),
)


@given(state=STATES)
def test_state_is_read_as_it_was_written_and_keeps_its_schema(
    state: State, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("state") / "tiny" / "state.json"
    write_state(path, state)
    assert read_state(path) == state
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "table",
    [
        {"failing": {"key": digest("a"), "count": 0}},
        {"failing": {"key": digest("a"), "count": -(10**9)}},
        {"done": {"key": "", "commit": None, "report": digest("r")}},
        {"published": {"key": "../..", "way": "push"}},
    ],
)
def test_a_state_that_no_run_has_left_is_refused(tmp_path: Path, table: dict[str, object]) -> None:
    """A count below zero would try a key for ever; a key that is none would unpin what is published."""
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"schema": 1, **table}))
    with pytest.raises(ArtifactError):
        read_state(path)


def test_state_of_another_form_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read_state(path) == State()
    for text in ("", "{", "[]", '{"schema": 2}', '{"schema": 1, "more": 0}', '{"schema": 1, "failing": {"key": "a"}}'):
        path.write_text(text)
        with pytest.raises(ArtifactError):
            read_state(path)


@given(
    events=st.lists(st.tuples(KEYS, st.sampled_from(["passed", "failed", "killed", "network"]))),
    limit=st.integers(1, 4),
)
def test_a_key_is_quarantined_when_it_failed_that_often_in_a_row(events: list[tuple[str, str]], limit: int) -> None:
    """A run that was killed counts; one that the network stopped, or another key's, does not."""
    state, current, count = State(), "", 0
    for key, event in events:
        count = count if key == current else 0
        assert state.quarantined(key, limit) == (count >= limit)
        begun = state.begun(key)
        if event == "network":
            continue  # the run puts back the state from before
        current = key
        count = 0 if event == "passed" else count + 1
        if event == "passed":
            state = begun.finished(Done(key, None, key))
            assert state.done is not None
            assert state.done.key == key
        else:
            state = begun.failed("verify", "wrong", "logs/x") if event == "failed" else begun
        if count == 0:
            current = ""


@pytest.mark.parametrize(
    ("done", "asked", "enough"),
    [("push", "push", True), ("push", "pr", True), ("pr", "pr", True), ("pr", "push", False)],
)
def test_a_push_covers_a_proposal_and_not_the_reverse(done: Way, asked: Way, enough: bool) -> None:
    state = State(published=Published("a", done))
    assert state.is_published("a", asked) is enough
    assert not state.is_published("b", asked)
    assert not State().is_published("a", asked)


def test_nothing_fails_that_was_not_begun() -> None:
    with pytest.raises(ValueError, match="no key was begun"):
        State().failed("convert", "x", "y")


def recipe_text(tmp_path: Path, old: str = "", new: str = "") -> Path:
    text = EMBEDDED.read_text().replace("../", f"{ROOT}/").replace('text = "text/', f'text = "{ROOT}/recipes/text/')
    assert old in text
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace(old, new, 1) if old else text)
    return path


def test_key_changes_with_everything_that_decides_the_result_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(origin: Origin = ORIGIN, old: str = "", new: str = "") -> str:
        return content_key(read_recipe(recipe_text(tmp_path, old, new)), origin)

    same = key()
    assert same == key(replace(ORIGIN, commit="2" * 40)), "a commit alone changes nothing that is read"
    assert same == key(old="# The small", new="# A small")
    different = [
        key(replace(ORIGIN, content={**ORIGIN.content, "config.json": "c"})),
        key(replace(ORIGIN, content={**ORIGIN.content, "vocab.json": "c"})),
        key(replace(ORIGIN, license="gpl")),
        key(old="block = 32", new="block = 64"),
        key(old='scheme = "float16"', new='scheme = "nf4"'),
        key(old="seed = 0", new="seed = 1"),
        key(old="{ max = 4.06, measured", new="{ max = 4.07, measured"),
        key(old="inaugural_heldout", new="inaugural_train"),
        key(old="layers = 6", new="layers = 7"),
    ]
    monkeypatch.setattr("reconvert.key.CONSTRAINTS", "LICENSE")
    different.append(key())
    monkeypatch.setattr("reconvert.key.STAGES", ("pipeline",))
    different.append(key())
    assert len({same, *different}) == 1 + len(different)


@given(tries=st.integers(1, 6), failures=st.integers(0, 8), first=st.floats(0.5, 60))
def test_the_network_is_tried_again_later_and_later(tries: int, failures: int, first: float) -> None:
    slept: list[float] = []
    calls = 0

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def call() -> str:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise UnavailableError("gone", where="hub", hint="wait")
        return "done"

    outcome = "refused"
    with contextlib.suppress(UnavailableError):
        outcome = asyncio.run(Patience(tries, first, 600.0, sleep).persist("it", call))
    assert outcome == ("done" if failures < tries else "refused")
    assert calls == min(tries, failures + 1)
    assert len(slept) == calls - 1
    assert all(min(600, first * 2**i) <= wait <= 600 for i, wait in enumerate(slept))


def test_nothing_but_the_network_is_tried_again() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise InputError("broken", where="file", hint="mend it")

    with pytest.raises(InputError):
        asyncio.run(Patience().persist("it", call))
    assert calls == 1


def test_state_holds_nothing_but_data() -> None:
    assert json.loads(json.dumps(asdict(State()))) == {"schema": 1, "done": None, "published": None, "failing": None}
