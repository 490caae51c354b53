"""Say what the environment tells the Hub's client: what it cannot use is refused, before that client is imported."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import RecipeError

ENDPOINTS = ("HF_ENDPOINT",)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SCHEMES = ("http", "https")
PROXY_SCHEMES = (*SCHEMES, "socks5", "socks5h")


def check() -> None:
    """Raise RecipeError, naming the variable, for an address or a token that no request can be made with.

    A token's value is in no message. Nothing is asked of the network.
    """
    for name in ENDPOINTS:
        if os.environ.get(name):
            _require_address(name, os.environ[name], SCHEMES, f"write it as https://HOST, or unset {name}")
    for name in PROXIES:
        value = os.environ.get(name)
        if value:  # the client reads one without a scheme as http
            whole = value if "://" in value else f"http://{value}"
            _require_address(name, whole, PROXY_SCHEMES, f"write it as http://HOST:PORT, or unset {name}")
    for name in TOKENS:
        token = os.environ.get(name, "").replace("\r", "").replace("\n", "").strip()  # as the client takes it
        if not all("!" <= letter <= "~" for letter in token):
            hint = f"copy the token again: it is ASCII letters, digits and _; or unset {name}"
            raise RecipeError("the token holds characters that no request can carry", where=name, hint=hint)


def token_at_hand() -> str | None:
    """Return the token of the environment, or the one that a login stored in a file; nobody is asked for one."""
    from huggingface_hub.constants import HF_TOKEN_PATH

    stored = Path(HF_TOKEN_PATH)
    named = (os.environ.get(name, "").strip() for name in TOKENS)
    kept = stored.read_text(encoding="utf-8", errors="replace").strip() if stored.is_file() else ""
    return next(filter(None, (*named, kept)), None)


def _require_address(name: str, value: str, schemes: tuple[str, ...], hint: str) -> None:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and parts.hostname and (parts.port or 1) and not _spaced(value)
    except ValueError:  # a port that is none, half an address of IPv6
        usable = False
    if not usable:
        shown = value.rpartition("@")[2]  # without a proxy's user and password
        raise RecipeError(f"{shown!r} is no address that the Hub's client can use", where=name, hint=hint)


def _spaced(value: str) -> bool:
    return any(letter.isspace() or not letter.isprintable() for letter in value.strip())
