"""Test what is pruned: oldest first, never what is needed; and what keeping an artifact costs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.canonical import digest
from reconvert.folder import Folder, keep
from reconvert.pruning import Removable, doomed, prune, stamped
from reconvert.state import Done, Failing, Published, State, write_state

OLD, DONE, LIVE, BAD = (digest(name) for name in ("old", "done", "live", "bad"))
ITEMS = st.lists(
    st.builds(Removable, st.integers(0, 10**6).map(lambda i: Path(f"{i:07}")), st.integers(0, 1000), st.booleans()),
    unique_by=lambda item: item.path,
)


@given(items=ITEMS, bound=st.integers(0, 5000))
def test_the_oldest_go_first_and_what_is_needed_never(items: list[Removable], bound: int) -> None:
    gone = doomed(items, bound)
    assert not any(item.pinned for item in gone)
    free = sorted((item for item in items if not item.pinned), key=lambda item: item.path)
    assert gone == free[: len(gone)], "oldest first, none skipped"
    left = sum(item.bytes for item in items) - sum(item.bytes for item in gone)
    assert left <= bound or len(gone) == len(free)
    assert not gone or left + gone[-1].bytes > bound, "no more than must go"


def test_the_published_the_current_and_the_quarantined_stay(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tiny")
    times = {LIVE: "20260101T000000Z", OLD: "20260102T000000Z", BAD: "20260103T000000Z", DONE: "20260104T000000Z"}
    for key, time in times.items():
        for place in (folder.kept, folder.failed):
            (place / stamped(time, key) / "tiny").mkdir(parents=True)
            (place / stamped(time, key) / "tiny" / "weights").write_text("w" * 1000)
        folder.logs.mkdir(exist_ok=True)
        (folder.logs / f"{stamped(time, key)}-quantize-q8.log").write_text("l" * 1000)
    (folder.kept / ".part-x" / "tiny").mkdir(parents=True)
    state = State(done=Done(DONE, None, DONE), published=Published(LIVE, "push"), failing=Failing(BAD, 3))
    write_state(folder.state, state)

    assert prune(tmp_path, 10**6, times[DONE]) == []
    prune(tmp_path, 0, times[DONE])
    assert {path.name for path in folder.kept.iterdir()} == {stamped(times[key], key) for key in (LIVE, DONE)}
    assert {path.name for path in folder.failed.iterdir()} == {stamped(times[BAD], BAD)}
    logs = {f"{stamped(times[key], key)}-quantize-q8.log" for key in (BAD, DONE)}
    assert {path.name for path in folder.logs.iterdir()} == logs


def test_nothing_is_pruned_where_nobody_knows_what_is_published(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tiny")
    kept = folder.kept / stamped("20260101T000000Z", OLD)
    kept.mkdir(parents=True)
    (kept / "weights").write_text("w")
    folder.state.write_text("{")
    assert prune(tmp_path, 0, "20260105T000000Z") == []
    assert kept.is_dir()


def test_a_kept_artifact_takes_no_room_while_it_is_current_and_stays_what_it_was(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tiny")
    (folder.home / "q8" / "onnx").mkdir(parents=True)
    (folder.home / "q8" / "onnx" / "model").write_text("w" * 1000)
    kept = folder.kept / stamped("20260101T000000Z", OLD)
    keep(folder, ["q8"], kept)
    keep(folder, ["q8"], kept)
    assert (kept / "tiny/q8/onnx/model").samefile(folder.home / "q8/onnx/model")
    assert prune(tmp_path, 0, "20260105T000000Z") == []

    (folder.home / "q8").rename(folder.home / "gone")
    (folder.home / "gone" / "onnx" / "model").unlink()
    assert (kept / "tiny/q8/onnx/model").read_text() == "w" * 1000
    assert prune(tmp_path, 1000, "20260105T000000Z") == []
    assert prune(tmp_path, 999, "20260105T000000Z") == [kept]


def test_what_somebody_else_put_there_is_left_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tiny")
    names = ("notes.txt", ".DS_Store", "20260101-notes", "mine")
    for place in (folder.logs, folder.kept, folder.failed):
        place.mkdir(parents=True)
        for name in names:
            (place / name).mkdir() if name == "mine" else (place / name).write_text("x" * 10)
        (place / f"{stamped('20260101T000000Z', OLD)}-convert.log").symlink_to("nowhere")
    write_state(folder.state, State())
    assert prune(tmp_path, 0, "20260105T000000Z") == []
    assert {path.name for path in folder.logs.iterdir()} > set(names)
