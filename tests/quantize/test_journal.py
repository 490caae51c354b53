from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from quantize.search.journal import Journal


def written(path: Path, count: int = 3) -> bytes:
    journal = Journal(path)
    for i in range(count):
        journal.put({"tensor": f"w{i}"}, {"kld": i / 3})
    return path.read_bytes()


def test_what_was_put_is_found_by_a_later_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    written(path)
    again = Journal(path)
    assert [again.get({"tensor": f"w{i}"}) for i in range(3)] == [{"kld": i / 3} for i in range(3)]
    assert again.get({"tensor": "w3"}) is None
    assert Journal(path).get({"tensor": "w1", "block": 32}) is None


@given(cut=st.data())
def test_a_run_killed_while_it_writes_loses_that_line_only(
    tmp_path_factory: pytest.TempPathFactory, cut: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("killed") / "journal.jsonl"
    content = written(path)
    kept = cut.draw(st.integers(0, len(content)))
    path.write_bytes(content[:kept])
    whole = content[:kept].count(b"\n")
    journal = Journal(path)
    assert [journal.get({"tensor": f"w{i}"}) is not None for i in range(3)] == [i < whole for i in range(3)]
    journal.put({"tensor": "next"}, {"kld": 1.0})
    assert Journal(path).get({"tensor": "next"}) == {"kld": 1.0}


def test_a_bad_last_line_is_dropped_and_an_earlier_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    content = written(path)
    path.write_bytes(content + b'{"key": "a", "numbers": {"kld": "x"}}\n')
    assert Journal(path).get({"tensor": "w2"}) is not None
    assert path.read_bytes() == content
    path.write_bytes(b"[]\n" + content)
    with pytest.raises(InputError, match="line 1 is no measurement"):
        Journal(path)


def test_two_runs_share_one_journal(tmp_path: Path) -> None:
    """Two variants at a time: a line cut short by the one that was killed does not spoil the other's next."""
    path = tmp_path / "journal.jsonl"
    written(path)
    alive = Journal(path)
    Journal(path).put({"tensor": "theirs"}, {"kld": 2.0})
    with path.open("ab") as stream:
        stream.write(b'{"key": "cut sh')
    alive.put({"tensor": "ours"}, {"kld": 3.0})
    assert alive.get({"tensor": "theirs"}) == {"kld": 2.0}
    again = Journal(path)
    assert [again.get({"tensor": name}) for name in ("theirs", "ours")] == [{"kld": 2.0}, {"kld": 3.0}]
