"""Test what a network can do to a question or a download, by the real client: it is said, in time, and asked once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils._xet import abort_xet_session

from convert import hub as convert_hub
from convert.hub import describe, download, resolve
from model import hub_client
from pipeline.errors import InputError, RecipeError, UnavailableError
from tests.support.loopback_hub import FIRST, REPOSITORY, Hub, serving

FILES = {"config.json": b"{}", "README.md": b"---\nlicense: mit\n---\n", "model.safetensors": b"weights " * 4000}
PATTERNS = ["*.json", "*.md", "*.safetensors"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that this process's client talks to, as if it had never asked one before."""
    with serving(FILES) as server:
        for name, value in {
            "ENDPOINT": server.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": False,
            "HF_HUB_DISABLE_XET": False,
            "HF_HUB_OFFLINE": False,
            "AGENT_HARNESSES_PATH": str(tmp_path / "harnesses.json"),
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)  # it is asked for once in a process
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
    hub_client.use(convert_hub.PATIENCE)


def asked(hub: Hub, part: str) -> int:
    return sum(part in request for request in hub.requests)


@pytest.mark.parametrize("kind", ["none", "cut", "garbage", "page", "packed", "silent"])
def test_what_is_no_answer_may_be_better_next_time(hub: Hub, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("convert.hub.PATIENCE", 0.5)
    hub.faults["answer"] = kind
    with pytest.raises(UnavailableError):
        resolve(REPOSITORY, "release")
    assert len(hub.requests) == 1


@pytest.mark.parametrize("kind", ["none", "cut", "garbage", "page", "silent"])
def test_a_listing_that_does_not_come_is_asked_for_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """The client's own loop would ask six times, and wait for ever for one that never comes."""
    monkeypatch.setattr("convert.hub.PATIENCE", 0.5)
    hub.faults["tree"] = kind
    with pytest.raises(UnavailableError, match="download failed"):
        download(REPOSITORY, FIRST, PATTERNS, tmp_path / "files")
    assert asked(hub, "/tree/") == 1


def test_nobody_listens_or_speaks_tls(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("http://127.0.0.1:9", hub.address.replace("http:", "https:"), "http://hub.invalid"):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        with pytest.raises(UnavailableError, match="cannot be reached \\(ConnectError\\)"):
            resolve(REPOSITORY, "release")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:none")
    with pytest.raises(InputError):
        resolve(REPOSITORY, "release")


@pytest.mark.parametrize(("headers", "seconds"), [({"Retry-After": "7"}, 7), ({"RateLimit": '"api";r=0;t=55'}, 55)])
def test_a_hub_that_asks_to_wait_is_not_asked_again(hub: Hub, headers: dict[str, str], seconds: int) -> None:
    hub.faults["api"], hub.fault_headers = "429", headers
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=f"429.*; it asks to wait for {seconds} s"):
        describe(REPOSITORY, "release")
    assert len(hub.requests) == 1
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("status", "error"), [("503", UnavailableError), ("429", UnavailableError), ("403", InputError)]
)
def test_a_listing_that_is_refused_is_asked_for_once(
    hub: Hub, tmp_path: Path, status: str, error: type[Exception]
) -> None:
    hub.faults["tree"] = status
    with pytest.raises(error, match=f"download failed: the Hub refused: .*{status}"):
        download(REPOSITORY, FIRST, PATTERNS, tmp_path / "files")
    assert asked(hub, "/tree/") == 1


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_gated_repository_says_what_it_wants(hub: Hub, tmp_path: Path, status: str) -> None:
    hub.faults["api"], hub.fault_headers = status, {"X-Error-Code": "GatedRepo"}
    for ask in (
        lambda: resolve(REPOSITORY, "release"),
        lambda: download(REPOSITORY, FIRST, PATTERNS, tmp_path / "files"),
    ):
        with pytest.raises(InputError, match="accept the repository's terms, or for a token"):
            ask()


def test_a_repository_that_was_renamed_is_found_by_its_old_name(hub: Hub, tmp_path: Path) -> None:
    hub.moved["someone/old"] = REPOSITORY
    hub.repositories["someone/old"] = hub.repositories[REPOSITORY]
    assert resolve("someone/old", "release") == FIRST
    download("someone/old", FIRST, PATTERNS, tmp_path / "files")
    assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == FILES


def test_nothing_is_asked_for_but_the_files(hub: Hub, tmp_path: Path) -> None:
    describe(REPOSITORY, "release")
    download(REPOSITORY, FIRST, PATTERNS, tmp_path / "files")
    assert not [request for request in hub.requests if REPOSITORY not in request]
    assert not [agent for agent in hub.agents if "torch/" in agent or "agent/" in agent]


@pytest.mark.parametrize("storage", ["", "http://127.0.0.1:9", "of the Hub's own"])
def test_a_download_by_xet_that_fails_is_the_networks(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, storage: str
) -> None:
    """Where hf-xet is installed, a file that the Hub has by Xet comes by Xet, and in no other way."""
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "1")  # hf-xet's own five tries take 90 s
    abort_xet_session()  # it reads them when it begins
    hub.faults["xet"] = hub.address if storage == "of the Hub's own" else storage
    with pytest.raises(UnavailableError, match="download failed"):
        download(REPOSITORY, FIRST, PATTERNS, tmp_path / "files")
    assert asked(hub, "/xet-read-token/") >= 1
    assert not asked(hub, "GET /someone/tiny/resolve/" + FIRST + "/model.safetensors")
    assert not asked(hub, "telemetry")


def test_the_client_is_switched_off(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        resolve(REPOSITORY, "release")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        download(REPOSITORY, FIRST, PATTERNS, tmp_path / "files")
    assert hub.requests == []


def test_certificates_that_are_not_there_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub.close_session()
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(RecipeError, match="SSL_CERT_FILE"):
        resolve(REPOSITORY, "release")


def test_an_answer_says_how_long_to_wait() -> None:
    seconds = hub_client.seconds_asked
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert seconds({"retry-after": "12"}) == 12
    assert 90 < (seconds({"retry-after": later}) or 0) <= 100
    assert seconds({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert seconds({"retry-after": "soon"}) is seconds({}) is seconds({"ratelimit": '"api";r=3;t=55'}) is None
