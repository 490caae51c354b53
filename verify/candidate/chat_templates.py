"""Judge the chat templates beside a graph: each loader finds the source's, and they make the same texts of messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import tokenizer as reader

CONFIG = reader.CONFIG
CHATS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "What is\n 2 + 2?"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello \u00e9\U0001f44d"},
        {"role": "assistant", "content": " Hi. "},
        {"role": "user", "content": ""},
    ],
)


def problems(directory: Path, config: Mapping[str, Any], template: Any, tokens: Mapping[str, str]) -> list[str]:
    """Return the problems of a candidate's templates, by the source's (a text, or texts by name) and its tokens."""
    found = _of_transformers(directory, config)
    if found != template:
        return [f"{CONFIG}: the chat template is another than the source's{_names(found, template)}"]
    if template is None:
        return []
    if _named(config.get("chat_template")) != template:
        return [f"{CONFIG}: key chat_template is not the source's, and Transformers.js reads templates there alone"]
    own = {name: _text(config[name]) if config.get(name) is not None else token for name, token in tokens.items()}
    texts = template if isinstance(template, dict) else {"default": template}
    return [
        f"{CONFIG}: with its special tokens, chat template {name!r} makes another text of messages than the source's"
        for name, text in texts.items()
        if any(_rendered(text, chat, own) != _rendered(text, chat, tokens) for chat in CHATS)
    ]


def _of_transformers(directory: Path, config: Mapping[str, Any]) -> Any:
    """The template, or templates by name, that transformers reads: files before the key."""
    files = {
        "default" if path.name == reader.TEMPLATE else path.stem: path.read_text(encoding="utf-8", errors="replace")
        for path in reader.templates(directory)
    }
    if files:
        return files["default"] if files.keys() == {"default"} else files
    return _named(config.get("chat_template"))


def _named(value: Any) -> Any:
    """The key's value as transformers has it: a list of templates by their names."""
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return {str(entry.get("name")): entry.get("template") for entry in value}
    return value


def _names(found: Any, wanted: Any) -> str:
    """Say which of several templates differ."""
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return ""
    return ": " + ", ".join(sorted(str(name) for name in {*found, *wanted} if found.get(name) != wanted.get(name)))


def _rendered(template: str, chat: list[dict[str, str]], tokens: Mapping[str, str]) -> str:
    """The text that transformers makes of a chat; for a template that refuses it, why."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        options: dict[str, Any] = {"add_generation_prompt": True, **tokens}
        texts: Any = render_jinja_template([chat], chat_template=template, **options)[0]
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return str(texts[0])


def _text(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)
