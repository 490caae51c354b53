"""The plan turns any tree on the Hub into the one here, and touches nothing that somebody else put there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publish.plan import ATTRIBUTES, HubFile, LocalFile, local, make, same
from publish.tree import known

PATHS = st.sampled_from(["README.md", "onnx/model.onnx", "onnx/model_q4.onnx", "config.json", "report/report.json"])
REMOTE = st.one_of(PATHS, st.sampled_from([ATTRIBUTES, "notes.txt", "onnx/model_new.onnx"]))
CONTENT = st.integers(0, 2)


def here(content: int) -> LocalFile:
    return LocalFile(Path("nowhere"), content, f"sha256-{content}", f"blob-{content}")


def there(content: int, *, large: bool) -> HubFile:
    return HubFile(content, f"sha256-{content}", "pointer") if large else HubFile(content, None, f"blob-{content}")


@given(st.dictionaries(PATHS, CONTENT), st.dictionaries(REMOTE, st.tuples(CONTENT, st.booleans())))
def test_plan_makes_one_tree_the_other(wanted: dict[str, int], found: dict[str, tuple[int, bool]]) -> None:
    ours = {path: here(content) for path, content in wanted.items()}
    plan = make(ours, {path: there(content, large=large) for path, (content, large) in found.items()})
    after = {path: content for path, (content, _) in found.items() if path not in plan.delete}
    after.update({path: wanted[path] for path in (*plan.add, *plan.replace)})
    assert {path: content for path, content in after.items() if path in wanted} == wanted
    assert set(after) - set(wanted) - {ATTRIBUTES} == set(plan.foreign)
    assert sorted((*plan.add, *plan.replace, *plan.unchanged)) == sorted(wanted)
    assert all(found[path][0] == wanted[path] for path in plan.unchanged)
    assert all(found[path][0] != wanted[path] for path in plan.replace)
    assert not any(known(path) for path in plan.foreign)
    assert plan.empty == (after == {path: content for path, (content, _) in found.items()})


def test_blob_is_what_git_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content\r\n" * 300_000)
    said = subprocess.run(["git", "hash-object", "--no-filters", path], capture_output=True, text=True, check=True)  # noqa: S607
    found = local(path)
    assert found.blob == said.stdout.strip()
    assert same(found, HubFile(found.size, None, found.blob))
    assert not same(found, HubFile(found.size, None, None))
    assert not same(found, HubFile(found.size + 1, found.sha256, found.blob))


@pytest.mark.parametrize(
    "path",
    [
        "assets/photo.png",
        "assets/own/page.js",
        "report/report.d/notes.md",
        "LICENSES/mit.txt",
        "readme.md",
        "Config.json",
    ],
)
def test_what_only_looks_like_the_layout_is_somebody_elses(path: str) -> None:
    assert make({}, {path: there(1, large=False)}).foreign == (path,)
