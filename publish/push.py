"""The publication itself: upload, one commit, read back, compare, and only then a tag.

Whatever is interrupted leaves main as it was or as it was to be: the commit is one step of the Hub's, and everything
before it is invisible. The next run finds out which by comparing trees, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.command import say
from pipeline.errors import ArtifactError, InputError
from publish import hub, plan
from publish.hub import Head, Hub
from publish.hub_errors import MovedError, UnreachableError
from publish.plan import Changes, LocalFile
from publish.tree import changed


@dataclass(frozen=True)
class Publication:
    """State what goes where: files by path, the repository, the tag that will name them, and the commit's words."""

    files: Mapping[str, LocalFile]
    repository: str
    private: bool
    tag: str
    title: str


def planned(order: Publication, head: Head | None) -> Changes:
    """The plan against a head (None: no repository yet); InputError if it is public or holds what it must not."""
    if order.private and head is not None and not head.private:
        hint = "make it private in its settings on the Hub, or write private = false if everybody may read it"
        raise InputError("the recipe says private, the repository is public", where=order.repository, hint=hint)
    made = plan.make(order.files, head.files if head else {})
    if made.foreign:
        hint = "move it elsewhere; a published repository holds only what was verified"
        raise InputError(f"a file is unknown: {', '.join(made.foreign)}", where=order.repository, hint=hint)
    return made


def push(api: Hub, order: Publication) -> str:
    """Publish on main; the commit. Plans again once when somebody else commits in between (else MovedError)."""
    if api.head(order.repository) is None:
        say(f"creating {order.repository}")
        api.create(order.repository, private=order.private)
    try:
        commit = _attempt(api, order)
    except MovedError as error:
        say(f"{error.what}; planning again")
        commit = _attempt(api, order)
    _compare(api, order, commit)
    _tag(api, order, commit)
    return commit


def propose(api: Hub, order: Publication) -> str:
    """Open a pull request with the same tree, or find an open one; refs/pr/N, or main's commit if it has it."""
    head = _head(api, order)
    made = planned(order, head)
    if made.empty:
        say("nothing to propose: main is what would be published")
        return head.commit
    operations = _upload(api, order, made)

    def once() -> str:
        for revision in api.proposals(order.repository, order.title):
            found = api.head(order.repository, revision)
            if found is not None and planned(order, found).empty:
                say(f"{revision} is open already")
                return revision
        return api.commit(order.repository, operations, head.commit, order.title, pull_request=True)

    revision = api.retrying((UnreachableError,))(once)
    _compare(api, order, revision)
    return revision


def _attempt(api: Hub, order: Publication) -> str:
    """Plan against the head of now and commit; the commit that holds the tree."""
    head = _head(api, order)
    made = planned(order, head)
    if made.empty:
        say("unchanged: main is what would be published")
        return head.commit
    operations = _upload(api, order, made)

    def once() -> str:
        try:
            return api.commit(order.repository, operations, head.commit, order.title)
        except UnreachableError as error:
            # It may have been applied. The trees tell: repeating blindly could undo what somebody did since.
            now = _head(api, order)
            if planned(order, now).empty:
                say(f"{error.what}; but the commit was made")
                return now.commit
            if now.commit != head.commit:
                raise MovedError.at(order.repository) from error
            raise

    return api.retrying((UnreachableError,))(once)


def _upload(api: Hub, order: Publication, made: Changes) -> list[Any]:
    """Send what is large; the commit's operations."""
    paths = (*made.add, *made.replace)
    say(f"uploading {len(paths)} files, {plan.size(order.files, paths):,} bytes")
    additions = [hub.add(path, order.files[path].place) for path in paths]
    for addition in additions:
        file = order.files[addition.path_in_repo]
        if addition.upload_info.sha256.hex() != file.sha256:
            raise changed(file.place)
    api.upload(order.repository, additions)
    return [*additions, *(hub.delete(path) for path in made.delete)]


def _compare(api: Hub, order: Publication, revision: str) -> None:
    """ArtifactError unless the Hub now has, at this revision, exactly the files that were verified."""
    found = api.head(order.repository, revision)
    made = planned(order, found)
    if found is None or not made.empty:
        wrong = ", ".join((*made.add, *made.replace, *made.delete))
        hint = "nothing was tagged; run it again, which replaces what is wrong"
        where = f"{order.repository}@{revision}"
        raise ArtifactError(f"what the Hub has is not what was sent: {wrong}", where=where, hint=hint)
    say(f"read back: {len(made.unchanged)} files as verified")


def _tag(api: Hub, order: Publication, commit: str) -> None:
    api.tag(order.repository, order.tag, commit)
    named = api.tags(order.repository).get(order.tag)
    if named is None:
        raise ArtifactError(
            f"the Hub has no tag {order.tag}",
            where=order.repository,
            hint="run it again: it sets the tag if nothing else is to do",
        )
    if named != commit and not planned(order, api.head(order.repository, named)).empty:
        what = f"the tag {order.tag} names another tree, at {named}"
        hint = "main is published and as verified; look who set the tag, delete it, and run it again"
        raise ArtifactError(what, where=order.repository, hint=hint)
    say(f"tag: {order.tag}")


def _head(api: Hub, order: Publication) -> Head:
    head = api.head(order.repository)
    if head is None:
        hint = "publish it with --push first; if it is private, use a token that may see it"
        raise InputError("no such repository", where=order.repository, hint=hint)
    return head
