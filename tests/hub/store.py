"""The content: repositories of commits as git has them (a tree each, parents, branches and tags), kept on disk.

Regular files are stored by git's blob id, large ones by SHA-256, in the tree as a git-lfs pointer's blob id.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline.canonical import canonical_json, read_json
from pipeline.errors import InputError
from pipeline.typed import build
from tests.hub.refusal import Refusal, no_repository, no_revision

MAIN = "refs/heads/main"
STATE = "state.json"


@dataclass(frozen=True)
class Entry:
    """A file of a tree: git's blob id, size in bytes of the content, and its SHA-256 if it is a large file."""

    blob: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Commit:
    """A commit: its tree in full, its parents' ids, who made it and why."""

    parents: tuple[str, ...]
    tree: Mapping[str, Entry]
    title: str
    description: str
    author: str
    date: str

    @property
    def oid(self) -> str:
        """40 hexadecimal digits, of everything in the commit."""
        return hashlib.sha1(canonical_json(asdict(self)), usedforsecurity=False).hexdigest()


@dataclass
class Discussion:
    """A discussion or pull request; a pull request's branch is refs/pr/<number>."""

    number: int
    title: str
    description: str
    author: str
    date: str
    pull_request: bool
    status: str = "open"
    merged_as: str | None = None


@dataclass
class Repository:
    """One model repository."""

    name: str  # OWNER/NAME
    private: bool
    refs: dict[str, str] = field(default_factory=dict)  # refs/heads/..., refs/tags/..., refs/pr/... -> commit
    commits: dict[str, Commit] = field(default_factory=dict)
    discussions: list[Discussion] = field(default_factory=list)
    former: list[str] = field(default_factory=list)  # names that it had before

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag, a full reference or a commit id names."""
        for reference in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if reference in self.refs:
                return self.refs[reference]
        if revision in self.commits:
            return revision
        raise no_revision(revision)

    def branch(self, revision: str) -> str:
        """The reference of a branch or pull request, which a commit can be added to."""
        reference = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        if reference not in self.refs or reference.startswith("refs/tags/"):
            raise no_revision(revision)
        return reference

    def tree(self, revision: str) -> Mapping[str, Entry]:
        """The files of a revision."""
        return self.commits[self.resolve(revision)].tree

    def add(self, reference: str, commit: Commit) -> str:
        """Put a commit on a branch; its id."""
        self.commits[commit.oid] = commit
        self.refs[reference] = commit.oid
        return commit.oid


class Store:
    """Every repository and object, below one directory; `save` makes a change of repositories durable."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("git", "lfs", "incoming"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        state = read_json(directory / STATE) if (directory / STATE).is_file() else []
        if not isinstance(state, list):
            raise InputError("not a rehearsal's state", where=directory / STATE, hint="name another directory")
        read = (build(Repository, table, where=str(directory / STATE), error=InputError) for table in state)
        self.repositories = {repository.name: repository for repository in read}

    def save(self) -> None:
        """Write what the repositories are now, whole or not at all."""
        text = json.dumps([asdict(repository) for repository in self.repositories.values()])
        new = self.directory / f"{STATE}.{secrets.token_hex(4)}"
        new.write_text(text, encoding="utf-8")
        new.replace(self.directory / STATE)

    def repository(self, name: str) -> Repository:
        """A repository by name; refused when there is none."""
        if name not in self.repositories:
            raise no_repository()
        return self.repositories[name]

    def keep(self, content: bytes) -> Entry:
        """Store a regular file's content."""
        blob = git_blob(content)
        (self.directory / "git" / blob).write_bytes(content)
        return Entry(blob, len(content))

    def large(self, sha256: str, size: int) -> Entry:
        """The entry of a large file; refused when it was never uploaded and verified."""
        path = self.large_path(sha256)
        if not path.is_file() or path.stat().st_size != size:
            raise Refusal(400, f"LFS pointer {sha256} points to a file that does not exist")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Entry(git_blob(pointer.encode()), size, sha256)

    def large_path(self, sha256: str) -> Path:
        """Where a verified large file is, or will be."""
        return self.directory / "lfs" / sha256

    def path(self, entry: Entry) -> Path:
        """Where the content of a tree's file is."""
        return self.large_path(entry.sha256) if entry.sha256 else self.directory / "git" / entry.blob


def git_blob(content: bytes) -> str:
    """The id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
