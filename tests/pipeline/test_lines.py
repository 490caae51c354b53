"""Files of lines: each line is one text, and what a reader would have to guess about is refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.lines import TextEntry, read_json_lines, read_text_lines

KEYS = ("prompt", "messages")
GOOD = '{"prompt": "a"}\n'
SAID = '{"role": "user", "content": "b"}'


def test_every_line_is_one_entry(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(b'one\n  two, "as it is" \n{"three": 3}')
    texts = [entry.text for entry in read_text_lines(path)]
    assert texts == ["one", '  two, "as it is" ', '{"three": 3}']
    path.write_text(f'{GOOD}{{"messages": [{SAID}]}}\n')
    first, second = read_json_lines(path, KEYS)
    assert first == TextEntry(1, f"{path}:1", text="a")
    assert second == TextEntry(2, f"{path}:2", messages=({"role": "user", "content": "b"},))


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, "no lines"),
        (b"\n", None, "no lines"),
        (b"%s\n%s", 2, "empty"),
        (b"%s \t\n", 2, "empty"),
        (b"%s%s\n", 3, "empty"),
        (b"\xef\xbb\xbf%s", 1, "byte order mark"),
        (b"%s\xff\n", 2, "not UTF-8"),
        (b"%sa\r\n", 2, "carriage return"),
    ],
)
def test_what_is_no_line_of_text_is_refused(
    tmp_path: Path, suffix: str, content: bytes, line: int | None, words: str
) -> None:
    path = tmp_path / f"own{suffix}"
    path.write_bytes(content.replace(b"%s", GOOD.encode()))
    with pytest.raises(InputError, match=words) as refusal:
        read_text_lines(path) if suffix == ".txt" else read_json_lines(path, KEYS)
    assert refusal.value.where == (f"{path}" if line is None else f"{path}:{line}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "a"', "invalid JSON"),
        ("a prompt", "invalid JSON"),
        ('{"prompt": "a", "prompt": "b"}', "duplicate key 'prompt'"),
        ('{"prompt": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ('["a"]', "expected an object, found list"),
        ("{}", "0 keys, one is needed"),
        (f'{{"prompt": "a", "messages": [{SAID}]}}', "2 keys, one is needed"),
        ('{"text": "a"}', "unknown key 'text'"),
        ('{"prompt": 5}', "prompt is no text"),
        ('{"prompt": ""}', "prompt is no text, or an empty one"),
        ('{"prompt": "\\ud800"}', "invalid JSON"),
        ('{"messages": []}', "no list of messages, or an empty one"),
        ('{"messages": "a"}', "no list of messages"),
        (f'{{"messages": [{SAID}, "a"]}}', "message 2 has other keys than role and content"),
        ('{"messages": [{"role": "user"}]}', "message 1 has other keys than role and content"),
        ('{"messages": [{"role": "user", "content": []}]}', "role or content of message 1 is no text"),
    ],
)
def test_a_line_of_json_that_is_no_entry_is_refused(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(f"{GOOD}{line}\n")
    with pytest.raises(InputError, match=words) as refusal:
        read_json_lines(path, KEYS)
    assert refusal.value.where == f"{path}:2"


def test_a_directory_is_no_file_of_lines(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file"):
        read_text_lines(tmp_path)
