"""python -m tests.advisories DIR: which pinned Python packages have published advisories, without a network.

DIR holds advisories in OSV's form, one JSON file each, as OSV's archive of the ecosystem PyPI unpacks. stdout has a
line for each finding. Exit code 0: none, 1: some, 3: there is nothing to audit with. Node's packages are not in it:
`npm audit` asks the registry.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pipeline import command
from pipeline.command import say
from pipeline.errors import CHECK_FAILED, PASSED, InputError
from pipeline.plugins import ROOT

PINNED = (
    ROOT / "constraints.txt",
    ROOT / "verify" / "runtimes" / "optimum" / "requirements.txt",
)  # what is installed; torch, which is not in the first, in the second
HINT = "unpack OSV's archive of advisories for PyPI, and name its directory: make advisories DATA=DIR"


def main(argv: Sequence[str] | None) -> int:
    """Compare, and print what is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.advisories", description="Audit the pinned packages.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="advisories in OSV's form, a JSON file each")
    directory = parser.parse_args(argv).directory
    files = sorted(directory.rglob("*.json")) if directory.is_dir() else []
    if not files:
        raise InputError("no advisories: nothing was audited", where=directory, hint=HINT)
    advisories = [_read(path) for path in files]
    found = list(findings(pinned(), advisories))
    newest = max(str(advisory.get("modified", "")) for advisory in advisories)
    say(f"audited by {len(files)} advisories, the newest of {newest[:10] or 'no stated day'}")
    print("".join(f"{line}\n" for line in found), end="")
    return CHECK_FAILED if found else PASSED


def pinned(files: Sequence[Path] = PINNED) -> dict[str, set[Version]]:
    """Return the versions by normalized name; a package may have several, by Python's version or environment."""
    versions: dict[str, set[Version]] = {}
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.partition("#")[0].strip()
            if text:
                requirement = Requirement(text)
                (exact,) = requirement.specifier
                versions.setdefault(canonicalize_name(requirement.name), set()).add(Version(exact.version))
    return versions


def findings(versions: Mapping[str, set[Version]], advisories: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each pinned version that an advisory says is affected and that is not withdrawn."""
    for advisory in advisories:
        if "withdrawn" in advisory:
            continue
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            if package.get("ecosystem") != "PyPI":
                continue
            for version in sorted(versions.get(name, ())):
                if _affects(affected, version):
                    words = re.sub(r"\s+", " ", str(advisory.get("summary") or "no summary"))
                    yield f"{name} {version}: {advisory.get('id', 'no id')}: {words}"


def _affects(affected: Mapping[str, Any], version: Version) -> bool:
    """As OSV's schema says: listed by name, or within a range of ecosystem versions."""
    if str(version) in affected.get("versions", ()):
        return True
    ranges = (entry for entry in affected.get("ranges", ()) if entry.get("type") == "ECOSYSTEM")
    return any(_within(entry.get("events", ()), version) for entry in ranges)


def _within(events: Sequence[Mapping[str, str]], version: Version) -> bool:
    """Events in the order of their versions switch between affected and not."""
    inside = False
    for kind, at in sorted(_dated(events), key=lambda event: (event[1], event[0] != "introduced")):
        if kind == "introduced" and version >= at:
            inside = True
        if (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside


def _dated(events: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, Version]]:
    for event in events:
        for kind, text in event.items():
            try:
                yield kind, Version("0.dev0" if text == "0" else text)
            except InvalidVersion:
                say(f"WARNING: an advisory names {text!r}, which is no version of Python's: not compared")


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"no JSON: {error}", where=path, hint=HINT) from error
    if not isinstance(table, dict):
        raise InputError("no advisory: an object was expected", where=path, hint=HINT)
    return table


if __name__ == "__main__":
    sys.exit(command.run(main))
