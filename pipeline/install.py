"""Install what pyproject.toml names into the environment that runs this: `python -m pipeline.install [GROUP...]`.

By uv, which takes half a minute where pip takes three: the one on the path, else a pinned one that pip brings in. Where
there is none for this machine, pip itself installs. uv is told pip's settings, because it reads none of them.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.command import say
from pipeline.plugins import ROOT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
CONSTRAINTS = ROOT / "constraints.txt"
SETUP, LATER = "setup", ("peers",)  # the group that holds uv itself, and what is installed by its own target only
# pip's settings, by the option of uv that means the same; each may hold several values.
OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}


def requirements(table: Mapping[str, Any], groups: Sequence[str]) -> list[str]:
    """Return what these groups of a pyproject.toml name; without a group the project's own and all but LATER."""
    known = table["dependency-groups"]
    own = [] if groups else table["project"]["dependencies"]
    return [*own, *(entry for name in groups or known if groups or name not in LATER for entry in known[name])]


def settings(listed: Iterable[str]) -> dict[str, list[str]]:
    """Read the lines of `pip config list`, such as "global.find-links='/wheels'", by option; the last file wins."""
    found = {}
    for line in listed:
        name, equals, value = line.partition("=")
        if equals:
            found[name.rpartition(".")[2]] = str(ast.literal_eval(value)).split()
    return found


def options(pip: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield pip's settings as uv's options; of several indexes pip takes the best version of any, and so does uv."""
    for name, option in OPTIONS.items():
        for value in pip.get(name, ()):
            yield from (option, value)
    if pip.get("no-index", ["false"])[0].lower() in {"1", "true", "yes", "on"}:
        yield "--no-index"
    if "extra-index-url" in pip:
        yield from ("--index-strategy", "unsafe-best-match")


def installer(uv: str | None, pip: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the command that installs, up to what it is to install."""
    if uv is None:
        return [*PIP, "install", "--progress-bar", "off"]
    return [uv, "pip", "install", "--python", sys.executable, *options(pip)]


def find_uv(wanted: Sequence[str]) -> str | None:
    """Return uv's path: the one on the path, else one that pip installs beside this Python; None if there is none."""
    there = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if there is None and subprocess.run([*PIP, "install", "--quiet", *wanted], check=False).returncode == 0:
        there = shutil.which("uv", path=str(Path(sys.executable).parent))
    return there


def main(arguments: Sequence[str]) -> int:
    """Run the installer; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.install", description="Install the pinned libraries.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="of pyproject.toml (all but the peers)")
    groups = parser.parse_args(arguments).groups
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    unknown = [name for name in groups if name not in table["dependency-groups"]]
    if unknown:
        parser.error(f"no group {unknown[0]!r} in pyproject.toml: name one of {', '.join(table['dependency-groups'])}")
    uv = find_uv(table["dependency-groups"][SETUP])
    if uv is None:
        say("uv cannot be installed here, so pip installs: that takes some minutes")
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    pip = settings(listed)
    environment = dict(os.environ)
    if "cert" in pip:
        environment.setdefault("SSL_CERT_FILE", pip["cert"][0])
    with tempfile.TemporaryDirectory() as scratch:
        names = Path(scratch) / "requirements.txt"
        names.write_text("\n".join(requirements(table, groups)) + "\n", encoding="utf-8")
        command = [*installer(uv, pip), "-r", str(names), "-c", str(CONSTRAINTS)]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
