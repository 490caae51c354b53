"""Peers' files, made from the source once and kept below build/<name>/benchmarks/peers."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarks.engine import Site, installed
from benchmarks.remote import Remote, RemoteError
from pipeline import plugins
from pipeline.artifact.manifest import Manifest
from pipeline.artifact.store import seal, staging, up_to_date
from pipeline.canonical import digest, file_digest
from pipeline.command import say
from pipeline.errors import InputError

TIMEOUT_S = 1800.0


def prepared(site: Site, engine: str, name: str) -> Path:
    """Return the directory of an engine's files in one configuration, made again when source, code or tools changed.

    `benchmarks/engines/<engine>/prepare.py` makes them, in a process of its own; its `BASE` is the configuration that
    the others are made from, its `TOOLS` the distributions that decide the result. Where it has them, `elsewhere()`
    tells the versions of those in another environment, and `PROGRAMS` the files that it runs there.
    InputError when it fails.
    """
    maker = importlib.import_module(f"benchmarks.engines.{engine}.prepare")
    base = prepared(site, engine, maker.BASE) if maker.BASE not in (None, name) else site.source
    programs = (Path(str(maker.__file__)), *getattr(maker, "PROGRAMS", ()))
    target = site.directory / "peers" / f"{engine}-{name}"
    wanted = Manifest(
        kind="peer",
        name=site.home.name,
        variant=f"{engine}-{name}",
        source={},
        recipe=digest([engine, name]),
        code=digest([file_digest(path) for path in (*programs, *_written_for_peers())]),
        parents={"source": site.digest},
        tools={**{tool: installed(tool) or "absent" for tool in maker.TOOLS}, **getattr(maker, "elsewhere", dict)()},
    )
    if up_to_date(target, wanted) is None:
        say(f"{engine} {name}: preparing")
        log = site.directory / "logs" / f"prepare-{engine}-{name}.txt"
        with staging(target) as staged, Remote(log, Maker, engine) as remote:
            try:
                remote.call("make", name, site.source, base, staged, timeout_s=TIMEOUT_S)
            except RemoteError as error:
                hint = f"see {log}"
                raise InputError(f"cannot be prepared: {error}", where=f"{engine} {name}", hint=hint) from error
            seal(staged, target, wanted)
    return target


def _written_for_peers() -> list[Path]:
    """List what architectures say of peers' files."""
    folders = (plugins.ROOT / plugins.ARCHITECTURES, *plugins.elsewhere(plugins.ARCHITECTURES))
    return [path for folder in folders for path in sorted(folder.glob("*/gguf.py"))]


class Maker:
    """Call an engine's module `prepare` in the process that it lives in."""

    def __init__(self, engine: str) -> None:
        self._module = importlib.import_module(f"benchmarks.engines.{engine}.prepare")

    def make(self, name: str, source: Path, base: Path, target: Path) -> None:
        """Write the files of a configuration into the empty directory `target`."""
        self._module.make(name, source, base, target)
