"""Test what the Hub's client does by itself, and what becomes of answers that are none or lead elsewhere."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi

from pipeline import command
from publish.__main__ import main
from tests.support import rehearsing
from tests.support.local_hub import LocalHub
from tests.support.rehearsing import FIRST, Publisher

server, hub, publish = rehearsing.server, rehearsing.hub, rehearsing.publish
COMMIT = "/commit/"
PAGE = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
STRANGE = {
    "no HTTP": "SSH-2.0-nothing\r\n",
    "cut short": f"{PAGE}Content-Length: 100\r\n\r\n{{",
    "a login page": f"{PAGE}Content-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    "not packed as it says": f"{PAGE}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nno",
}


@pytest.mark.parametrize("message", STRANGE.values(), ids=STRANGE.keys())
def test_an_answer_that_is_none_is_the_networks(hub: LocalHub, publish: Publisher, message: str) -> None:
    for path in ("/revision/", "/preupload/", "/objects/batch", COMMIT):
        hub.fault("strange", path, message=message)
    assert publish("--push").count("trying again") == 4
    assert hub.tree(publish.repository) == publish.expected
    assert len(hub.history(publish.repository)) == 1


@pytest.mark.parametrize("path", ["/revision/", "/preupload/", "/objects/batch", COMMIT])
@pytest.mark.parametrize("content", ["{}", "[]", "null", '"text"'])
def test_an_answer_without_what_it_must_hold_ends_in_one_message(
    hub: LocalHub, publish: Publisher, path: str, content: str
) -> None:
    publish.build.make({"fp32": f"never sent, because of {path} and {content}".encode()})
    answer = f"{PAGE}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n{content}"
    hub.fault("strange", path, message=answer, times=99)
    said = publish("--push", code=3)
    assert "Traceback" not in said
    assert "the answer is not a Hub's" in said or "the Hub refused" in said


def test_nobody_listens_or_speaks_tls(hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (hub.endpoint.replace("http:", "https:"), "http://hub.invalid"):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        said = publish("--push", code=69)
        assert said.count("trying again") == 4
        assert "the Hub does not answer: ConnectError" in said
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:none")
    assert "Invalid port" in publish("--push", code=3)


def test_the_client_is_switched_off(hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "switched off by HF_HUB_OFFLINE" in publish("--push", code=3)
    assert command.run(main, ["--check", publish.repository]) == 3
    assert hub.requests() == []


@pytest.mark.parametrize("path", ["/revision/", "/preupload/", "/objects/batch", "/storage/", "/verify", COMMIT])
def test_what_fails_is_tried_five_times_in_all(hub: LocalHub, publish: Publisher, path: str) -> None:
    """The client's own loop would try some of these six times, in each of ours."""
    publish.build.make({"fp32": f"never sent, because of {path}".encode()})
    hub.fault("fail", path, times=99)
    begun = time.monotonic()
    assert publish("--push", code=69).count("trying again") == 4
    assert len(hub.requests(path)) == 5
    assert time.monotonic() - begun < 60


def test_the_hub_is_left_alone_for_as_long_as_it_asks(hub: LocalHub, publish: Publisher) -> None:
    hub.fault("fail", COMMIT, status=429, retry_after="2")
    begun = time.monotonic()
    publish("--push")
    assert time.monotonic() - begun >= 2
    assert len(hub.requests(COMMIT)) == 2
    publish.build.make({**FIRST, "q8": b"other q8"})
    hub.clear()
    hub.fault("fail", COMMIT, status=503, retry_after="3600", times=9)
    assert "it asks to wait for 3600 s" in publish("--push", code=69)
    assert len(hub.requests(COMMIT)) == 1


def test_a_repository_that_was_renamed_is_published_by_either_name(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    new = f"{publish.repository}-new"
    hub.api.move_repo(publish.repository, new)
    publish.build.make({**FIRST, "q8": b"q8 of a renamed one"})
    hub.clear()
    publish("--push")
    assert hub.tree(new) == publish.expected
    assert len(hub.history(new)) == 2
    assert not hub.requests("/repos/create")
    assert command.run(main, ["--check", publish.repository]) == 0
    publish.repository = new
    publish("--push")
    assert hub.tree(new) == publish.expected


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_is_neither_missing_nor_a_bad_token(
    hub: LocalHub, publish: Publisher, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    publish("--push")
    monkeypatch.delenv("HF_TOKEN")
    for path in ("/resolve/", "/revision/"):
        hub.fault("fail", path, status=status, error_code="GatedRepo", times=20)
        assert command.run(main, ["--check", publish.repository]) == 3
        assert "the Hub asks to accept the repository's terms, or for a token" in capfd.readouterr().err
    assert "accept the repository's terms" in publish(code=3)


def test_a_download_that_is_tried_again_is_of_the_same_commit(
    hub: LocalHub, publish: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    publish("--push")
    hub.fault("interpose", "/tree/")
    hub.fault("fail", "/resolve/.*README.md", times=2)
    assert command.run(main, ["--check", publish.repository]) == 0
    said = capfd.readouterr().err
    assert "trying again" in said
    assert "provenance: holds" in said
    assert len(hub.history(publish.repository)) == 2


def test_large_files_go_by_lfs_and_nothing_is_sent_that_nobody_asked_for(
    hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where hf-xet is installed the client would use Xet alone; and it fetches a list of programs that drive it."""
    assert importlib.util.find_spec("hf_xet")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(huggingface_hub.constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)  # it is asked for once in a process
    hub.clear()
    publish.build.make({**FIRST, "q8": b"by LFS"})
    publish("--push")
    assert hub.requests("^PUT /storage/")
    assert not hub.requests("xet-|agent-harnesses|telemetry")
    assert hub.tree(publish.repository) == publish.expected


def test_a_hub_that_makes_a_private_repository_public_gets_nothing(
    hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that does not know the word by which a client asks for it."""
    path = publish.build.home / "small.toml"
    path.write_text(path.read_text().replace("[publish]\n", "[publish]\nprivate = true\n"))
    create = HfApi.create_repo

    def public(api: HfApi, repository: str, **options: Any) -> object:
        return create(api, repository, **{**options, "private": False})

    monkeypatch.setattr(HfApi, "create_repo", public)
    hub.clear()
    assert "the recipe says private, the repository is public" in publish("--push", code=3)
    assert hub.requests("/repos/create")
    assert not hub.requests("PUT|preupload|commit/|objects/batch")
