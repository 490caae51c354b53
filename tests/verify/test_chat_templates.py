"""Chat templates in each of their forms reach every loader, and one that says another thing is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.support import tokenizer_sources as sources
from tests.support.tokenizer_sources import settings

CHAT = "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ add_generation_prompt }}"
REFUSES = "{{ raise_exception('no') }}"
TOOLS = "{{ eos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
BOTH = {"default": CHAT, "tool_use": TOOLS}
LIST = [{"name": name, "template": text} for name, text in BOTH.items()]


def folder(place: Path) -> None:
    (place / "additional_chat_templates").mkdir()
    (place / "additional_chat_templates" / "tool_use.jinja").write_text(TOOLS)


def jinja(place: Path) -> None:
    (place / "chat_template.jinja").write_text(CHAT)


def both(*changes: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda place: [change(place) for change in changes]


FORMS: dict[str, tuple[Callable[[Path], object], Any]] = {
    "a key": (lambda place: settings(place, chat_template=CHAT), CHAT),
    "a list": (lambda place: settings(place, chat_template=LIST), BOTH),
    "a table": (lambda place: settings(place, chat_template=BOTH), BOTH),
    "a file": (jinja, CHAT),
    "a file with a carriage return": (lambda place: (place / "chat_template.jinja").write_bytes(b"a\r\nb"), "a\nb"),
    "a file and a folder": (both(jinja, folder), BOTH),
    "a folder": (folder, {"tool_use": TOOLS}),
    "a file before a key": (both(jinja, lambda place: settings(place, chat_template=TOOLS)), CHAT),
    "a processor's": (lambda place: (place / "chat_template.json").write_text('{"chat_template": "x"}'), None),
    "one that refuses": (lambda place: settings(place, chat_template=REFUSES), REFUSES),
    "one that is none": (lambda place: settings(place, chat_template="{% for %}"), "{% for %}"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.checkpoint(tmp_path_factory.mktemp("plain") / "checkpoint")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the thin hat")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_each_form_reaches_every_loader(form: str, plain: Path, text: Path, tmp_path: Path) -> None:
    change, template = FORMS[form]
    source, target = shutil.copytree(plain, tmp_path / "source"), tmp_path / "target"
    change(source)
    sources.write(source, target)
    loader: Any = AutoTokenizer
    assert loader.from_pretrained(target, local_files_only=True).chat_template == template
    key = json.loads((target / "tokenizer_config.json").read_text()).get("chat_template")
    assert ({entry["name"]: entry["template"] for entry in key} if isinstance(key, list) else key) == template
    assert sources.problems(source, target, text) == []


@pytest.mark.parametrize("form", ["a file before a key", "a processor's"])
def test_a_template_that_is_left_out_is_said(
    form: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(plain, tmp_path / "source")
    FORMS[form][0](source)
    sources.write(source, tmp_path / "target")
    assert "is left out: transformers reads" in capsys.readouterr().err


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another of several": (
        lambda place: settings(place, chat_template=[LIST[0], {"name": "tool_use", "template": CHAT}]),
        "the chat template is another than the source's: tool_use",
    ),
    "one is gone": (lambda place: settings(place, chat_template=[LIST[0]]), "another than the source's: tool_use"),
    "a file that hides them": (jinja, "the chat template is another than the source's"),
    "out of Transformers.js' sight": (
        both(jinja, folder, lambda place: settings(place, drop=("chat_template",))),
        "Transformers.js reads templates there alone",
    ),
    "with another token": (
        lambda place: settings(place, eos_token="a"),
        "chat template 'tool_use' makes another text of messages than the source's",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_user_would_chat_otherwise_by_is_named(fault: str, plain: Path, text: Path, tmp_path: Path) -> None:
    source, target = shutil.copytree(plain, tmp_path / "source"), tmp_path / "target"
    settings(source, chat_template=LIST)
    sources.write(source, target)
    change, said = FAULTS[fault]
    change(target)
    assert [problem for problem in sources.problems(source, target, text) if said in problem]
