"""Install the pinned libraries into an environment, by uv: `python -m pipeline.install [GROUP...]`.

Into the environment that runs this go what the project needs and the named groups of pyproject.toml; `--into DIR FILE`
installs what a file lists into another one. uv takes half a minute where pip takes three: the one on the path, else a
pinned one that pip brings in. Where there is none for this machine, pip itself installs. uv is told pip's settings,
because it reads none of them. On Linux torch comes without CUDA where such a build can be had (2 GB of libraries less).
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
SETUP = "setup"  # the group that holds uv itself
BACKEND = "UV_TORCH_BACKEND"  # whoever sets it says which build of torch is wanted: cpu, cu130, auto
# pip's settings, by the option of uv that means the same; each may hold several values.
OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}


def requirements(table: Mapping[str, Any], groups: Sequence[str]) -> list[str]:
    """Return what a pyproject.toml names for the project itself and for these groups."""
    return [
        *table["project"]["dependencies"],
        *(entry for name in groups for entry in table["dependency-groups"][name]),
    ]


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


def installer(uv: str | None, pip: Mapping[str, Sequence[str]], python: str = sys.executable) -> list[str]:
    """Return the command that installs into the environment of `python`, up to what it is to install."""
    if uv is None:
        return [python, *PIP[1:], "install", "--progress-bar", "off"]
    return [uv, "pip", "install", "--python", python, *options(pip)]


def without_cuda(command: Sequence[str], wanted: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Return the options with which uv's `command` installs a torch without CUDA; a line on stderr if there is none.

    None are needed where whoever runs this has chosen a build, where only one exists, and where an index or a directory
    that is configured has a build for CPU: uv prefers it.
    """
    torch = [name for name in wanted if name.startswith("torch==")]
    if not torch or sys.platform != "linux" or BACKEND in environment:
        return []
    for name, more in ((f"{torch[0]}+cpu", []), (torch[0], ["--torch-backend", "cpu"])):
        # Without --reinstall a torch that is there would do, whether or not its index answers.
        trial = [*command, "--dry-run", "--quiet", "--no-deps", "--reinstall", *more, name]
        quick = {**environment, "UV_HTTP_RETRIES": "0"}
        if subprocess.run(trial, env=quick, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return more
    say("no torch without CUDA can be had from here: the registry's build is installed (some GB)")
    return []


def find_uv(wanted: Sequence[str]) -> str | None:
    """Return uv's path: the one on the path, else one that pip installs beside this Python; None if there is none."""
    there = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if there is None and subprocess.run([*PIP, "install", "--quiet", *wanted], check=False).returncode == 0:
        there = shutil.which("uv", path=str(Path(sys.executable).parent))
    return there


def main(arguments: Sequence[str]) -> int:
    """Run the installer; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.install", description="Install the pinned libraries.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="of pyproject.toml, beside the project's own")
    parser.add_argument("--into", nargs=2, metavar=("DIR", "FILE"), help="another environment, and what it is to have")
    chosen = parser.parse_args(arguments)
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    unknown = [name for name in chosen.groups if name not in table["dependency-groups"]]
    if unknown:
        parser.error(f"no group {unknown[0]!r} in pyproject.toml: name one of {', '.join(table['dependency-groups'])}")
    if chosen.into:
        python, listed = str(Path(chosen.into[0]) / "bin" / "python"), Path(chosen.into[1])
        return _install(table, listed.read_text(encoding="utf-8").splitlines(), python, pinned=True)
    return _install(table, requirements(table, chosen.groups), sys.executable)


def _install(table: Mapping[str, Any], wanted: Sequence[str], python: str, *, pinned: bool = False) -> int:
    uv = find_uv(table["dependency-groups"][SETUP])
    if uv is None:
        say("uv cannot be installed here, so pip installs: that takes some minutes")
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    pip = settings(listed)
    environment = dict(os.environ)
    if "cert" in pip:
        environment.setdefault("SSL_CERT_FILE", pip["cert"][0])
    command = installer(uv, pip, python)
    if uv is not None:
        command += without_cuda(command, wanted, environment)
    with tempfile.TemporaryDirectory() as scratch:
        names = Path(scratch) / "requirements.txt"
        names.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        command += ["-r", str(names), *([] if pinned else ["-c", str(CONSTRAINTS)])]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
