"""Publishing to a local Hub with the real client over HTTP: what changes, what does not, and what goes wrong."""

from __future__ import annotations

import resource
import signal

import pytest

from publish.hub import Hub
from tests.hub.access import EXPIRED, READ, WRITE
from tests.support import rehearsing
from tests.support.local_hub import LocalHub
from tests.support.rehearsing import FIRST, Publisher

server, hub, publish = rehearsing.server, rehearsing.hub, rehearsing.publish
COMMIT = "/commit/"


def published(hub: LocalHub, publish: Publisher, commits: int) -> None:
    """Main is exactly the assembled tree, after this many commits, and its tag names it."""
    assert hub.tree(publish.repository) == publish.expected
    history = hub.history(publish.repository)
    assert len(history) == commits
    assert history[0] in hub.tags(publish.repository).values()


def test_dry_run_shows_the_plan_and_sends_nothing(hub: LocalHub, publish: Publisher) -> None:
    said = publish()
    assert "a new repository" in said
    assert "onnx/model_q4.onnx" in said
    assert "nothing was sent" in said
    assert not hub.requests("^(POST|PUT|DELETE)")


@pytest.mark.usefixtures("hub")
def test_dry_run_needs_no_token(publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert "a new repository" in publish()
    monkeypatch.setenv("HF_TOKEN", EXPIRED)
    assert "invalid or has expired" in publish(code=3)


def test_first_publication_then_nothing_to_do(hub: LocalHub, publish: Publisher) -> None:
    said = publish("--push")
    published(hub, publish, 1)
    assert said.splitlines()[-1] == f"{publish.repository}@{hub.history(publish.repository)[0]}"
    hub.clear()
    assert "unchanged: main is what would be published" in publish("--push")
    published(hub, publish, 1)
    assert not hub.requests("PUT|commit/")


def test_changed_variant_sends_only_what_changed(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    hub.clear()
    publish.build.make({**FIRST, "q8": b"nowhere else"})
    publish("--push")
    published(hub, publish, 2)
    assert len(hub.requests("^PUT")) == 1
    assert len(hub.tags(publish.repository)) == 2


def test_removed_variant_is_deleted(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    publish.build.make({"fp32": FIRST["fp32"], "q4": FIRST["q4"]})
    said = publish()
    assert "1 delete" in said
    publish("--push")
    published(hub, publish, 2)
    assert "onnx/model_quantized.onnx" not in hub.tree(publish.repository)


def test_pull_request_holds_the_tree_and_is_opened_once(hub: LocalHub, publish: Publisher) -> None:
    assert "no such repository" in publish("--pr", code=3)
    publish("--push")
    before = hub.tree(publish.repository)
    publish.build.make({**FIRST, "q8": b"other q8"})
    assert publish("--pr").endswith("@refs/pr/1\n")
    assert publish("--pr").endswith("@refs/pr/1\n")
    assert hub.tree(publish.repository) == before
    assert hub.tree(publish.repository, "refs/pr/1") == publish.expected
    hub.api.merge_pull_request(publish.repository, 1)
    assert "nothing to propose" in publish("--pr")


def test_concurrent_commit_is_planned_again_once(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    publish.build.make({**FIRST, "q8": b"other q8"})
    hub.fault("interpose", COMMIT)
    assert "planning again" in publish("--push")
    published(hub, publish, 3)
    publish.build.make({**FIRST, "q8": b"a third"})
    before = hub.tree(publish.repository)
    hub.fault("interpose", COMMIT, times=2)
    assert "somebody else has committed" in publish("--push", code=3)
    assert {**hub.tree(publish.repository), "README.md": 0} == {**before, "README.md": 0}


def test_file_of_somebody_else_is_never_deleted(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    publish.build.make({**FIRST, "q8": b"other q8"})
    hub.fault("interpose", COMMIT, file="notes.txt")
    assert "a file is unknown: notes.txt" in publish("--push", code=3)
    assert "notes.txt" in hub.tree(publish.repository)


@pytest.mark.parametrize("kind", ["drop", "cut", "fail"])
@pytest.mark.parametrize("path", [COMMIT, "/tag/", "/repos/create", "/preupload/", "/revision/", "/objects/batch"])
def test_lost_request_or_answer_publishes_once(hub: LocalHub, publish: Publisher, kind: str, path: str) -> None:
    hub.fault(kind, path)
    said = publish("--push")
    published(hub, publish, 1)
    assert ("but the commit was made" in said) == (kind == "drop" and path == COMMIT)


def test_lost_answer_to_a_pull_request_opens_one(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    publish.build.make({**FIRST, "q8": b"other q8"})
    hub.fault("drop", COMMIT)
    publish("--pr")
    assert len(list(hub.api.get_repo_discussions(publish.repository))) == 1


def test_hub_that_stays_away(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    before, plan = hub.tree(publish.repository), "the Hub does not answer"
    publish.build.make({**FIRST, "q8": b"other q8"})
    hub.fault("fail", COMMIT, times=5)
    assert plan in publish("--push", code=69)
    assert hub.tree(publish.repository) == before
    publish("--push")
    published(hub, publish, 2)


@pytest.mark.parametrize("path", [COMMIT, "/revision/"])
def test_hub_that_never_answers(hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("publish.hub.PATIENCE", 0.5)
    hub.fault("slow", path, seconds=1.5)
    assert "the Hub does not answer" in publish("--push")
    published(hub, publish, 1)


def test_upload_that_arrives_damaged_is_sent_again(hub: LocalHub, publish: Publisher) -> None:
    publish.build.make({**FIRST, "q8": b"damaged twice"})
    hub.fault("corrupt", method="PUT", times=2)
    assert "trying again" in publish("--push")
    published(hub, publish, 1)
    publish.build.make({**FIRST, "q8": b"damaged always"})
    before = hub.tree(publish.repository)
    hub.fault("corrupt", method="PUT", times=5)
    assert "did not arrive as it was sent" in publish("--push", code=3)
    assert hub.tree(publish.repository) == before


def test_what_arrives_damaged_in_the_commit_is_not_tagged(hub: LocalHub, publish: Publisher) -> None:
    hub.fault("corrupt", COMMIT)
    said = publish("--push", code=3)
    assert "what the Hub has is not what was sent: README.md" in said
    assert hub.tags(publish.repository) == {}
    publish("--push")
    published(hub, publish, 2)


def test_full_disk_of_the_hub(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    before = hub.tree(publish.repository)
    publish.build.make({**FIRST, "q8": b"large" * 1000})
    hub.quota(4000)
    assert "Storage limit reached" in publish("--push", code=3)
    assert hub.tree(publish.repository) == before


def test_full_disk_here(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    before = hub.tree(publish.repository)
    kept = publish.expected
    publish.build.make({**FIRST, "q8": b"large" * 1000})
    hub.clear()
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4500, previous[1]))
        said = publish("--push", code=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "File too large" in said
    assert not hub.requests("^(POST|PUT)")
    assert hub.tree(publish.repository) == before
    assert publish.expected == kept, "the tree of before is still whole"


@pytest.mark.parametrize(
    ("token", "words"),
    [(EXPIRED, "invalid or has expired"), (READ, "no write access"), (None, "no token"), ("hf_unknown0000", "invalid")],
)
def test_token_that_may_not_publish(
    hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch, token: str | None, words: str
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    assert words in publish("--push", code=3)
    assert not hub.requests("PUT|commit/")


def test_token_that_expires_on_the_way(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    before = hub.tree(publish.repository)
    publish.build.make({**FIRST, "q8": b"other q8"})
    hub.fault("fail", COMMIT, status=401)
    assert "invalid or has expired" in publish("--push", code=3)
    assert hub.tree(publish.repository) == before


def test_token_in_an_answer_is_not_passed_on(hub: LocalHub, publish: Publisher) -> None:
    hub.fault("fail", "/repos/create", status=400, message=f"bad token {WRITE}")
    assert "bad token [token]" in publish("--push", code=3)


def test_token_in_the_tree_is_refused(hub: LocalHub, publish: Publisher) -> None:
    publish.build.make(FIRST, {"config.json": f'{{"x": "{WRITE}"}}'.encode()})
    said = publish("--push", code=3)
    assert "a Hugging Face token is in the file, at byte 7" in said
    assert not hub.requests("^(POST|PUT)")
    publish.build.make(FIRST)  # the fixture looks for tokens on disk


def test_network_is_not_left_out_silently(hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.clear()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "add --offline" in publish(code=69)
    assert "the Hub was not asked" in publish("--offline")
    assert hub.requests() == []


@pytest.mark.parametrize("status", [425, 500, 507, 520, 524])
def test_every_fault_of_the_server_is_the_networks(hub: LocalHub, publish: Publisher, status: int) -> None:
    hub.fault("fail", COMMIT, status=status)
    assert "trying again" in publish("--push")
    published(hub, publish, 1)
    hub.fault("fail", "/revision/", status=status, times=5)
    assert "the Hub does not answer" in publish("--push", code=69)


def test_what_is_to_be_private_is_not_sent_where_everybody_reads(hub: LocalHub, publish: Publisher) -> None:
    hub.api.create_repo(publish.repository, private=False)
    path = publish.build.home / "small.toml"
    path.write_text(path.read_text().replace("[publish]\n", "[publish]\nprivate = true\n"))
    before = hub.tree(publish.repository)
    hub.clear()
    for words in ((), ("--push",), ("--pr",)):
        assert "the recipe says private, the repository is public" in publish(*words, code=3)
    assert not hub.requests("PUT|commit/")
    assert hub.tree(publish.repository) == before
    publish.repository += "-private"
    publish("--push")
    assert hub.api.model_info(publish.repository).private is True
    published(hub, publish, 1)


def test_a_name_of_somebody_else_is_no_markup(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    hub.api.upload_file(path_or_fileobj=b"x", path_in_repo="LICENSE[red]", repo_id=publish.repository)
    assert "LICENSE[red]" in publish()


def test_a_tag_that_names_another_tree_is_said(hub: LocalHub, publish: Publisher) -> None:
    publish("--push")
    other = f"{publish.repository}-other"
    tagged = Hub.tag

    def squatted(api: Hub, repository: str, name: str, commit: str) -> None:
        first = hub.api.list_repo_commits(repository)[-1].commit_id
        tagged(api, repository, name, first)
        tagged(api, repository, name, commit)

    publish.repository = other
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hub, "tag", squatted)
        assert "names another tree" in publish("--push", code=3)
    assert hub.tree(other) == publish.expected


def test_the_password_of_an_address_is_not_shown(publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://somebody:s3cret@127.0.0.1:9")
    said = publish(code=69) + publish("--offline")
    assert "http://127.0.0.1:9" in said
    assert "s3cret" not in said
