"""Test what the environment tells the Hub's client: refused by the variable's name, before anything is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model import hub_environment
from pipeline.errors import USAGE, RecipeError
from tests.conftest import ROOT

BAD = {
    "no scheme": ("HF_ENDPOINT", "hub.example", "HOST"),
    "no scheme, a port": ("HF_ENDPOINT", "127.0.0.1:9", "HOST"),
    "another scheme": ("HF_ENDPOINT", "ftp://hub.example", "HOST"),
    "half an address": ("HF_ENDPOINT", "http://[::1", "HOST"),
    "no such port": ("HF_ENDPOINT", "http://127.0.0.1:99999", "HOST"),
    "no host": ("HF_ENDPOINT", "https://", "HOST"),
    "a space": ("HF_ENDPOINT", "https://hub example", "HOST"),
    "a proxy's port": ("HTTPS_PROXY", "proxy.example:none", "HOST:PORT"),
    "a proxy with a space": ("HTTP_PROXY", "http://pr oxy:3128", "HOST:PORT"),
    "a proxy's scheme": ("ALL_PROXY", "gopher://proxy.example:1", "HOST:PORT"),
    "in small letters": ("all_proxy", "http://proxy.example:0x1", "HOST:PORT"),
    "a token in another script": ("HF_TOKEN", "hf_säcret", "copy the token again"),
    "a token with a space": ("HF_TOKEN", "hf_ab cd", "copy the token again"),
    "the token's older name": ("HUGGING_FACE_HUB_TOKEN", "hf_\x01", "copy the token again"),
}
GOOD = {
    "HF_ENDPOINT": "http://[::1]:8080/hub",
    "HTTPS_PROXY": "proxy.example:3128",
    "HTTP_PROXY": "http://user:pass@proxy.example:3128",
    "ALL_PROXY": "socks5h://proxy.example:1080",
    "HF_TOKEN": "hf_abc\r\n",
}


@pytest.mark.parametrize(("name", "value", "hint"), BAD.values(), ids=BAD.keys())
def test_what_no_request_can_use_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, hint: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError) as caught:
        hub_environment.check()
    assert caught.value.where == name
    assert hint in caught.value.hint
    assert "hf_" not in str(caught.value)


def test_a_proxys_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy.example:none")
    with pytest.raises(RecipeError, match=r"'proxy\.example:none' is no address") as caught:
        hub_environment.check()
    assert "secret" not in str(caught.value)


def test_what_can_be_used_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    hub_environment.check()


@pytest.mark.parametrize("stage", ["convert", "publish"])
def test_a_stage_refuses_it_before_the_client_raises(tmp_path: Path, stage: str) -> None:
    recipe = tmp_path / "tiny.toml"
    text = (ROOT / "recipes" / "embedded.toml").read_text()
    recipe.write_text(
        text.replace('path = "embedded" # relative to this file', "").replace('"text/', f'"{ROOT}/recipes/text/')
    )
    command = [sys.executable, "-m", stage, str(recipe), "--build", str(tmp_path / "build")]
    environment = {**os.environ, "HF_ENDPOINT": "http://[::1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == USAGE, result.stderr
    assert "where: HF_ENDPOINT" in result.stderr
    assert "Traceback" not in result.stderr
